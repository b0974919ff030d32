# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The frames themselves: whether they are in use, by their own struct pages.

Follows ``struct page`` of ``include/linux/mm_types.h`` and the buddy allocator of
``mm/page_alloc.c``.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.structs import Member
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# MAX_PAGE_ORDER: the buddy allocator's largest blocks have so many pages, as a power of two.
_MAX_ORDER = 10

# A vmemmap page that is mapped by a large leaf may be of an unsplit block of this order.
_LEAF_ORDER = 9


class Block(NamedTuple):
    """A free block of the buddy allocator."""

    pfn: int
    order: int


class Free(NamedTuple):
    """A frame that is not in use."""

    frame: int
    block: Block | None
    """The free block that it is in; ``None`` if its reference count alone is 0."""


class Unknown(NamedTuple):
    """A frame whose struct page is not in the dump."""

    frame: int


class PageReader:
    """Reads the struct pages of many frames."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        geometry = snapshot.geometry
        size = geometry.struct_size
        # Struct pages that cross the pages' edges are read one by one.
        self._together = 1 if size & (size - 1) else geometry.page_size // size

    def unused(self, frames: Sequence[int]) -> Iterator[Free | Unknown]:
        """
        Frames that last-level entries map, and that are not in use.

        :param frames: PFNs, ascending.
        """
        refcounts = self._column("refcount")
        start = 0
        while start < len(frames):
            first = frames[start] // self._together * self._together
            end = bisect_left(frames, first + self._together, start)
            try:
                counts = refcounts.unpack(self._pages(first))
            except MissingMemory:
                yield from map(Unknown, frames[start:end])
            else:
                # Fast path: if no page here has refcount 0, none is unused.
                if 0 in counts:
                    for frame in frames[start:end]:
                        if counts[frame - first] == 0 and not self._is_of_unsplit_block(frame):
                            yield Free(frame, self.free_block(frame))
            start = end

    def free_under_leaf(self, frame: int, count: int) -> Iterator[Free | Unknown]:
        """
        The first of a large leaf's frames that the buddy allocator has.

        Their reference counts are not checked: an unsplit block has only one.

        :param frame: PFN of the leaf's first frame.
        :param count: How many frames it maps.
        """
        mark = self._kernel.buddy_test
        if mark is None:
            return
        types = self._column("page_type")
        for first in range(frame // self._together * self._together, frame + count, self._together):
            try:
                found = types.unpack(self._pages(first))
            except MissingMemory:
                yield Unknown(first)
                return
            for page_type in set(found):
                if page_type & mark.mask == mark.value:
                    pfn = max(frame, first + found.index(page_type))
                    yield Free(pfn, self.free_block(pfn))
                    return
        block = self.free_block(frame)
        if block is not None:
            yield Free(frame, block)

    def free_block(self, frame: int) -> Block | None:
        """The free block that a frame is in; only its first page is marked."""
        mark = self._kernel.buddy_test
        if mark is None:
            return None
        for order in range(_MAX_ORDER + 1):
            pfn = frame >> order << order
            try:
                page = self._page(pfn)
            except MissingMemory:
                continue
            if mark.matches(page):
                size = self._kernel.page.value(page, "private")
                if order <= size <= _MAX_ORDER and pfn % (1 << size) == 0:
                    return Block(pfn, size)
        return None

    def _is_of_unsplit_block(self, frame: int) -> bool:
        """
        Whether a frame with refcount 0 is of a block that was allocated at once and never split.

        Hot-plugged vmemmap can be: its first page has a count, and the 511 others have none.
        """
        pfn = frame >> _LEAF_ORDER << _LEAF_ORDER
        refcount = self._column("refcount")
        counts: list[int] = []
        for first in range(pfn, pfn + (1 << _LEAF_ORDER), self._together):
            try:
                counts += refcount.unpack(self._pages(first))
            except MissingMemory:
                return False
        return counts[0] > 0 and not any(counts[1:]) and self.free_block(pfn) is None

    def _column(self, name: str) -> struct.Struct:
        """Unpacks one member of each of the struct pages that are read together."""
        member: Member = self._kernel.page.members[name]
        after = self._kernel.page.size - member.offset - member.size
        return struct.Struct("<" + f"{member.offset}xI{after}x" * self._together)

    def _pages(self, pfn: int) -> bytes:
        return self._snapshot.struct_pages(pfn, self._together)

    def _page(self, pfn: int) -> bytes:
        return self._snapshot.struct_pages(pfn)
