# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as tables and lines that people read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.report import EVERYTHING, Counts, HstateReport, Report, Stability, Totals
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.output.findings import FIRST, explained, in_short, verdict
from drgn_vmemmap.output.folios import folio_table
from drgn_vmemmap.output.head import head
from drgn_vmemmap.output.report import View
from drgn_vmemmap.output.text import node_name, plural, shown_verdicts, size, text_table
from drgn_vmemmap.vmemmap.special import ABOUT, BOOT, SpecialVmemmap


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: Paragraphs for a terminal, ASCII only; the list of folios line by line.
    """
    yield "".join(f"{line}\n" for line in head(report, view.style.width))
    for paragraph in _summary(report, view):
        yield f"\n{paragraph}\n"
    if view.folios and len(report.folios):
        yield "\n"
        listing = Listing(report.kernel, report.folios)
        yield from folio_table(listing, view.style.width)
    for paragraph in _conclusion(report, view):
        yield f"\n{paragraph}\n"


def _summary(report: Report, view: View) -> Iterator[str]:
    if any(hstate.counts.folios for hstate in report.hstates):
        yield from _hstates(report, view.style.width)
    if report.selection == EVERYTHING:
        yield from map(_not_found, filter(_is_short, report.hstates))
    if not (report.hstates or report.broken):  # a damaged one is a finding
        yield "no hstates"
    empty = [hstate.hstate.name for hstate in report.hstates if not hstate.counts.folios]
    if empty and report.selection == EVERYTHING:
        yield f"no folios: {', '.join(empty)}"
    totals = _totals if report.selection == EVERYTHING else _totals_of_some
    yield textwrap.fill(totals(report.totals), view.style.width)
    if report.special:
        yield "\n".join(_special(report.special, report.kernel.geometry.page_size))


def _conclusion(report: Report, view: View) -> Iterator[str]:
    limit = None if view.all_findings else FIRST
    if view.details:
        yield "\n".join(explained(report.findings, limit, view.style))
    else:
        yield "\n".join(in_short(report.findings, view.style))
    if report.stability is not None:
        yield _stability(report.stability)
    if report.interrupted:
        yield "interrupted: the report is incomplete"
    if view.details:
        yield verdict(report, view.style)


def _hstates(report: Report, width: int) -> Iterator[str]:
    """
    A table of the hstates that have folios.

    Columns of unusual verdicts are left out where they are all zero; where they are not
    but do not fit, they are a table of their own.
    """
    rows = [row for hstate in report.hstates if hstate.counts.folios for row in _rows(hstate)]
    page_size = report.kernel.geometry.page_size
    usual = shown_verdicts(())
    shown = shown_verdicts(counts for _, _, counts in rows)
    table = _hstate_table(rows, shown, page_size)
    if shown == usual or len(table.partition("\n")[0]) <= width:
        yield table
    else:
        unusual = [verdict for verdict in shown if verdict not in usual]
        yield _hstate_table(rows, usual, page_size)
        yield _hstate_table(rows, unusual)


def _is_short(hstate: HstateReport) -> bool:
    """Whether the kernel counts more folios than were found."""
    counted = hstate.hstate.counters.nr_huge_pages
    return counted is not None and counted > hstate.counts.folios


def _not_found(hstate: HstateReport) -> str:
    found, counted = hstate.counts.folios, hstate.hstate.counters.nr_huge_pages
    return f"{hstate.hstate.name}: {found:,} of {counted:,} folios were found"


def _rows(hstate: HstateReport) -> Iterator[tuple[str, str, Counts]]:
    """Name, node and counts of each line about an hstate."""
    nodes = hstate.by_node()
    if len(nodes) != 1:
        yield hstate.hstate.name, "all", hstate.counts
    for node, _, counts in nodes:
        yield hstate.hstate.name if len(nodes) == 1 else "", node_name(node), counts


def _hstate_table(
    rows: Sequence[tuple[str, str, Counts]], verdicts: Sequence[Verdict], page_size: int = 0
) -> str:
    """
    :param page_size: Bytes of a frame that was freed; 0 to leave out what was freed.
    """
    headers = ["hstate", "node", "folios", *(verdict.value for verdict in verdicts)]
    cells = [
        [name, node, counts.folios, *(counts[verdict] for verdict in verdicts)]
        for name, node, counts in rows
    ]
    if page_size:
        headers += ["freed", "saved"]
        for row, (_, _, counts) in zip(cells, rows):
            row += [counts.freed, size(counts.freed * page_size)]
    return text_table(headers, cells)


def _totals(totals: Totals) -> str:
    spent = plural(totals.page_tables, "page table")
    if totals.shared_tail_frames:
        spent += " and " + plural(totals.shared_tail_frames, "shared tail frame")
    return (
        f"net saving {size(totals.net_saved_bytes)}: {size(totals.freed_bytes)} freed, "
        f"less {spent}; still possible {size(totals.still_possible_bytes)}"
    )


def _totals_of_some(totals: Totals) -> str:
    """The totals of a selection, without page tables and tail frames, which other folios share."""
    freed, possible = size(totals.freed_bytes), size(totals.still_possible_bytes)
    return f"{freed} freed by these folios; still possible {possible}"


def _special(found: Sequence[SpecialVmemmap], page_size: int) -> Iterator[str]:
    """One line per kind of vmemmap that is special without being a fault."""
    for kind, text in ABOUT.items():
        alike = [special for special in found if special.kind == kind]
        if alike:
            memory = size(sum(len(special.pfns) for special in alike) * page_size)
            saved = size(sum(special.freed for special in alike) * page_size)
            counted = " (counted above)" if kind == BOOT else ""
            yield f"{text}: {memory}, saves {saved}{counted}"


def _stability(stability: Stability) -> str:
    return (
        f"{plural(stability.passes, 'pass', 'passes')} in {stability.seconds:.1f} s: "
        f"{plural(stability.moved, 'folio')} moved, "
        f"{plural(stability.transient, 'transient finding')}"
    )
