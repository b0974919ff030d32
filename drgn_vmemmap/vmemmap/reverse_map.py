# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The whole vmemmap: which of its pages owns which frame, and whether the frames are in use.

One pass over ``init_mm``'s tables. Pages that share their reuse frame as they
should own it together; every other frame behind the vmemmap belongs to one page.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import eq
from typing import NamedTuple

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hvo.judgement import Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.walker import Run, Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PMD, PRESENT, PTE, WRITABLE
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.vmemmap.sections import Section
from drgn_vmemmap.vmemmap.special import DEVICE

# Between the sections, entries of higher levels are not present, and hardly anything is
# mapped; more is tables that lead in a circle.
_GAP_RUNS_LIMIT = 1 << 16
_GAP_PAGES_LIMIT = 1 << 17

ZONE = -1
"""In place of a vmemmap page: the owner is a zone, which keeps the frame for shared tails."""


class Leaf(NamedTuple):
    """Vmemmap that is mapped by a large leaf."""

    frame: int
    """PFN of the first frame."""
    page: int
    """Number of the first vmemmap page."""
    pages: int
    """How many pages it maps, to as many frames."""


class Ownership:
    """
    Who owns the frames behind the vmemmap.

    A vmemmap page is named by its number, counted from the address of PFN 0's struct page.
    """

    def __init__(self) -> None:
        self.frames = array("Q")
        """PFNs of the frames that last-level entries map, once for each owner."""
        self.pages = array("q")
        """The owners: numbers of vmemmap pages, or :data:`ZONE`."""
        self.leaves: list[Leaf] = []
        self.stray_starts = array("q")
        """First pages of the stretches that describe no HugeTLB folio."""
        self.stray_ends = array("q")
        """The pages behind them."""
        self.read_only: list[int] = []
        """Those of no HugeTLB folio that are read-only."""
        self.unreadable: list[Run] = []
        """Where page tables are not in the dump."""
        self.endless = False
        """More is mapped than there can be: tables lead in a circle."""

    def shared(self) -> dict[int, list[int]]:
        """Frames with more than one owner, and their owners."""
        ordered = sorted(self.frames)
        frames: set[int] = set()
        if any(map(eq, ordered, islice(ordered, 1, None))):
            frames.update(one for one, other in zip(ordered, ordered[1:]) if one == other)
        for leaf in self.leaves:
            start = bisect_left(ordered, leaf.frame)
            frames.update(ordered[start : bisect_left(ordered, leaf.frame + leaf.pages, start)])
        owners: dict[int, list[int]] = {frame: [] for frame in sorted(frames)}
        if owners:
            for frame, page in zip(self.frames, self.pages):
                if frame in owners:
                    owners[frame].append(page)
        for frame, pages in owners.items():
            pages += [
                leaf.page + frame - leaf.frame
                for leaf in self.leaves
                if 0 <= frame - leaf.frame < leaf.pages
            ]
        owners.update(self._shared_by_leaves())
        return owners

    def _shared_by_leaves(self) -> Iterator[tuple[int, list[int]]]:
        """The first frame that two leaves have in common, and its owners."""
        ordered = sorted(self.leaves)
        for one, other in zip(ordered, ordered[1:]):
            if other.frame < one.frame + one.pages:
                yield other.frame, [one.page + other.frame - one.frame, other.page]

    def distinct(self) -> int:
        """How many frames there are behind the vmemmap."""
        return len(set(self.frames)) + sum(leaf.pages for leaf in self.leaves)

    def is_of_no_folio(self, page: int) -> bool:
        """Whether a vmemmap page describes no HugeTLB folio."""
        index = bisect_right(self.stray_starts, page) - 1
        return index >= 0 and page < self.stray_ends[index]


