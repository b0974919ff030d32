# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Whose a frame is, by its own struct page: whether the kernel may have data there.

Follows ``struct page`` of ``include/linux/mm_types.h`` and ``include/linux/page-flags.h``.
"""

from __future__ import annotations

import enum

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.vmemmap.frames import FrameReader
from drgn_vmemmap.vmemmap.owners import TAIL, OwnerKind, OwnerReader, head_of_tail
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# LIST_POISON1 and the like, and TAIL_MAPPING, are POISON_POINTER_DELTA and so much.
_POISON = 0xDEAD000000000000
_POISON_LIMIT = 0x10000

# Reference counts and node numbers are below, in all but the strangest kernels.
_COUNT_LIMIT = 1 << 20
_NODE_LIMIT = 64


class Owner(enum.Enum):
    """Whose a frame is."""

    KERNEL = "the kernel's"
    USER = "page cache or anonymous memory"
    SLAB = "slab memory"
    FREE = "in the buddy allocator"
    TAIL = "a tail of a compound page of the kernel's"
    HUGETLB = "a HugeTLB folio's"
    OTHER = "of a type that no data of the kernel's has"
    UNKNOWN = "not known"
    """Its struct page is not in the dump, or is none."""


def is_struct_page(kernel: Kernel, page: bytes) -> bool:
    """Whether some bytes can be a struct page: node, reference count and first pointer are sane."""
    return (
        kernel.page_flags.node(kernel.page.value(page, "flags")) < _NODE_LIMIT
        and _is_count(kernel.page.value(page, "refcount"))
        and _is_pointer(kernel.page.value(page, "compound_head"))
    )


def _is_count(value: int) -> bool:
    return value < _COUNT_LIMIT or value > 0xFFFFFFFF - _COUNT_LIMIT


def _is_pointer(value: int) -> bool:
    """Whether a word is a pointer of the kernel's, poisoned or null, or a tail's mask."""
    return not value or value >> 56 == 0xFF or _POISON <= value < _POISON + _POISON_LIMIT


_OWNERS = {
    OwnerKind.BUDDY: Owner.FREE,
    OwnerKind.COMPOUND_HEAD: Owner.KERNEL,
    OwnerKind.SLAB: Owner.SLAB,
    OwnerKind.PAGE_TABLE: Owner.KERNEL,
    OwnerKind.PAGE_CACHE: Owner.USER,
    OwnerKind.ANONYMOUS: Owner.USER,
    OwnerKind.MAPPED: Owner.USER,
    OwnerKind.LRU: Owner.USER,
}

# The page type of large allocations by kmalloc(). Of the others, zsmalloc's hold memory of users,
# and offline, guard and unaccepted pages hold nothing.
_KMALLOC = "large_kmalloc"


class FrameOwners:
    """Finds out whose frames are."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._frames = FrameReader(snapshot)
        self._owners = OwnerReader(snapshot)

    def owner(self, frame: int) -> Owner:
        """
        Whose a frame is.

        :param frame: Its PFN.
        """
        kernel = self._kernel
        try:
            page = self._snapshot.struct_pages(frame)
            second = self._snapshot.struct_pages(frame ^ 1)
        except MissingMemory:
            return Owner.UNKNOWN
        if not is_struct_page(kernel, page):
            return Owner.UNKNOWN
        if self._frames.free_block(frame) is not None:
            return Owner.FREE
        if kernel.head_test.matches(page) and kernel.hugetlb_test.matches(page + second):
            return Owner.HUGETLB
        owner = self._owners.at(page, 0)
        if owner is not None and owner.kind is OwnerKind.COMPOUND_TAIL:
            return self._owner_of_tail(frame, owner.detail)
        if owner is not None and owner.kind is OwnerKind.TYPED:
            name = kernel.page_marks.type_name(owner.detail)
            return Owner.KERNEL if name == _KMALLOC else Owner.OTHER
        if owner is not None:
            return _OWNERS[owner.kind]
        # A mapping that is no pointer of the kernel's: nothing is known of such a page.
        has_mapping = "mapping" in kernel.page.members and kernel.page.value(page, "mapping")
        return Owner.USER if has_mapping else Owner.KERNEL

    def _owner_of_tail(self, frame: int, link: int) -> Owner:
        """
        Whose a tail is: its compound page's.

        :param link: Its raw ``compound_info``, or ``compound_head`` before v7.1.
        """
        head = head_of_tail(self._snapshot, frame, link)
        if head is None or not self._is_head(head):
            return Owner.OTHER
        owner = self.owner(head)
        return Owner.TAIL if owner in (Owner.KERNEL, Owner.SLAB, Owner.UNKNOWN) else owner

    def _is_head(self, pfn: int) -> bool:
        """Whether a PFN is the head of a compound page, for all that the dump shows."""
        try:
            page = self._snapshot.struct_pages(pfn)
        except MissingMemory:
            return True
        is_tail = self._kernel.page.value(page, "compound_head") & TAIL
        return self._kernel.head_test.matches(page) and not is_tail
