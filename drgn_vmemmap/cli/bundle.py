# SPDX-License-Identifier: LGPL-2.1-or-later

"""``bundle``: this tool as one file, for machines that have only drgn."""

from __future__ import annotations

import argparse

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import DONE, NAME


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=arguments.nonempty, metavar="FILE")


def _run(options: argparse.Namespace, prog: None) -> int:
    from drgn_vmemmap.bundle import write_bundle
    from drgn_vmemmap.cli.inputs import keep_dump

    keep_dump(options.file)
    write_bundle(options.file)
    return DONE


COMMAND = Command(
    name="bundle",
    help="write this tool as one file, for machines that have only drgn",
    description="Write one executable file with this tool and tabulate, for machines that have "
    "only drgn: drgn -c vmcore FILE [COMMAND] [OPTIONS]. Optional libraries are not in it.",
    examples=(f"{NAME} bundle drgn_vmemmap", "drgn -c vmcore drgn_vmemmap verify"),
    add_arguments=_add_arguments,
    run=_run,
    needs_program=False,
)
