# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The survey: one pass over ``init_mm``'s tables of the vmemmap finds the owners of its frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, Optional

from drgn_vmemmap.hugetlb.cursor import FolioCursor
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.ownership import ZONE_OWNER, LargeLeaf, Ownership
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.column import ColumnReader
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from drgn_vmemmap.vmemmap.special import DEVICE, SpecialVmemmap
from drgn_vmemmap.vmemmap.tables import VmemmapTable, VmemmapTables

Frames = Sequence[Optional[int]]
"""PFNs of the frames of consecutive vmemmap pages; ``None`` for one mapped to no memory."""


class Described(NamedTuple):
    """Sections, folios and special vmemmap: what the vmemmap is known to describe."""

    sections: Sequence[SectionRange]
    folios: FolioReports
    special: Sequence[SpecialVmemmap]
    tail_frames: frozenset[int]
    """PFNs of the frames that zones keep for shared tails."""
    unknown: Sequence[range]
    """PFNs of which the dump does not show what memory they are."""


def survey(snapshot: Snapshot, described: Described, progress: Progress = SILENT) -> Ownership:
    """
    Find the owners of all frames that back the vmemmap.

    :param snapshot: The one that *described* is of; page tables are not read again.
    """
    surveyor = _Surveyor(snapshot, described)
    tables = VmemmapTables(snapshot, described.sections)
    for table in tables.walk(progress):
        surveyor.add(table)
    surveyor.ownership.endless = tables.endless
    return surveyor.ownership


class _Entries:
    """The entries of a last-level table, decoded as far as they are needed."""

    def __init__(self, walker: Walker, columns: ColumnReader, run: Run) -> None:
        self._walker = walker
        self._columns = columns
        self._run = run
        self._entries = run.entries()

    def frame(self, index: int) -> int:
        """PFN in an entry that is known to be present."""
        return self._columns.frame(self._entries[index])

    @cached_property
    def frames(self) -> Frames:
        """PFNs of the frames that the entries map."""
        return self._walker.frames(self._run)

    @cached_property
    def read_only(self) -> set[int]:
        """Indices of the entries that are present and not writable."""
        return set(self._walker.read_only(self._run))