def survey(report: Report, walker: Walker, progress: Progress = SILENT) -> Ownership:
    """
    Look through the whole vmemmap.

    :param report: Of a look at all folios.
    :param walker: That look's; the tables that it read are not read again.
    """
    surveyor = _Surveyor(report, walker)
    for section in progress.track(report.sections, "vmemmap"):
        surveyor.add_section(section)
    if not progress.interrupted:
        surveyor.add_rest()
    return surveyor.ownership


class _Surveyor:
    """Goes through the vmemmap in ascending order, past the folios that it describes."""

    def __init__(self, report: Report, walker: Walker) -> None:
        self.ownership = Ownership()
        self._kernel = report.kernel
        self._walker = walker
        self._folios = report.folios
        self._others = report.others
        self._tail_frames = report.tail_frames
        self._row = 0
        """Of the first folio that is not behind us."""
        self._address = x86_64.address_mask(PTE, self._kernel.paging.encryption_mask)
        self._end = _region(self._kernel.vmemmap)
        """Address behind the vmemmap that was looked at."""
        self._gap_runs = self._gap_pages = 0
        self._device_frame = -1
        """The frame behind the last page, if a device's memory is described there."""
        self._owned = {
            number: judgement.layout.kept
            for number, judgement in enumerate(report.folios.judgement_table)
            if judgement.verdict is Verdict.OPTIMIZED
        }
        """How many frames an optimized folio owns, by the number of its judgement."""
        for frame in sorted(report.tail_frames):
            self.ownership.frames.append(frame)
            self.ownership.pages.append(ZONE)

    def add_section(self, section: Section) -> None:
        """Look at what describes a section."""
        kernel = self._kernel
        self._add_gap(_region(kernel.page_address(section.pfns.start)))
        device = any(
            other.kind == DEVICE and section.pfns.start in other.pfns for other in self._others
        )
        while self._end < kernel.page_address(section.pfns.stop):
            self._add(self._walker.region(self._end), device)
            self._end += PMD.entry_span

    def add_rest(self) -> None:
        """Look behind the last section."""
        self._add_gap(_region(self._kernel.page_address(self._kernel.paging.max_pfn)))

    def _add_gap(self, end: int) -> None:
        """Look where no section is; nothing should be mapped there."""
        for run in self._walker.walk(self._end, end):
            self._gap_runs += 1
            if run.level is PTE or self._walker.first_frame(run) is not None:
                self._gap_pages += run.pages
            if self._gap_runs > _GAP_RUNS_LIMIT or self._gap_pages > _GAP_PAGES_LIMIT:
                self.ownership.endless = True
                break
            self._add(run, False)
        self._end = max(self._end, end)

    def _add(self, run: Run, device: bool) -> None:
        ownership = self.ownership
        first = (run.start - self._kernel.vmemmap) >> PAGE_SHIFT
        if not device:
            self._device_frame = -1
        if not run.raw:
            ownership.unreadable.append(run)
            return
        if run.level is not PTE:
            self._add_leaf(run, first)
            return
        entries = run.entries()
        if self._add_pool(entries, first):
            return
        position = 0
        for row, start, end in self._folios_in(first, len(entries)):
            self._add_stray(entries, run.above, first, range(position, start), device)
            self._add_folio(row, entries, first, range(start, end))
            position = end
        self._add_stray(entries, run.above, first, range(position, len(entries)), device)

    def _add_pool(self, entries: memoryview[int], first: int) -> bool:
        """
        Add the frames of optimized folios side by side, if there is nothing else.

        :return: Whether there is nothing else; otherwise, nothing was added.
        """
        folios, row = self._folios.folios, self._row
        size = self._kernel.page.size
        if row == len(folios) or folios.pfns[row] * size >> PAGE_SHIFT != first:
            return False
        pages = self._kernel.vmemmap_pages(folios.class_table[folios.kinds[row]].order)
        stop = row + len(entries) // pages
        numbers = set(self._folios.judgements[row:stop])
        owned = {self._owned.get(number, 0) for number in numbers}
        if (
            stop > len(folios)
            or len(entries) % pages
            or len(numbers) != 1
            or owned == {0}
            or folios.pfns[stop - 1] * size >> PAGE_SHIFT != first + len(entries) - pages
        ):
            return False
        for index in range(*owned):
            kept = entries[index::pages].tolist()
            self.ownership.frames.extend([(entry & self._address) >> PAGE_SHIFT for entry in kept])
            self.ownership.pages.extend(range(first + index, first + len(entries), pages))
        self._row = stop
        return True

    def _add_leaf(self, run: Run, first: int) -> None:
        frame = self._walker.first_frame(run)
        if frame is None:
            return
        self.ownership.leaves.append(Leaf(frame, first, run.pages))
        if any(self._folios_in(first, run.pages)):
            return
        self.ownership.stray_starts.append(first)
        self.ownership.stray_ends.append(first + run.pages)
        if not run.above & run.entries()[0] & WRITABLE:
            self.ownership.read_only.append(first)

    def _folios_in(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """
        Folios that are described by some consecutive vmemmap pages.

        :param first: Number of the first page.
        :return: Row of each, and from which to which of these pages.
        """
        kernel, folios = self._kernel, self._folios.folios
        while self._row < len(folios):
            pfn = folios.pfns[self._row]
            start = (pfn * kernel.page.size >> PAGE_SHIFT) - first
            if start >= count:
                return
            end = start + kernel.vmemmap_pages(folios.class_table[folios.kinds[self._row]].order)
            if end > 0:
                yield self._row, max(start, 0), min(end, count)
            if end > count:
                return
            self._row += 1

    def _add_folio(self, row: int, entries: Sequence[int], first: int, indices: range) -> None:
        """Add the frames that a folio owns among the entries that describe it."""
        frames, pages, mask = self.ownership.frames, self.ownership.pages, self._address
        pfn = self._folios.folios.pfns[row]
        start = (pfn * self._kernel.page.size >> PAGE_SHIFT) - first
        owned = self._owned.get(self._folios.judgements[row])
        if owned is not None:
            for index in indices[: max(0, start + owned - indices.start)]:
                frames.append((entries[index] & mask) >> PAGE_SHIFT)
                pages.append(first + index)
            return
        # The reuse frame belongs to the first page that maps it, or to a zone.
        known = set(self._tail_frames)
        reuse_frame = self._folios.reuse_frames[row]
        layout = self._folios.judgement_table[self._folios.judgements[row]].layout
        if start < indices.start or layout is Layout.SHARED_TAIL:
            known.add(reuse_frame)
        for index in indices:
            frame = (entries[index] & mask) >> PAGE_SHIFT
            if self._is_mapped(entries[index]) and frame not in known:
                known.add(frame)
                frames.append(frame)
                pages.append(first + index)

    def _add_stray(
        self, entries: Sequence[int], above: int, first: int, indices: range, device: bool
    ) -> None:
        """Add frames behind vmemmap that describes no HugeTLB folio."""
        ownership, mask = self.ownership, self._address
        if not indices:
            return
        ownership.stray_starts.append(first + indices.start)
        ownership.stray_ends.append(first + indices.stop)
        for index in indices:
            entry = entries[index]
            if not self._is_mapped(entry):
                continue
            if not above & entry & WRITABLE:
                ownership.read_only.append(first + index)
            frame = (entry & mask) >> PAGE_SHIFT
            if device and frame == self._device_frame:
                continue
            self._device_frame = frame
            ownership.frames.append(frame)
            ownership.pages.append(first + index)

    def _is_mapped(self, entry: int) -> bool:
        limit = self._kernel.paging.max_pfn << PAGE_SHIFT
        return bool(entry & PRESENT) and entry & self._address < limit


def _region(address: int) -> int:
    """Address of the 2 MiB that an address is in."""
    return address >> PMD.shift << PMD.shift
