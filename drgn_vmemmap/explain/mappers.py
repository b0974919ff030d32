# SPDX-License-Identifier: LGPL-2.1-or-later

"""The reverse map: from a frame to the vmemmap pages that it backs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from drgn_vmemmap.hugetlb.folio import Folio, Folios
from drgn_vmemmap.hugetlb.tail_frames import TailFrames
from drgn_vmemmap.hvo.verdict import Ranges, ranges
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PTE
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# The vmemmap of 32 TiB of memory; more is page tables that lead in a circle.
_RUNS_LIMIT = 1 << 18

# So many mappers of a frame are named; a zone's tail frame has all folios of the zone.
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
    """Number of the vmemmap page after it."""


class Mappers:
    """Finds the vmemmap pages that frames back; what was found is kept."""

    def __init__(self, snapshot: Snapshot, folios: Folios) -> None:
        """
        :param folios: All folios of the kernel.
        """
        self._kernel = snapshot.kernel
        self._walker = snapshot.walker
        self._folios = folios
        self._tail_frames = TailFrames(snapshot, {each.order for each in folios.class_table})
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
        kernel = self._kernel
        end = kernel.page_address(kernel.paging.max_pfn) + PAGE_SIZE - 1 & -PAGE_SIZE
        runs = self._walker.walk(kernel.vmemmap, end)
        for run in islice(runs, _RUNS_LIMIT):
            self.complete &= bool(run.raw)
            self._add_run(run, wanted)
        self.complete &= next(runs, None) is None

    def is_reuse_frame(self, frame: int, folio: Folio) -> bool:
        """Whether a frame is the one that a folio's remapped vmemmap pages share, or should."""
        layout = self._kernel.hvo.layout
        if layout is Layout.SHARED_TAIL:
            return self._is_kept_for(frame, folio)
        address = self._kernel.page_address(folio.pfn) + (layout.kept - 1) * PAGE_SIZE
        return self._walker.entry(address).frame == frame

    def _add_run(self, run: Run, wanted: set[int]) -> None:
        mapped = self._frames(run)
        first = (run.start - self._kernel.vmemmap) >> PAGE_SHIFT
        for frame in sorted(wanted.intersection(mapped) if run.level is PTE else wanted):
            if frame in mapped:
                self._add_pages(frame, first, mapped)

    def _frames(self, run: Run) -> Sequence[int | None]:
        """Frames that the pages of a run are mapped to; none for a hole, however large."""
        if run.level is PTE:
            return self._walker.frames(run)
        entry = self._walker.entry(run.start)
        if entry.frame is None:
            return ()
        return range(entry.frame, entry.frame + run.pages)

    def _add_pages(self, frame: int, first: int, mapped: Sequence[int | None]) -> None:
        """
        :param first: Number of the vmemmap page that is mapped to the first of *mapped*.
        """
        if isinstance(mapped, range):
            found: Ranges = ((mapped.index(frame),) * 2,)
        else:
            found = ranges(index for index, other in enumerate(mapped) if other == frame)
        for start, last in found:
            adjacent = range(first + start, first + last + 1)
            while adjacent:
                folio, end = self._described(adjacent.start)
                part = range(adjacent.start, min(end, adjacent.stop))
                self._add_mapper(frame, folio, part)
                adjacent = range(part.stop, adjacent.stop)

    def _described(self, page: int) -> tuple[Folio | None, int]:
        """
        :param page: Number of a vmemmap page.
        :return: The folio that it describes, and the first page after that folio; without a
            folio, the first page of the next one.
        """
        kernel, folios = self._kernel, self._folios
        pfn = page * PAGE_SIZE // kernel.page.size
        row = folios.row_at(pfn)
        if row is not None:
            folio = folios[row]
            pages = kernel.vmemmap_pages(folio.order)
            return folio, max(page + 1, self._page_number(folio.pfn) + pages)
        row = bisect_right(folios.pfns, pfn)
        end = folios.pfns[row] if row < len(folios) else kernel.paging.max_pfn
        return None, max(page + 1, self._page_number(end))

    def _page_number(self, pfn: int) -> int:
        """Number of the vmemmap page in which a struct page begins."""
        return pfn * self._kernel.page.size >> PAGE_SHIFT

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
        size = self._kernel.page.size
        pfns = pages.start * PAGE_SIZE // size, (pages.stop * PAGE_SIZE - 1) // size
        address = self._kernel.vmemmap + pages.start * PAGE_SIZE
        if folio is None:
            return Mapper(address, pfns, None, ())
        start = self._page_number(folio.pfn)
        return Mapper(address, pfns, folio.pfn, ((pages.start - start, pages.stop - 1 - start),))

    def _is_kept_for(self, frame: int, folio: Folio) -> bool:
        return frame in (self._tail_frames.acceptable(folio) or ())


def _joined(first: Mapper, second: Mapper) -> Mapper:
    """Two mappers of one frame, the second later in the same folio or right after the first."""
    return first._replace(
        pfns=(first.pfns[0], second.pfns[1]), pages=_joined_ranges(first.pages, second.pages)
    )


def _joined_ranges(first: Ranges, second: Ranges) -> Ranges:
    if first and second and first[-1][1] + 1 == second[0][0]:
        return (*first[:-1], (first[-1][0], second[0][1]), *second[1:])
    return first + second
