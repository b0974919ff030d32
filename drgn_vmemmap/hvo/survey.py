# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The survey: one pass over ``init_mm``'s tables of the vmemmap finds the owners of its frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Optional

from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.ownership import ZONE, Leaf, Ownership
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.column import ColumnReader
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.vmemmap.sections import Section
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from drgn_vmemmap.vmemmap.special import DEVICE, SpecialVmemmap

# Between the sections, entries of higher levels are not present, and hardly anything is
# mapped; more is tables that lead in a circle.
_GAP_RUNS_LIMIT = 1 << 16
_GAP_PAGES_LIMIT = 1 << 17

Frames = Sequence[Optional[int]]
"""PFNs of the frames of consecutive vmemmap pages; ``None`` for one mapped to no memory."""


class Described(NamedTuple):
    """What the vmemmap is known to describe."""

    sections: Sequence[Section]
    folios: FolioReports
    special: Sequence[SpecialVmemmap]
    tail_frames: frozenset[int]
    """PFNs of the frames that zones keep for shared tails."""


def survey(snapshot: Snapshot, described: Described, progress: Progress = SILENT) -> Ownership:
    """
    Find the owners of all frames that back the vmemmap.

    :param snapshot: The one that *described* is of; page tables are not read again.
    """
    surveyor = _Surveyor(snapshot, described)
    for section in progress.track(described.sections, "vmemmap"):
        surveyor.add_section(section)
    if not progress.interrupted:
        surveyor.add_rest()
    return surveyor.ownership


class _Table:
    """The entries of a last-level table, decoded as far as they are needed."""

    def __init__(self, walker: Walker, columns: ColumnReader, run: Run) -> None:
        self._walker = walker
        self._columns = columns
        self._run = run
        self._entries = run.entries()

    def frame(self, index: int) -> int:
        """PFN that an entry holds which is known to be present."""
        (frame,) = self._columns.frames((self._entries[index],))
        return frame

    @cached_property
    def frames(self) -> Frames:
        """PFNs of the frames that the entries map."""
        return self._walker.frames(self._run)

    @cached_property
    def read_only(self) -> set[int]:
        """Indices of the entries that are present and not writable."""
        return set(self._walker.read_only(self._run))


