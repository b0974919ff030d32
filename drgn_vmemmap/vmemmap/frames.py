# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Frames: whether each is in use, and by what, according to its own struct page.

Follows ``struct page`` of ``include/linux/mm_types.h`` and the buddy allocator of
``mm/page_alloc.c``.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Union

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.vmemmap.owners import FrameOwner, OwnerKind, OwnerReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot

MAX_PAGE_ORDER = 10
"""The order of the buddy allocator's largest blocks: larger folios do not come from it."""

# A vmemmap page that is mapped by a large leaf may be of an unsplit block of this order.
_LEAF_ORDER = 9


class Block(NamedTuple):
    """A free block of the buddy allocator."""

    pfn: int
    order: int

    @property
    def end(self) -> int:
        """PFN after its last page."""
        return self.pfn + (1 << self.order)


class Free(NamedTuple):
    """A frame that is not in use."""

    frame: int
    block: Block | None
    """The free block that it is in; ``None`` if only its reference count is 0."""


class Foreign(NamedTuple):
    """A frame that belongs to something else than the vmemmap."""

    frame: int
    owner: str
    """In words."""


class Failed(NamedTuple):
    """A frame whose memory failed (``PG_hwpoison``)."""

    frame: int


class Unknown(NamedTuple):
    """A frame whose struct page is not in the dump."""

    frame: int


FrameFault = Union[Free, Foreign, Failed]
"""A known fault of a frame."""

FrameProblem = Union[FrameFault, Unknown]


