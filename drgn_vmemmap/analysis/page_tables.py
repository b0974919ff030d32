# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The page tables that exist only because HVO split a large leaf over the vmemmap.

Follows ``vmemmap_split_pmd()`` of ``mm/hugetlb_vmemmap.c`` and ``vmemmap_populate_hugepages()`` of
``mm/sparse-vmemmap.c``.
"""

from __future__ import annotations

from collections.abc import Sequence

from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# At least this share of the frames that a table maps are where a large leaf had them if the table
# was made by splitting that leaf; of frames that were allocated one by one, few are.
_SPLIT = 1 / 8


def split_at_boot(snapshot: Snapshot, sections: Sequence[SectionRange]) -> set[int]:
    """
    Last-level tables over the vmemmap of memory from boot, by their physical addresses.

    That vmemmap was mapped by large leaves: HVO split each, also where no folio is any more.
    """
    facts = snapshot.kernel.sections
    return {
        table
        for section in sections
        if section.flags & facts.early and not section.flags & facts.device
        for table in snapshot.walker.last_level_tables(snapshot.geometry.addresses(section.pfns))
    }


def never_split(
    snapshot: Snapshot, sections: Sequence[SectionRange], reports: FolioReports
) -> set[int]:
    """
    Last-level tables over the vmemmap of folios in hot-plugged memory that HVO seems not to have
    made, by their physical addresses.

    Where no block was free, that vmemmap was mapped by single frames from the start.
    """
    tables: dict[int, bool] = {}
    """Whether HVO made each, by the address of the first vmemmap page that it maps."""
    for section in sections:
        if section.flags & snapshot.kernel.sections.early:
            continue
        for row in reports.folios.rows_in(section.pfns):
            is_optimized = reports.judgement_of(row).layout is not Layout.NONE
            for start in snapshot.table_starts(reports.folios.pfns_of(row)):
                tables[start] = tables.get(start, False) or is_optimized
    runs = (snapshot.walker.run_at(start) for start, is_by_hvo in tables.items() if not is_by_hvo)
    return {run.raw_address for run in runs if run.is_last_level and not _is_split(snapshot, run)}


def _is_split(snapshot: Snapshot, run: Run) -> bool:
    """Whether frames that a table maps are where a large leaf had them; true if it is missing."""
    if not run.raw:
        return True
    frames = snapshot.walker.frames(run)
    in_place = sum(frame % len(frames) == i for i, frame in enumerate(frames) if frame is not None)
    return in_place >= _SPLIT * len(frames)
