# SPDX-License-Identifier: LGPL-2.1-or-later

"""The states of memory on a map: numbers, of which a cell shows the lowest."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator, Mapping

from drgn_vmemmap.analysis.listing import Traits
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.vmemmap.special import BOOT, DEVICE, SELF_HOSTED


class CellState(enum.IntEnum):
    """The states; a cell shows the lowest one of what is in it."""

    ERROR = 0
    WARNING = 1
    OPTIMIZED = 2
    PARTLY = 3
    """Folios that are optimized and folios that are not, or folios that are half remapped."""
    UNOPTIMIZED = 4
    """Not optimized, and mapped by last-level tables at least in part."""
    LEAF = 5
    """Not optimized, and mapped by larger leaves."""
    BOOT = 6
    """Of no folio, in memory whose vmemmap HugeTLB optimized at boot."""
    SELF_HOSTED = 7
    """Memory that holds its own vmemmap."""
    DEVICE = 8
    """Memory of a device."""
    OTHER = 9
    """Memory of no HugeTLB folio."""
    HOLE = 10
    """No memmap."""


LABELS: Mapping[CellState, str] = {
    CellState.ERROR: "error",
    CellState.WARNING: "warning",
    CellState.OPTIMIZED: "optimized",
    CellState.PARTLY: "optimized in part",
    CellState.UNOPTIMIZED: "not optimized",
    CellState.LEAF: "not optimized, PMD-mapped",
    CellState.BOOT: "optimized at boot, no folio",
    CellState.SELF_HOSTED: "self-hosted",
    CellState.DEVICE: "memory of a device",
    CellState.OTHER: "no HugeTLB folio",
    CellState.HOLE: "no memmap",
}
"""The states in words, for legends."""

_SPECIAL = {BOOT: CellState.BOOT, SELF_HOSTED: CellState.SELF_HOSTED, DEVICE: CellState.DEVICE}
FOUND = {Severity.ERROR: CellState.ERROR, Severity.WARNING: CellState.WARNING}


def folio_state(traits: Traits) -> CellState:
    """The state of a folio; an error in it is a finding, and shown as one."""
    judgement = traits.judgement
    if judgement.verdict is Verdict.OPTIMIZED:
        return CellState.OPTIMIZED
    if judgement.verdict is Verdict.UNREADABLE:
        return CellState.WARNING
    if judgement.freed:
        return CellState.PARTLY
    return CellState.LEAF if judgement.mapped_by in ("pmd", "pud") else CellState.UNOPTIMIZED


def special_memory(report: Report) -> Iterator[tuple[CellState, range]]:
    """The states of memory of no folio, and its PFNs."""
    for section in report.sections:
        yield CellState.OTHER, section.pfns
    for special in report.special:
        yield _SPECIAL.get(special.kind, CellState.OTHER), special.pfns


def places(
    report: Report, hstate: str | None = None
) -> Iterator[tuple[Severity, range, int | None]]:
    """
    Severity of each error and warning, the PFNs that it concerns, and its folio.

    :param hstate: Folios of other hstates have no place.
    :return: Without PFNs, if it has no place.
    """
    for finding in report.findings:
        if finding.severity in FOUND:
            yield finding.severity, _place(report, finding, hstate), finding.folio


def memory(report: Report) -> list[range]:
    """Stretches of memory that have a memmap or folios, in ascending order."""
    folios = report.folios.folios
    present = joined(section.pfns for section in report.sections)
    # Between them may be folios, too: of sections that are not in the dump.
    starts = [0, *(pfns.stop for pfns in present)]
    stops = [*(pfns.start for pfns in present), sys.maxsize]
    missed = [
        folios.pfns_of(row)
        for start, stop in zip(starts, stops)
        for row in folios.rows_in(range(start, stop))
    ]
    return joined([*present, *missed])


def _place(report: Report, finding: Finding, hstate: str | None) -> range:
    """PFNs that a finding concerns; none if it has no place."""
    folios = report.folios.folios
    if finding.folio is not None:
        row = folios.row_at(finding.folio)
        if row is None or hstate not in (None, folios.class_of(row).hstate):
            return range(0)
        return folios.pfns_of(row)
    geometry = report.kernel.geometry
    if finding.address is not None and finding.address >= geometry.base:
        pfn, _ = geometry.pfn_at(finding.address)
        return range(pfn, pfn + geometry.page_size // geometry.struct_size)
    return range(0)
