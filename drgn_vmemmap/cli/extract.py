# SPDX-License-Identifier: LGPL-2.1-or-later

"""``extract``: the smallest vmcore that gives the same report."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import DONE, INCOMPLETE, NAME, fail, say
from drgn_vmemmap.errors import printable

if TYPE_CHECKING:
    import drgn


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=arguments.nonempty,
        metavar="FILE",
        help="the vmcore to write; it must not exist",
    )
    parser.add_argument(
        "--compress", action="store_true", help="write a kdump-compressed file instead of ELF"
    )
    parser.add_argument(
        "--log", action="store_true", help="write the kernel's log too, for explain --dmesg"
    )
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.extract.recording import extract

    written = extract(prog, options.file, options.compress, options.system_map, options.log)
    for kind, size in written.taken.most_common():
        say(f"{size:>10} bytes of {kind}")
    for withheld in written.withheld:
        say(f"withheld: {withheld}")
    say(f"{os.path.getsize(options.file):>10} bytes written to {printable(options.file)}")
    return DONE if written.problem is None else fail(INCOMPLETE, written.problem)


COMMAND = Command(
    name="extract",
    help="write the smallest vmcore that gives the same report",
    description="Write a vmcore with what the report needs and nothing else: page tables, "
    "struct pages, hstates, sections, zones, symbols, types and variables. It holds no user data "
    "and no kernel command line, and the kernel's log only with --log. It is kept only if it gives "
    "the same report without debugging symbols. The extract of a running kernel records which "
    "errors and warnings were confirmed, and its report has no others.",
    examples=(
        f"{NAME} -c vmcore extract small.vmcore",
        f"{NAME} -c vmcore extract --compress small.vmcore",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
