# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The page tables that exist only because HVO split a large leaf over the vmemmap.

Follows ``vmemmap_split_pmd()`` of ``mm/hugetlb_vmemmap.c`` and ``vmemmap_populate_hugepages()`` of
``mm/sparse-vmemmap.c``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# Of the frames that a table maps, so many are where a large leaf had them if it was one. Of those
# that were allocated one by one, few are.
_SPLIT = 1 / 8


def split_at_boot(snapshot: Snapshot, sections: Sequence[SectionRange]) -> set[int]:
    """
    Last-level tables over the vmemmap of memory from boot, by their physical addresses.

    That vmemmap was mapped by large leaves: HVO split each, also where no folio is any more.
    """
    facts, address = snapshot.kernel.sections, snapshot.geometry.address
    return {
        table
        for section in sections
        if section.flags & facts.early and not section.flags & facts.device
        for table in snapshot.walker.last_level_tables(
            address(section.pfns.start), address(section.pfns.stop)
        )
    }


def never_split(
    snapshot: Snapshot, sections: Sequence[SectionRange], reports: FolioReports
) -> set[int]:
    """
    Last-level tables over the vmemmap of folios in hot-plugged memory that HVO did not make, for
    all that they show, by their physical addresses.

    That vmemmap may have been mapped by single frames from the start, where no block was free.
    """
    tables: dict[int, bool] = {}
    """Whether HVO made each, by the address of the first vmemmap page that it maps."""
    for row in _rows_in(reports, sections, snapshot.kernel.sections.early):
        is_optimized = reports.judgement_of(row).layout is not Layout.NONE
        for start in _spans(snapshot, reports, row):
            tables[start] = tables.get(start, False) or is_optimized
    runs = (snapshot.walker.run_at(start) for start, is_by_hvo in tables.items() if not is_by_hvo)
    return {run.raw_address for run in runs if run.is_last_level and not _is_split(snapshot, run)}


def _rows_in(
    reports: FolioReports, sections: Sequence[SectionRange], without: int
) -> Iterator[int]:
    """
    Rows of the folios that begin in some of the sections.

    :param without: Mask of the flags that these do not have.
    """
    heads = reports.folios.pfns
    for section in sections:
        if not section.flags & without:
            first, stop = section.pfns.start, section.pfns.stop
            yield from range(bisect_left(heads, first), bisect_left(heads, stop))


def _spans(snapshot: Snapshot, reports: FolioReports, row: int) -> range:
    """Where the vmemmap begins that each of the tables over a folio's maps."""
    geometry, span = snapshot.geometry, snapshot.kernel.architecture.table_span
    start = geometry.address(reports.folios.pfns[row])
    size = geometry.pages_of_order(reports.folios.class_of(row).order) << geometry.page_shift
    return range(start // span * span, start + size, span)


def _is_split(snapshot: Snapshot, run: Run) -> bool:
    """Whether frames that a table maps are where a large leaf had them; true if it is missing."""
    if not run.raw:
        return True
    frames = snapshot.walker.frames(run)
    in_place = sum(frame % len(frames) == i for i, frame in enumerate(frames) if frame is not None)
    return in_place >= _SPLIT * len(frames)
