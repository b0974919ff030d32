# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The owners of frames: what uses a page, by its own struct page.

Follows ``struct page`` of ``include/linux/mm_types.h`` and the flags and page types of
``include/linux/page-flags.h``. A mark that no page of the vmemmap can have shows another owner;
a struct page without marks shows none.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.vmemmap.snapshot import Snapshot

TAIL = 1 << 0
"""Of ``compound_head``: this is a tail page."""
POISON = (1 << 64) - 1
"""Flags of a struct page that is not in use, by ``page_init_poison()``."""
_MAPPING_ANON = 1 << 0
"""``PAGE_MAPPING_ANON`` of ``mapping``."""
_MAPPING_MOVABLE = 1 << 1
"""``PAGE_MAPPING_MOVABLE``; together with ``PAGE_MAPPING_ANON``, it marks pages of KSM."""
NO_PAGE_TYPE = 0xFFFFFFFF
"""``page_type`` of a page without one that no process maps."""
NO_TAIL = bytes(range(0, 256, 2))
"""Values of the lowest byte of ``compound_head`` that no tail has."""
_PAGE_POOL = 0xDEAD000000000040
"""``PP_SIGNATURE``, where ``compound_head`` is: a network driver's page pool has the page."""
_PAGE_POOL_OTHER_BITS = ((1 << 32) - 1) << 7 | 3
"""Beside it: flags, and an index among pages mapped for DMA (``netmem_set_dma_index()``)."""
_PLAIN_LINKS = bytes(byte for byte in NO_TAIL if byte & 0x7C != _PAGE_POOL & 0x7C)
"""Values of the lowest byte of ``compound_head`` that no tail has, and no page of a page pool."""
_KERNEL_HALF = 0xFF << 56
"""Kernel addresses have these bits set."""


class OwnerKind(enum.Enum):
    """Users of pages, other than the vmemmap and its page tables."""

    BUDDY = "the buddy allocator"
    COMPOUND_TAIL = "a compound page, as a tail"
    COMPOUND_HEAD = "a compound page, as its head"
    SLAB = "slab"
    PAGE_TABLE = "page tables"
    PAGE_CACHE = "the page cache"
    ANONYMOUS = "anonymous memory"
    MOVABLE = "a driver that can move it, such as zsmalloc"
    MAPPED = "processes that map it"
    LRU = "an LRU list of page reclaim"
    PAGE_POOL = "a network driver's page pool"
    CHARGED = "a memory cgroup that is charged for it"
    TYPED = "a user with a page type of its own"
    FAILED = "nobody, as its memory failed"


class FrameOwner(NamedTuple):
    """The user of a frame, by the frame's own struct page."""

    kind: OwnerKind
    detail: int = 0
    """
    A tail's raw ``compound_head``, the raw ``mapping`` of page cache or anonymous memory, the
    number of mappings, the raw page type, the raw ``memcg_data``.
    """


class _Members(NamedTuple):
    """
    The members of a struct page that say what uses it.

    One that this kernel does not have is as in the struct page of an unused page.
    """

    flags: int
    compound_head: int
    mapping: int = 0
    page_type: int = NO_PAGE_TYPE
    memcg_data: int = 0


