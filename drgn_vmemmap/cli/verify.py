# SPDX-License-Identifier: LGPL-2.1-or-later

"""``verify``: every rule, over all folios and all of the vmemmap."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import NAME, verification_code, warn_if_incomplete
from drgn_vmemmap.cli.report import FORMATS, samples_for
from drgn_vmemmap.cli.result import style_for, write

if TYPE_CHECKING:
    import drgn


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help="show all findings, not only the first ones"
    )
    arguments.add_format(parser, (*FORMATS, "ktap"))
    arguments.add_output(parser)
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.api import verify
    from drgn_vmemmap.output.report import View, render
    from drgn_vmemmap.progress import TerminalProgress

    with TerminalProgress() as progress:
        report = verify(prog, options.system_map, progress)
    view = View(
        folios=options.format not in ("table", "csv"),
        details=True,
        all_findings=options.all,
        samples=samples_for(options.format, prog, report),
        style=style_for(options.output),
    )
    write(render(report, options.format, view), options.output)
    if options.format == "csv":
        warn_if_incomplete(report)
    return verification_code(report)


COMMAND = Command(
    name="verify",
    help="check everything that HVO did, for example after a crash",
    description="Check every rule over all folios and all of the vmemmap. Each finding comes "
    "with its meaning, and each error with where to look and, except on lists, what should be "
    "there. In CSV, each finding is a row. The exit code is 1 if something is broken.",
    examples=(
        f"{NAME} -c vmcore verify",
        f"{NAME} -c vmcore verify --all",
        f"{NAME} -c vmcore verify --format prometheus -o FILE",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