class FrameReader:
    """Checks frames by their own struct pages, many together."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._owners = OwnerReader(snapshot)
        geometry = snapshot.geometry
        # Struct pages that may lie in two pages are read one by one.
        self._together = geometry.page_size // geometry.struct_size if geometry.is_aligned else 1
        self._counts = self._counts_reader()
        self._unsplit: dict[int, bool | None] = {}
        self._blocks: dict[int, Block | None] = {}
        """Free blocks by the PFNs at which they may begin: adjacent frames ask for the same."""

    def check(self, frames: Sequence[int]) -> Iterator[FrameProblem]:
        """
        Frames that last-level entries map, and that are not in use, or used by something else.

        :param frames: PFNs, ascending.
        """
        for first, pages, group in self._groups(frames):
            if pages is None:
                yield from map(Unknown, group)
                continue
            counts = self._counts(pages)
            # Fast path: all pages here are referenced, and none says whose it is.
            if 0 in counts or not self._owners.are_plain(pages):
                for frame in group:
                    problem = self._problem(frame, pages, frame - first, counts[frame - first])
                    if problem is not None:
                        yield problem

    def check_tables(self, tables: Sequence[int]) -> Iterator[FrameProblem]:
        """
        Page tables that are free, or used by something else.

        Recent kernels mark page tables of the kernel as such. One without that mark and without
        a reference is on its way to the allocator: it was freed to a list of its CPU.

        :param tables: PFNs, ascending.
        """
        for first, pages, group in self._groups(tables):
            if pages is None:
                yield from map(Unknown, group)
                continue
            for table in group:
                owner = self._owners.at(pages, table - first)
                if owner is None:
                    block = self.free_block(table)
                    if block is not None or self.is_released(self._one_of(pages, table - first)):
                        yield Free(table, block)
                elif owner.kind is OwnerKind.BUDDY:
                    yield self._free(table)
                elif owner.kind is not OwnerKind.PAGE_TABLE:
                    yield self._owned(table, owner)

    def _one_of(self, pages: bytes, index: int) -> bytes:
        """One of some consecutive struct pages."""
        size = self._kernel.page.size
        return pages[index * size : (index + 1) * size]

    def is_released(self, page: bytes) -> bool:
        """Whether a struct page has no reference, and was written: it is not all zeros."""
        layout = self._kernel.page
        return "refcount" in layout.members and not layout.value(page, "refcount") and any(page)

    def check_leaf(self, frame: int, count: int) -> Iterator[FrameProblem]:
        """
        A large leaf's frames that are free, or used by something else.

        Their reference counts are not checked: an unsplit block has only one.

        :param frame: PFN of the leaf's first frame.
        :param count: How many frames it maps.
        """
        block = self.free_block(frame)
        for frames in self._readable_together(frame, count):
            try:
                pages = self._snapshot.struct_pages(frames.start, len(frames))
            except MissingMemory:
                yield from map(Unknown, frames)
                continue
            in_block = block is not None and frames.start < block.end
            if not in_block and self._owners.are_plain(pages):
                continue
            for index, pfn in enumerate(frames):
                owner = self._owners.at(pages, index)
                if owner is not None and owner.kind is OwnerKind.BUDDY:
                    block = self.free_block(pfn) or Block(pfn, 0)
                if block is not None and pfn < block.end:
                    yield Free(pfn, block)
                elif owner is not None:
                    yield self._owned(pfn, owner)

    def _readable_together(self, frame: int, count: int) -> list[range]:
        """Consecutive frames, in pieces whose struct pages are in the dump, or are not."""
        try:
            self._snapshot.struct_pages(frame, count)
        except MissingMemory:
            starts = range(frame, frame + count, self._together)
            return [range(start, min(start + self._together, frame + count)) for start in starts]
        return [range(frame, frame + count)]

    def _groups(self, frames: Sequence[int]) -> Iterator[tuple[int, bytes | None, Sequence[int]]]:
        """
        Frames whose struct pages are read together.

        :param frames: PFNs, ascending.
        :return: PFN of the first struct page that is read, the struct pages, and the frames;
            ``None`` for struct pages that are not in the dump.
        """
        start = 0
        while start < len(frames):
            first = frames[start] // self._together * self._together
            end = bisect_left(frames, first + self._together, start)
            try:
                pages: bytes | None = self._pages(first)
            except MissingMemory:
                pages = None
            yield first, pages, frames[start:end]
            start = end

    def _problem(self, frame: int, pages: bytes, index: int, count: int) -> FrameProblem | None:
        """
        What is wrong with a frame that a last-level entry maps.

        :param pages: Struct pages, with its own at an index.
        :param count: Its reference count.
        """
        owner = self._owners.at(pages, index)
        if owner is not None:
            if owner.kind is OwnerKind.BUDDY:
                return self._free(frame)
            return self._owned(frame, owner)
        if count:
            return None
        is_of_unsplit_block = self.is_of_unsplit_block(frame)
        if is_of_unsplit_block is None:
            return Unknown(frame)
        return None if is_of_unsplit_block else Free(frame, self.free_block(frame))

    def _owned(self, frame: int, owner: FrameOwner) -> Foreign | Failed:
        if owner.kind is OwnerKind.FAILED:
            return Failed(frame)
        return Foreign(frame, self._owners.describe(frame, owner))

    def _free(self, frame: int) -> Free:
        """A frame that is marked as the first of a free block."""
        return Free(frame, self.free_block(frame) or Block(frame, 0))

    def free_block(self, frame: int) -> Block | None:
        """The free block that a frame is in; only its first page is marked."""
        if self._kernel.buddy_test is None:
            return None
        for order in range(MAX_PAGE_ORDER + 1):
            block = self._block_at(frame >> order << order)
            if block is not None and frame < block.end:
                return block
        return None

    def _block_at(self, pfn: int) -> Block | None:
        """The free block that begins at a PFN, as far as its struct page is in the dump."""
        if pfn not in self._blocks:
            self._blocks[pfn] = self._read_block(pfn)
        return self._blocks[pfn]

    def _read_block(self, pfn: int) -> Block | None:
        mark = self._kernel.buddy_test
        try:
            page = self._page(pfn)
        except MissingMemory:
            return None
        if mark is None or not mark.matches(page):
            return None
        order = self._kernel.page.value(page, "private")
        is_block = order <= MAX_PAGE_ORDER and pfn % (1 << order) == 0
        return Block(pfn, order) if is_block else None

    def is_of_unsplit_block(self, frame: int) -> bool | None:
        """
        Whether a frame with refcount 0 is of a block that was allocated at once and never split.

        Hot-plugged vmemmap can be: its first page has a count, and the 511 others have none.

        :return: ``None`` if struct pages that decide it are not in the dump.
        """
        pfn = frame >> _LEAF_ORDER << _LEAF_ORDER
        if pfn not in self._unsplit:
            self._unsplit[pfn] = self._is_unsplit_block(pfn)
        return self._unsplit[pfn]

    def _is_unsplit_block(self, pfn: int) -> bool | None:
        pages, is_complete = b"", True
        for first in range(pfn, pfn + (1 << _LEAF_ORDER), self._together):
            try:
                found = self._pages(first)
            except MissingMemory:
                is_complete = False
                continue
            counts = self._counts(found)
            has_head = first == pfn
            if any(counts[has_head:]) or (has_head and not counts[0]):
                return False
            pages += found
        if not is_complete:
            return None
        # If any of it is free, it was split.
        owners = (self._owners.at(pages, index) for index in range(1 << _LEAF_ORDER))
        return not any(owner and owner.kind is OwnerKind.BUDDY for owner in owners)

    def _counts_reader(self) -> Callable[[bytes], Sequence[int]]:
        """
        Reads the reference count of each of some struct pages.

        Where it was not recognised, each counts as in use.
        """
        page = self._kernel.page
        member = page.members.get("refcount")
        if member is None:
            in_use = (1,) * self._together
            return lambda _: in_use
        after = page.size - member.offset - member.size
        return struct.Struct("<" + f"{member.offset}xI{after}x" * self._together).unpack

    def _pages(self, pfn: int) -> bytes:
        return self._snapshot.struct_pages(pfn, self._together)

    def _page(self, pfn: int) -> bytes:
        return self._snapshot.struct_pages(pfn)
