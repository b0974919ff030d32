# SPDX-License-Identifier: LGPL-2.1-or-later

"""The folios that a report is narrowed to, and what to say where there are none."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments

if TYPE_CHECKING:
    from drgn_vmemmap.analysis.report import Report, Selection


# As in hvo.verdict, which --help need not wait for.
_VERDICTS = ("optimized", "unoptimized", "partial", "inconsistent", "unreadable")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that narrow a report."""
    parser.add_argument("--hstate", metavar="NAME", help="only this size, such as hugepages-2048kB")
    parser.add_argument("--node", type=arguments.number, metavar="N", help="only this NUMA node")
    parser.add_argument(
        "--pfn", type=arguments.number, metavar="PFN", help="only the folio that contains this PFN"
    )
    parser.add_argument("--verdict", choices=_VERDICTS, help="only folios with this verdict")


def selection(options: argparse.Namespace) -> Selection:
    """The selection that these options make."""
    from drgn_vmemmap.analysis.report import Selection

    return Selection(options.hstate, options.node, options.pfn, options.verdict)


def unmatched(selection: Selection, report: Report) -> str | None:
    """
    What a selection names that does not exist, and what exists instead.

    :param report: Of everything.
    :return: ``None`` if all of it exists.
    """
    names = [each.hstate.name for each in report.hstates]
    if selection.hstate is not None and selection.hstate not in names:
        return f"there is no hstate {selection.hstate!r}: there are {_listed(names)}"
    nodes = {node for each in report.hstates for node, _, _ in each.by_node() if node is not None}
    if selection.node is not None and selection.node not in nodes:
        there_are = f"there are some on {_in_ranges(nodes)}" if nodes else _what_there_is(report)
        return f"no folio is on node {selection.node}: {there_are}"
    if selection.pfn is None and selection.verdict is None:
        return None
    return f"there is no such folio: {_what_there_is(report)}"


def _listed(things: Sequence[object]) -> str:
    return ", ".join(map(str, things)) or "none"


def _in_ranges(nodes: Iterable[int]) -> str:
    from drgn_vmemmap.hvo.verdict import format_ranges, ranges

    return format_ranges(ranges(sorted(nodes)))


def _what_there_is(report: Report) -> str:
    """How many folios there are, where, and with which verdicts."""
    folios = report.folios.folios
    if not len(folios):
        return "there are no HugeTLB folios"
    first, last = folios.pfns[0], folios.pfns_of(-1)[-1]
    counts = report.totals.counts.as_dict()
    verdicts = ", ".join(f"{counts[name]:,} {name}" for name in _VERDICTS if counts[name])
    return f"there are {len(folios):,}, from PFN {first:#x} to {last:#x}: {verdicts}"