class OwnerReader:
    """Classifies frames by their own struct pages."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._names, self._format = _members_format(snapshot.kernel)
        self._known: dict[tuple[int, ...], FrameOwner | None] = {}
        """Owners by the members that they follow from: frames of one use are all alike."""

    def are_plain(self, pages: bytes) -> bool:
        """
        Whether consecutive frames are all alike, and none has a mark of an owner.

        The result may be false although that is so, never true although it is not.

        :param pages: Their struct pages.
        """
        page = self._kernel.page
        if page.size % 8 or self.at(pages, 0) is not None:
            return False
        count, words = len(pages) // page.size, memoryview(pages).cast("Q")

        def column(name: str) -> bytes:
            return words[page.offset(name) // 8 :: page.size // 8].tobytes()

        flags, link = page.offset("flags"), page.offset("compound_head")
        if column("flags") != pages[flags : flags + 8] * count:
            return False
        if pages[link :: page.size].translate(None, _PLAIN_LINKS):
            return False
        zeros = bytes(8 * count)
        if any(column(n) != zeros for n in ("mapping", "memcg_data") if n in page.members):
            return False
        if "page_type" not in page.members:
            return True
        halves = memoryview(pages).cast("I")
        types = halves[page.offset("page_type") // 4 :: page.size // 4].tobytes()
        return types == b"\xff" * len(types)

    def at(self, pages: bytes, index: int) -> FrameOwner | None:
        """
        What uses a frame, as far as its struct page has a mark of it.

        :param pages: Consecutive struct pages.
        :param index: Index of the frame's struct page among them.
        """
        values = self._format.unpack_from(pages, index * self._kernel.page.size)
        if values not in self._known:
            members = _Members(**dict(zip(self._names, values)))
            self._known[values] = _classify(self._kernel, members)
        return self._known[values]

    def owner(self, frame: int) -> FrameOwner | None:
        """
        What uses a frame, as far as its struct page has a mark of it.

        :param frame: PFN.
        :return: ``None`` if there is no mark: kernel memory, such as the vmemmap itself.
        :raises MissingMemory: if its struct page is not in the dump.
        """
        return self.at(self._snapshot.struct_pages(frame), 0)

    def describe(self, frame: int, owner: FrameOwner) -> str:
        """
        An owner in words, with what is known of it.

        :param frame: PFN that it owns.
        """
        kind, detail = owner
        if kind is OwnerKind.COMPOUND_TAIL:
            head = head_of_tail(self._snapshot, frame, detail)
            where = "outside the memmap" if head is None else f"at PFN {head:#x}"
            return f"{kind.value} (compound_head leads to the head {where})"
        if kind in (OwnerKind.PAGE_CACHE, OwnerKind.ANONYMOUS, OwnerKind.MOVABLE):
            return f"{kind.value} (mapping {detail:#x})"
        if kind is OwnerKind.CHARGED:
            return f"{kind.value} (memcg_data {detail:#x})"
        if kind is OwnerKind.MAPPED:
            return f"{kind.value} ({detail} times)"
        if kind is OwnerKind.TYPED:
            return f"{kind.value} ({self._kernel.page_marks.type_name(detail)})"
        return str(kind.value)


def is_of_page_pool(link: int) -> bool:
    """
    Whether a page belongs to a page pool of ``net/core/page_pool.c``.

    :param link: Its raw ``compound_head``, which is its ``pp_magic``, too.
    """
    return link & ~_PAGE_POOL_OTHER_BITS == _PAGE_POOL


def head_of_tail(snapshot: Snapshot, pfn: int, link: int) -> int | None:
    """
    PFN of the head that a tail leads to; ``None`` if it leads out of the memmap.

    Follows ``compound_head()`` of ``include/linux/page-flags.h``.

    :param pfn: Of the tail.
    :param link: Its raw ``compound_info``, or ``compound_head`` before v7.1.
    """
    geometry, pointer = snapshot.geometry, link & ~TAIL
    if snapshot.kernel.tails_hold_mask:
        # The head's struct page is aligned to the size of all of the folio's.
        pointer &= geometry.address(pfn)
    return geometry.pfn_of(pointer)


def _classify(kernel: Kernel, members: _Members) -> FrameOwner | None:
    """The user of a page with these members; ``None`` if none of them is a mark of an owner."""
    flags, link, mapping, page_type, memcg_data = members
    # Poisoned by page_init_poison(), or not recorded in an extract: nothing was written here.
    if flags == POISON or not any(members):
        return None
    masks, name = kernel.page_marks, kernel.page_marks.type_name(page_type)
    if name == "buddy":
        return FrameOwner(OwnerKind.BUDDY)
    if link & TAIL:
        return FrameOwner(OwnerKind.COMPOUND_TAIL, link)
    if name == "slab" or flags & masks.slab:
        return FrameOwner(OwnerKind.SLAB)
    # The type of HugeTLB folios without PG_head is what a restore may leave. A kernel whose
    # page tables have a type by another name has types that are not known.
    are_known = "table" in masks.type_names.values()
    if name not in (None, "hugetlb", "table") and are_known:
        return FrameOwner(OwnerKind.TYPED, page_type)
    if mapping & _KERNEL_HALF == _KERNEL_HALF:
        kind = OwnerKind.MOVABLE if mapping & _MAPPING_MOVABLE else OwnerKind.PAGE_CACHE
        return FrameOwner(OwnerKind.ANONYMOUS if mapping & _MAPPING_ANON else kind, mapping)
    if flags & kernel.head_test.value:
        return FrameOwner(OwnerKind.COMPOUND_HEAD)
    if flags & masks.lru:
        return FrameOwner(OwnerKind.LRU)
    if flags & kernel.poison.flag:
        return FrameOwner(OwnerKind.FAILED)
    if is_of_page_pool(link):
        return FrameOwner(OwnerKind.PAGE_POOL)
    # The kernel charges nobody for the vmemmap and its page tables. It does for a process's page
    # tables and stacks, and for pipes.
    if memcg_data & _KERNEL_HALF == _KERNEL_HALF:
        return FrameOwner(OwnerKind.CHARGED, memcg_data)
    # Checked after all others: page tables over the vmemmap have this type, too.
    if name == "table":
        return FrameOwner(OwnerKind.PAGE_TABLE)
    # Without a type, it is a count of mappings, from -1 on.
    if name is None and page_type < 1 << 31:
        return FrameOwner(OwnerKind.MAPPED, page_type + 1)
    return None


def _members_format(kernel: Kernel) -> tuple[list[str], struct.Struct]:
    """The members that a kernel's struct page has, and what unpacks them from it."""
    present = (name for name in _Members._fields if name in kernel.page.members)
    names = sorted(present, key=kernel.page.offset)
    form, end = "<", 0
    for name in names:
        member = kernel.page.members[name]
        form += f"{member.offset - end}x" + ("Q" if member.size == 8 else "I")
        end = member.offset + member.size
    return names, struct.Struct(form)
