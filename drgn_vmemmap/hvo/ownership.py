# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The ownership of frames: which page of the vmemmap owns which frame.

Pages that share their reuse frame as they should own it together; every other frame that backs
the vmemmap belongs to one page.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from drgn_vmemmap.paging.mapping import Run

ZONE_OWNER = -1
"""In place of a vmemmap page's number: the zone that keeps the frame for tails is its owner."""


class LargeLeaf(NamedTuple):
    """Vmemmap that is mapped by a large leaf."""

    frame: int
    """PFN of the first frame."""
    page: int
    """Number of the first vmemmap page."""
    pages: int
    """How many pages it maps, to as many frames."""

    @property
    def end(self) -> int:
        """PFN after its last frame."""
        return self.frame + self.pages

    def page_of(self, frame: int) -> int:
        """Number of the vmemmap page that it maps to a frame."""
        return self.page + frame - self.frame

    def frames_among(self, frames: Sequence[int]) -> Sequence[int]:
        """
        :param frames: PFNs, ascending.
        :return: Those of the frames that it maps.
        """
        start = bisect_left(frames, self.frame)
        return frames[start : bisect_left(frames, self.end, start)]


class Ownership:
    """
    Who owns the frames that back the vmemmap.

    A vmemmap page is named by its number, counted from the address of PFN 0's struct page.
    """

    def __init__(self) -> None:
        self.frames = array("q")
        """PFNs of the frames that last-level entries map, once for each owner."""
        self.pages = array("q")
        """The owners: numbers of vmemmap pages, or :data:`ZONE_OWNER`."""
        self.leaves: list[LargeLeaf] = []
        self.tables: dict[int, int] = {}
        """PFNs of the page tables whose entries map vmemmap, and the first page that each maps."""
        self._starts = array("q")
        """First pages of the stretches that describe no HugeTLB folio."""
        self._ends = array("q")
        """The first pages after them."""
        self.read_only: list[range] = []
        """Read-only vmemmap that describes no HugeTLB folio: single pages, and large leaves."""
        self.absent: list[range] = []
        """Vmemmap pages of no HugeTLB folio that have to be mapped to memory, and are not."""
        self.unreadable: list[Run] = []
        """Where page tables are not in the dump."""
        self.endless = False
        """More is mapped than there can be: tables lead in a circle."""

    @cached_property
    def distinct_frames(self) -> list[int]:
        """PFNs of the frames that last-level entries map, each once, ascending."""
        return sorted(set(self.frames))

    def shared(self) -> dict[int, list[int]]:
        """Frames with more than one owner, and their owners."""
        frames = sorted(self._shared_by_entries())
        owners: dict[int, list[int]] = {frame: [] for frame in frames}
        for frame, page in zip(self.frames, self.pages) if frames else ():
            if frame in owners:
                owners[frame].append(page)
        for leaf in self.leaves:
            for frame in leaf.frames_among(frames):
                owners[frame].append(leaf.page_of(frame))
        for frame, pages in self._shared_by_leaves().items():
            known = owners.setdefault(frame, [])
            known += sorted(set(pages).difference(known))
        return owners

    def _shared_by_entries(self) -> set[int]:
        """PFNs of the frames that two last-level entries map, or such an entry and a leaf."""
        distinct, frames = self.distinct_frames, set[int]()
        if len(distinct) < len(self.frames):
            ordered = sorted(self.frames)
            frames.update(one for one, other in zip(ordered, ordered[1:]) if one == other)
        for leaf in self.leaves:
            frames.update(leaf.frames_among(distinct))
        return frames

    def _shared_by_leaves(self) -> dict[int, list[int]]:
        """The first frame that each leaf has in common with another one, and its owners."""
        owners: dict[int, list[int]] = {}
        farthest: LargeLeaf | None = None
        for leaf in sorted(self.leaves):
            if farthest is not None and leaf.frame < farthest.end:
                first = farthest.page_of(leaf.frame)
                owners.setdefault(leaf.frame, [first]).append(leaf.page)
            if farthest is None or leaf.end > farthest.end:
                farthest = leaf
        return owners

    def frame_count(self) -> int:
        """How many frames back the vmemmap."""
        return len(self.distinct_frames) + sum(leaf.pages for leaf in self.leaves)

    def add_of_no_folio(self, pages: range) -> None:
        """
        :param pages: Vmemmap pages of one table that describe no HugeTLB folio, after all others.
        """
        self._starts.append(pages.start)
        self._ends.append(pages.stop)

    def of_no_folio(self) -> list[range]:
        """Vmemmap pages that describe no HugeTLB folio, those of each table apart; ascending."""
        return list(map(range, self._starts, self._ends))

    def is_of_no_folio(self, page: int) -> bool:
        """Whether a vmemmap page describes no HugeTLB folio."""
        index = bisect_right(self._starts, page) - 1
        return index >= 0 and page < self._ends[index]