class _Surveyor:
    """Walks the vmemmap in ascending order, and with it the folios that it describes."""

    def __init__(self, snapshot: Snapshot, described: Described) -> None:
        self.ownership = Ownership()
        self._walker = snapshot.walker
        self._geometry = snapshot.geometry
        self._span = snapshot.kernel.architecture.table_span
        self._columns = ColumnReader(snapshot.kernel.paging)
        self._folios = described.folios
        self._special = described.special
        self._tail_frames = described.tail_frames
        facts = snapshot.kernel.sections
        self._populated = facts.early | facts.online
        """Flags of sections whose vmemmap is complete: a device may have made parts of others."""
        self._limit = snapshot.kernel.paging.max_pfn
        self._row = 0
        """Of the first folio whose vmemmap was not reached yet."""
        self._end = self._geometry.base & -self._span
        """Address after the vmemmap that was surveyed."""
        self._required = range(0)
        """Numbers of the vmemmap pages of a section that have to be mapped."""
        self._gap_runs = self._gap_pages = 0
        self._device_frame = -1
        """The frame of the page before, if a device's memory is described there."""
        self._owned = {
            number: judgement.layout.kept
            for number, judgement in enumerate(described.folios.judgement_table)
            if judgement.verdict is Verdict.OPTIMIZED
        }
        """How many frames an optimized folio owns, by the number of its judgement."""
        for frame in sorted(described.tail_frames):
            self.ownership.frames.append(frame)
            self.ownership.pages.append(ZONE)

    def add_section(self, section: Section) -> None:
        """Add the vmemmap that describes a section."""
        self._add_gap(self._geometry.address(section.pfns.start) & -self._span)
        device = any(
            special.kind == DEVICE and section.pfns.start in special.pfns
            for special in self._special
        )
        if section.flags & self._populated:
            self._required = self._geometry.pages_of(section.pfns)
        while self._end < self._geometry.address(section.pfns.stop):
            self._add(self._walker.region(self._end), device)
            self._end += self._span
        self._required = range(0)

    def add_rest(self) -> None:
        """Add what is mapped after the last section."""
        self._add_gap(self._geometry.address(self._geometry.max_pfn) & -self._span)

    def _add_gap(self, end: int) -> None:
        """Add what is mapped where no section is; nothing should be."""
        for run in self._walker.walk(self._end, end):
            self._gap_runs += 1
            if run.is_last_level or self._walker.first_frame(run) is not None:
                self._gap_pages += run.pages
            if self._gap_runs > _GAP_RUNS_LIMIT or self._gap_pages > _GAP_PAGES_LIMIT:
                self.ownership.endless = True
                break
            self._add(run, False)
        self._end = max(self._end, end)

    def _add(self, run: Run, device: bool) -> None:
        first = self._geometry.page_number_at(run.start)
        if not device:
            self._device_frame = -1
        if run.raw:
            self.ownership.tables.setdefault(run.raw_address >> self._geometry.page_shift, first)
        if not run.raw:
            self.ownership.unreadable.append(run)
        elif not run.is_last_level:
            self._add_leaf(run, first)
        elif not self._add_adjacent(run, first):
            self._add_table(run, first, device)

    def _add_adjacent(self, run: Run, first: int) -> bool:
        """
        Add the frames of a table that describes nothing but optimized folios, all alike.

        :return: Whether that is so; otherwise, nothing was added.
        """
        entries, folios, row = run.entries(), self._folios.folios, self._row
        if row == len(folios) or self._geometry.page_number(folios.pfns[row]) != first:
            return False
        pages = self._geometry.pages_of_order(folios.class_of(row).order)
        stop = row + len(entries) // pages
        numbers = set(self._folios.judgements[row:stop])
        owned = {self._owned.get(number, 0) for number in numbers}
        if (
            stop > len(folios)
            or len(entries) % pages
            or len(numbers) != 1
            or owned == {0}
            or self._geometry.page_number(folios.pfns[stop - 1]) != first + len(entries) - pages
        ):
            return False
        for index in range(*owned):
            self.ownership.frames.extend(self._columns.frames(entries[index::pages]))
            self.ownership.pages.extend(range(first + index, first + len(entries), pages))
        self._row = stop
        return True

    def _add_table(self, run: Run, first: int, device: bool) -> None:
        """Add the frames of a table that describes folios and other memory."""
        table, count = _Table(self._walker, self._columns, run), run.pages
        position = 0
        for row, start, end in self._folios_in(first, count):
            self._add_stray(table, first, range(position, start), device)
            self._add_folio(row, table, first, range(start, end))
            position = end
        self._add_stray(table, first, range(position, count), device)

    def _add_leaf(self, run: Run, first: int) -> None:
        frame = self._walker.first_frame(run)
        mapped = 0 if frame is None else min(run.pages, self._limit - frame)
        if mapped < run.pages and self._required:
            self._add_unmapped_leaf(first, range(mapped, run.pages))
        if frame is None:
            return
        self.ownership.leaves.append(Leaf(frame, first, run.pages))
        if any(self._folios_in(first, run.pages)):
            return
        self.ownership.stray_starts.append(first)
        self.ownership.stray_ends.append(first + run.pages)
        self.ownership.read_only += (first for _ in self._walker.read_only(run))

    def _add_unmapped_leaf(self, first: int, indices: range) -> None:
        """Add pages that a leaf maps to no memory, but for those that describe a folio."""
        row, position = self._row, indices.start
        for _, start, end in self._folios_in(first, indices.stop):
            self._add_absent(first + position, first + start)
            position = max(position, end)
        self._add_absent(first + position, first + indices.stop)
        self._row = row

    def _add_absent(self, start: int, stop: int) -> None:
        """Add pages that are mapped to no memory, as far as they have to be."""
        start, stop = max(start, self._required.start), min(stop, self._required.stop)
        absent = self.ownership.absent
        if start >= stop:
            return
        if absent and absent[-1].stop == start:
            absent[-1] = range(absent[-1].start, stop)
        else:
            absent.append(range(start, stop))

    def _folios_in(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """
        Folios that are described by some consecutive vmemmap pages.

        :param first: Number of the first page.
        :return: Row of each, and from which to which of these pages.
        """
        geometry, folios = self._geometry, self._folios.folios
        while self._row < len(folios):
            start = geometry.page_number(folios.pfns[self._row]) - first
            if start >= count:
                return
            end = start + geometry.pages_of_order(folios.class_of(self._row).order)
            if end > 0:
                yield self._row, max(start, 0), min(end, count)
            if end > count:
                return
            self._row += 1

    def _add_folio(self, row: int, table: _Table, first: int, indices: range) -> None:
        """Add the frames that a folio owns among those of the pages that describe it."""
        start = self._geometry.page_number(self._folios.folios.pfns[row]) - first
        owned = self._owned.get(self._folios.judgements[row])
        if owned is not None:
            for index in indices[: max(0, start + owned - indices.start)]:
                self._own(table.frame(index), first + index)
            return
        # The reuse frame belongs to the first page that maps it, or to a zone.
        known = set(self._tail_frames)
        layout = self._folios.judgement_of(row).layout
        if start < indices.start or layout is Layout.SHARED_TAIL:
            known.add(self._folios.reuse_frames[row])
        for index in indices:
            frame = table.frames[index]
            if frame is not None and frame not in known:
                known.add(frame)
                self._own(frame, first + index)

    def _add_stray(self, table: _Table, first: int, indices: range, device: bool) -> None:
        """Add the frames of vmemmap that describes no HugeTLB folio."""
        if not indices:
            return
        self.ownership.stray_starts.append(first + indices.start)
        self.ownership.stray_ends.append(first + indices.stop)
        # A device's compound pages share their tails as HugeTLB folios do: writable, or not.
        if not device:
            read_only = table.read_only
            self.ownership.read_only += (first + index for index in indices if index in read_only)
        for index in indices:
            frame = table.frames[index]
            if frame is None:
                self._add_absent(first + index, first + index + 1)
                continue
            if device and self._is_device_tail(frame):
                continue
            self._device_frame = frame
            self._own(frame, first + index)

    def _is_device_tail(self, frame: int) -> bool:
        """Whether a frame is that of the page before, or one that a zone keeps for tails."""
        return frame == self._device_frame or frame in self._tail_frames

    def _own(self, frame: int | None, page: int) -> None:
        if frame is not None:
            self.ownership.frames.append(frame)
            self.ownership.pages.append(page)
