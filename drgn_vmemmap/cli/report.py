# SPDX-License-Identifier: LGPL-2.1-or-later

"""``report``: what HVO did to each folio, and what it saves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments, selection
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, INCOMPLETE, NAME, fail, warn_if_incomplete
from drgn_vmemmap.cli.result import style_for, write

if TYPE_CHECKING:
    import drgn

    from drgn_vmemmap.analysis.report import Report
    from drgn_vmemmap.analysis.samples import Sample

FORMATS = ("table", "json", "jsonl", "csv", "prometheus", "html")
"""The formats of a report; each has a module in ``output.report``."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folios", action="store_true", help="list each folio")
    selection.add_arguments(parser)
    arguments.add_format(parser, FORMATS)
    arguments.add_output(parser)
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.api import examine
    from drgn_vmemmap.output.report import View, render
    from drgn_vmemmap.progress import TerminalProgress

    selected = selection.selection(options)
    with TerminalProgress() as progress:
        report = examine(prog, selected, options.system_map, progress)
        if not (report.folios or report.incomplete):
            everything = examine(prog, system_map=options.system_map, progress=progress)
            reason = selection.unmatched(selected, everything)
            if reason is not None:
                return fail(CANNOT, reason)
    view = View(
        options.folios,
        samples=samples_for(options.format, prog, report),
        style=style_for(options.output),
    )
    text = render(report, options.format, view)
    write(text, options.output, page=options.folios and options.format == "table")
    if options.format == "csv":
        warn_if_incomplete(report)
    return INCOMPLETE if report.incomplete else DONE


def samples_for(format_name: str, prog: drgn.Program, report: Report) -> Sequence[Sample]:
    """The folios that a format draws, if it draws any."""
    from drgn_vmemmap.api import samples

    return samples(prog, report) if format_name == "html" else ()


COMMAND = Command(
    name="report",
    help="what HVO did to each HugeTLB folio, and what it saves (the default)",
    description="Per hstate and node: folios, optimized folios, freed frames and bytes saved.",
    examples=(
        f"{NAME} -c vmcore",
        f"{NAME} -c vmcore --folios",
        f"{NAME} -c vmcore report --pfn 0x2c00 --folios",
        f"{NAME} -c vmcore report --format csv -o FILE",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
