# SPDX-License-Identifier: LGPL-2.1-or-later

"""The reverse map: from a frame to the vmemmap pages that it backs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.hugetlb.cursor import FolioCursor
from drgn_vmemmap.hugetlb.folio import Folio, Folios
from drgn_vmemmap.hugetlb.tail_frames import TailFrames
from drgn_vmemmap.hvo.verdict import Ranges, ranges
from drgn_vmemmap.kernel.layout import ZONE
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from drgn_vmemmap.vmemmap.tables import VmemmapTables

# Bytes that one table of the second level maps: all walks to them go through the same tables above.
_DIRECTORY_SPAN = 1 << 30

# The most mappers of a frame that are named: a zone's tail frame has all folios of the zone.
_MAPPERS_LIMIT = 8


class Mapper(NamedTuple):
    """Vmemmap that a frame backs: pages of one folio, or adjacent pages that are of none."""

    address: int
    """Virtual address in bytes of the first page."""
    pfns: tuple[int, int]
    """First and last PFN that the pages describe, even if only in part."""
    folio: int | None
    """Head PFN."""
    pages: Ranges
    """Indices in the folio; empty without one."""


@dataclass
class ReverseMap:
    """All vmemmap that one frame backs."""

    mappers: list[Mapper] = field(default_factory=list)
    """The first ones, in ascending order."""
    count: int = 0
    """How many there are in all."""
    pages: int = 0
    """How many vmemmap pages they have."""
    keeper: str = ""
    """The zone that keeps the frame for shared tails, in words."""
    last: int | None = None
    """Head PFN of the last mapper, whether it is among the first ones or not."""
    end: int = 0
    """Number of the vmemmap page after the last mapper."""
    table: tuple[str, int] | None = None
    """
    If the frame is a page table over the vmemmap: its level, and the first address that it maps.
    """


class Mappers:
    """Finds the vmemmap pages that frames back; what was found is kept."""

    def __init__(
        self, snapshot: Snapshot, folios: Folios, sections: Sequence[SectionRange]
    ) -> None:
        """
        :param folios: All folios of the kernel, in ascending order.
        :param sections: All sections that have a memmap, in ascending order.
        """
        self._snapshot = snapshot
        self._layout = snapshot.kernel.hvo.layout
        self._walker = snapshot.walker
        self._geometry = snapshot.geometry
        self._folios = folios
        self._sections = sections
        self._tail_frames = TailFrames(snapshot)
        self._known: dict[int, ReverseMap] = {}
        self.complete = True
        """Whether all page tables of the vmemmap could be read so far."""

    def of(self, frame: int) -> ReverseMap:
        """
        The vmemmap that a frame backs.

        :param frame: Its PFN.
        """
        if frame not in self._known:
            self.find({frame})
        return self._known[frame]

    def find(self, frames: Iterable[int]) -> None:
        """
        Find the mappers of several frames in one pass, which costs as much as that of one.

        :param frames: Their PFNs.
        """
        wanted = set(frames).difference(self._known)
        if not wanted:
            return
        self._known.update({frame: ReverseMap() for frame in wanted})
        tables = VmemmapTables(self._snapshot, self._sections)
        cursor = FolioCursor(self._folios, self._geometry)
        directory = -1
        for run, first, _ in tables.walk():
            self.complete &= bool(run.raw)
            if run.start // _DIRECTORY_SPAN != directory or self._table(run) in wanted:
                directory = run.start // _DIRECTORY_SPAN
                self._add_tables(run, wanted)
            mapped = self._frames(run)
            found = wanted.intersection(mapped) if run.is_last_level else _within(wanted, mapped)
            if found:
                parts = list(cursor.parts(range(first, first + run.pages)))
                for frame in sorted(found):
                    self._add_pages(frame, _pages_with(frame, first, mapped), parts)
        self.complete &= not tables.endless

    def _table(self, run: Run) -> int:
        """PFN of the page table with the entries of a run."""
        return run.raw_address >> self._geometry.page_shift

    def _add_tables(self, run: Run, wanted: set[int]) -> None:
        """Note which of some frames are page tables on the walk to a run."""
        for step in self._walker.steps(run.start):
            frame = step.raw_address >> self._geometry.page_shift
            if frame in wanted and self._known[frame].table is None:
                self._known[frame].table = step.level.name, run.start

    def is_reuse_frame(self, frame: int, folio: Folio) -> bool:
        """Whether a frame is the one that a folio's remapped vmemmap pages share, or should."""
        if self._layout.reuse_from is ZONE:
            return self._is_kept_for(frame, folio)
        page = self._geometry.page_number(folio.pfn) + self._layout.reuse_from
        return self._walker.entry(self._geometry.page_number_address(page)).frame == frame

    def _frames(self, run: Run) -> Sequence[int | None]:
        """Frames that the pages of a run are mapped to; none for a hole, however large."""
        if run.is_last_level:
            return self._walker.frames(run)
        frame = self._walker.first_frame(run)
        return () if frame is None else range(frame, frame + run.pages)

    def _add_pages(
        self, frame: int, found: Iterable[range], parts: Sequence[tuple[int | None, range]]
    ) -> None:
        """
        Add vmemmap pages that are mapped to a frame.

        :param found: Numbers of these pages.
        :param parts: What the vmemmap around them describes.
        """
        starts = [part.start for _, part in parts]
        for adjacent in found:
            for row, part in parts[bisect_right(starts, adjacent.start) - 1 :]:
                if part.start >= adjacent.stop:
                    break
                pages = range(max(adjacent.start, part.start), min(adjacent.stop, part.stop))
                self._add_mapper(frame, None if row is None else self._folios[row], pages)

    def _add_mapper(self, frame: int, folio: Folio | None, pages: range) -> None:
        mapping = self._known[frame]
        mapper = self._mapper(folio, pages)
        continues = mapper.folio == mapping.last and (
            folio is not None or pages.start == mapping.end
        )
        mapping.pages += len(pages)
        mapping.last, mapping.end = mapper.folio, pages.stop
        if mapping.count and continues:
            if mapping.count == len(mapping.mappers):
                mapping.mappers[-1] = _joined(mapping.mappers[-1], mapper)
            return
        mapping.count += 1
        if len(mapping.mappers) < _MAPPERS_LIMIT:
            mapping.mappers.append(mapper)
        if folio is not None and not mapping.keeper and self._is_kept_for(frame, folio):
            mapping.keeper = (
                f"zone {folio.zone} of node {folio.node}, for the tails of folios of order "
                f"{folio.order}"
            )

    def _mapper(self, folio: Folio | None, pages: range) -> Mapper:
        address = self._geometry.page_number_address(pages.start)
        pfns = self._geometry.pfns_of(pages)
        described = (pfns.start, pfns.stop - 1)
        if folio is None:
            return Mapper(address, described, None, ())
        start = self._geometry.page_number(folio.pfn)
        indices = ((pages.start - start, pages.stop - 1 - start),)
        return Mapper(address, described, folio.pfn, indices)

    def _is_kept_for(self, frame: int, folio: Folio) -> bool:
        return frame in (self._tail_frames.acceptable(folio) or ())


def _within(frames: set[int], mapped: Sequence[int | None]) -> list[int]:
    """The frames that a large leaf maps, of some that are much fewer than its pages."""
    return [frame for frame in frames if frame in mapped]


def _pages_with(frame: int, first: int, mapped: Sequence[int | None]) -> list[range]:
    """
    Numbers of adjacent vmemmap pages that are mapped to a frame.

    :param first: Number of the vmemmap page that is mapped to the first of *mapped*.
    """
    if isinstance(mapped, range):
        page = first + mapped.index(frame)
        return [range(page, page + 1)]
    found = ranges(index for index, other in enumerate(mapped) if other == frame)
    return [range(first + start, first + last + 1) for start, last in found]


def _joined(first: Mapper, second: Mapper) -> Mapper:
    """Two mappers of one frame, the second later in the same folio or right after the first."""
    return first._replace(
        pfns=(first.pfns[0], second.pfns[1]), pages=_joined_ranges(first.pages, second.pages)
    )


def _joined_ranges(first: Ranges, second: Ranges) -> Ranges:
    if first and first[-1][1] + 1 == second[0][0]:
        return (*first[:-1], (first[-1][0], second[0][1]), *second[1:])
    return first + second