class _Surveyor:
    """Adds the owners of the frames that each table maps, in ascending order."""

    def __init__(self, snapshot: Snapshot, described: Described) -> None:
        self.ownership = Ownership()
        self._walker = snapshot.walker
        self._geometry = snapshot.geometry
        self._columns = ColumnReader(snapshot.kernel.paging)
        self._folios = described.folios
        self._cursor = FolioCursor(described.folios.folios, snapshot.geometry)
        self._special = described.special
        self._tail_frames = described.tail_frames
        facts = snapshot.kernel.sections
        self._populated = facts.early | facts.online
        """Flags of sections that have all of their vmemmap."""
        self._unknown = described.unknown
        self._section: SectionRange | None = None
        """The section whose vmemmap is being added."""
        self._is_device = False
        """Whether it is memory of a device."""
        self._required: list[range] = []
        """Numbers of its vmemmap pages that have to be mapped."""
        self._device_frame = -1
        """The frame of the page before, if a device's memory is described there."""
        self._owned = {
            number: judgement.layout.kept
            for number, judgement in enumerate(described.folios.judgement_table)
            if judgement.verdict is Verdict.OPTIMIZED
        }
        """How many frames an optimized folio owns, by the number of its judgement."""
        self._right = {
            number
            for number, judgement in enumerate(described.folios.judgement_table)
            if judgement.verdict in (Verdict.OPTIMIZED, Verdict.UNOPTIMIZED)
        }
        """Numbers of the judgements on folios that own what they should, and nothing else."""
        for frame in described.tail_frames:
            self._own(frame, ZONE_OWNER)

    def add(self, table: VmemmapTable) -> None:
        """Add the frames that a table maps."""
        run, first, section = table
        if section is not self._section:
            self._enter(section)
        if not run.raw:
            self.ownership.unreadable.append(run)
            return
        self.ownership.tables.setdefault(run.raw_address >> self._geometry.page_shift, first)
        if not run.is_last_level:
            self._add_leaf(run, first)
        elif not self._add_adjacent(run, first):
            self._add_entries(run, first)

    def _enter(self, section: SectionRange | None) -> None:
        """Go on to another section, or to where there is none."""
        self._section = section
        self._is_device = section is not None and any(
            special.kind == DEVICE
            and special.pfns.start < section.pfns.stop
            and section.pfns.start < special.pfns.stop
            for special in self._special
        )
        if not self._is_device:
            self._device_frame = -1
        parts = () if section is None else self._certain_parts(section)
        self._required = [self._geometry.pages_of(pfns) for pfns in parts]

    def _certain_parts(self, section: SectionRange) -> Sequence[range]:
        """
        PFNs of a section that certainly have a memmap.

        A device's memory may be on its way in: its part is marked first (``section_activate()``).
        """
        if section.flags & self._populated:
            return (section.pfns,)
        is_unknown = any(section.pfns.start in pfns for pfns in self._unknown)
        if self._is_device or is_unknown or section.parts is None:
            return ()
        return section.parts

    def _add_adjacent(self, run: Run, first: int) -> bool:
        """
        Add the frames of a table that describes nothing but folios of one size, judged right.

        :return: Whether that is so; otherwise, nothing was added.
        """
        entries, folios, row = run.entries(), self._folios.folios, self._cursor.row
        if row == len(folios):
            return False
        head = self._geometry.page_number(folios.pfns[row])
        pages = self._geometry.pages_of_order(folios.class_of(row).order)
        if pages > len(entries):
            return self._add_within(row, range(head, head + pages), entries, first)
        if head != first:
            return False
        stop = row + len(entries) // pages
        numbers = self._folios.judgements[row:stop]
        if (
            stop > len(folios)
            or not self._right.issuperset(numbers)
            or self._geometry.page_number(folios.pfns[stop - 1]) != first + len(entries) - pages
        ):
            return False
        start = 0
        for number, alike in groupby(numbers):
            end = start + len(list(alike)) * pages
            if number in self._owned:
                for index in range(start, start + self._owned[number]):
                    self._own_column(entries, first, range(index, end, pages))
            else:
                self._own_column(entries, first, range(start, end))
            start = end
        self._cursor.row = stop
        return True

    def _add_within(self, row: int, pages: range, entries: memoryview[int], first: int) -> bool:
        """
        Add the frames of a table that describes nothing but a part of one folio, judged right.

        :param pages: Numbers of the folio's vmemmap pages.
        :return: Whether that is so; otherwise, nothing was added.
        """
        number, end = self._folios.judgements[row], first + len(entries)
        if number not in self._right or first < pages.start or end > pages.stop:
            return False
        owned = pages.start + self._owned.get(number, len(pages))
        self._own_column(entries, first, range(max(min(owned, end) - first, 0)))
        if end == pages.stop:
            self._cursor.row += 1
        return True

    def _own_column(self, entries: memoryview[int], first: int, indices: range) -> None:
        """Add the frames in entries that are known to be present, each owned by its own page."""
        chosen = entries[indices.start : indices.stop : indices.step].tobytes()
        self.ownership.frames.extend(self._columns.frames(chosen))
        self.ownership.pages.extend(
            range(first + indices.start, first + indices.stop, indices.step)
        )

    def _add_entries(self, run: Run, first: int) -> None:
        """Add the frames of a table that describes folios and other memory."""
        entries = _Entries(self._walker, self._columns, run)
        for row, pages in self._cursor.parts(range(first, first + run.pages)):
            indices = range(pages.start - first, pages.stop - first)
            if row is None:
                self._add_of_no_folio(entries, first, indices)
            else:
                self._add_folio(row, entries, first, indices)

    def _add_leaf(self, run: Run, first: int) -> None:
        frame = self._walker.first_frame(run)
        parts = list(self._cursor.parts(range(first, first + run.pages)))
        if frame is None:
            for row, pages in parts:
                if row is None:
                    self._add_absent(pages.start, pages.stop)
            return
        self.ownership.leaves.append(LargeLeaf(frame, first, run.pages))
        if any(row is not None for row, _ in parts):
            return
        leaf = range(first, first + run.pages)
        self.ownership.add_of_no_folio(leaf)
        self.ownership.read_only += (leaf for _ in self._walker.read_only(run))

    def _add_absent(self, start: int, stop: int) -> None:
        """Add pages that are mapped to no memory, as far as they have to be."""
        absent = self.ownership.absent
        for required in self._required:
            first, last = max(start, required.start), min(stop, required.stop)
            if first >= last:
                continue
            if absent and absent[-1].stop == first:
                absent[-1] = range(absent[-1].start, last)
            else:
                absent.append(range(first, last))

    def _add_folio(self, row: int, entries: _Entries, first: int, indices: range) -> None:
        """Add the frames that a folio owns among those of the pages that describe it."""
        start = self._geometry.page_number(self._folios.folios.pfns[row]) - first
        owned = self._owned.get(self._folios.judgements[row])
        if owned is not None:
            for index in indices[: max(0, start + owned - indices.start)]:
                self._own(entries.frame(index), first + index)
            return
        # The reuse frame belongs to the first page that maps it, or to a zone.
        known = set(self._tail_frames)
        layout = self._folios.judgement_of(row).layout
        if start < indices.start or layout is Layout.SHARED_TAIL:
            known.add(self._folios.reuse_frames[row])
        for index in indices:
            frame = entries.frames[index]
            if frame is not None and frame not in known:
                known.add(frame)
                self._own(frame, first + index)

    def _add_of_no_folio(self, entries: _Entries, first: int, indices: range) -> None:
        """Add the frames of vmemmap that describes no HugeTLB folio."""
        self.ownership.add_of_no_folio(range(first + indices.start, first + indices.stop))
        # A device's compound pages share their tails as HugeTLB folios do: writable, or not.
        if not self._is_device:
            pages = (first + index for index in indices if index in entries.read_only)
            self.ownership.read_only += (range(page, page + 1) for page in pages)
        for index in indices:
            frame = entries.frames[index]
            if frame is None:
                self._add_absent(first + index, first + index + 1)
                continue
            if self._is_device:
                if self._is_device_tail(frame):
                    continue
                self._device_frame = frame
            self._own(frame, first + index)

    def _is_device_tail(self, frame: int) -> bool:
        """Whether a frame is that of the page before, or one that a zone keeps for tails."""
        return frame == self._device_frame or frame in self._tail_frames

    def _own(self, frame: int, page: int) -> None:
        self.ownership.frames.append(frame)
        self.ownership.pages.append(page)
