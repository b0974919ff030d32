# SPDX-License-Identifier: LGPL-2.1-or-later

"""One pass over the page tables of the vmemmap, in ascending order: each table is met once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# Between the sections, entries of higher levels are not present, and hardly anything is
# mapped; more is tables that lead in a circle.
_GAP_RUNS_LIMIT = 1 << 16
_GAP_PAGES_LIMIT = 1 << 17


class VmemmapTable(NamedTuple):
    """Vmemmap that one table maps."""

    run: Run
    """One table's entries, or one entry of a higher level; within a section, of 2 MiB at most."""
    first: int
    """Number of the first vmemmap page."""
    section: SectionRange | None
    """The section that is described; ``None`` where no section is."""


class VmemmapTables:
    """A pass over the tables of the vmemmap: that of the sections, and what is mapped between."""

    def __init__(self, snapshot: Snapshot, sections: Sequence[SectionRange]) -> None:
        """
        :param sections: All sections that have a memmap, in ascending order.
        """
        self._sections = sections
        self._walker = snapshot.walker
        self._geometry = snapshot.geometry
        self._span = snapshot.kernel.architecture.table_span
        self._end = self._geometry.base & -self._span
        """Address after the vmemmap that was met."""
        self._gap_runs = self._gap_pages = 0
        self.endless = False
        """More is mapped than there can be: tables lead in a circle."""

    def walk(self, progress: Progress = SILENT) -> Iterator[VmemmapTable]:
        """
        The tables, in ascending order; once.

        :param progress: Ends the pass.
        """
        for section in progress.track(self._sections, "vmemmap"):
            yield from self._gap(self._geometry.address(section.pfns.start) & -self._span)
            while self._end < self._geometry.address(section.pfns.stop):
                yield self._table(self._walker.run_at(self._end), section)
                self._end += self._span
        if not progress.interrupted:
            yield from self._gap(self._geometry.end)

    def _gap(self, end: int) -> Iterator[VmemmapTable]:
        """Tables that map vmemmap where no section is; there should be none."""
        for run in self._walker.walk(self._end, end):
            self._gap_runs += 1
            if run.is_last_level or self._walker.first_frame(run) is not None:
                self._gap_pages += run.pages
            if self._gap_runs > _GAP_RUNS_LIMIT or self._gap_pages > _GAP_PAGES_LIMIT:
                self.endless = True
                break
            yield self._table(run, None)
        self._end = max(self._end, end)

    def _table(self, run: Run, section: SectionRange | None) -> VmemmapTable:
        return VmemmapTable(run, self._geometry.page_number_at(run.start), section)
