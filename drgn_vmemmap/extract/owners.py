# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The owner of a frame, by its own struct page: whether the kernel may have data there.

Follows ``struct page`` of ``include/linux/mm_types.h`` and ``include/linux/page-flags.h``.
"""

from __future__ import annotations

import enum

from drgn_vmemmap.errors import CannotAnalyse, MissingMemory
from drgn_vmemmap.extract.content import is_poison
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.unrecognised import Part
from drgn_vmemmap.vmemmap.frames import FrameReader
from drgn_vmemmap.vmemmap.owners import TAIL, OwnerKind, OwnerReader, head_of_tail
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class Owner(enum.Enum):
    """The owner of a frame."""

    BOOT = "the kernel's from boot"
    KERNEL = "the kernel's"
    """In use, and without a mark of a user: also pages of drivers, and uncharged ones of pipes."""
    USER = "page cache, anonymous memory, received packets, or charged to a memory cgroup"
    TABLE = "a page table"
    SLAB = "slab memory"
    FREE = "free"
    """In the buddy allocator, or on its way there: without a reference and without a type."""
    DEVICE = "a device's memory"
    UNUSED = "of memory that is not online"
    TAIL = "a tail of a compound page of the kernel's"
    HUGETLB = "a HugeTLB folio's"
    OTHER = "of a type that no data of the kernel's has"
    UNKNOWN = "not known"
    """Its struct page is not in the dump."""


_OWNERS = {
    OwnerKind.BUDDY: Owner.FREE,
    OwnerKind.COMPOUND_HEAD: Owner.KERNEL,
    OwnerKind.SLAB: Owner.SLAB,
    OwnerKind.PAGE_TABLE: Owner.TABLE,
    OwnerKind.PAGE_CACHE: Owner.USER,
    OwnerKind.ANONYMOUS: Owner.USER,
    OwnerKind.MOVABLE: Owner.USER,
    OwnerKind.MAPPED: Owner.USER,
    OwnerKind.LRU: Owner.USER,
    OwnerKind.PAGE_POOL: Owner.USER,
    OwnerKind.CHARGED: Owner.USER,
}

# The page type of large allocations by kmalloc(). Of the others, zsmalloc's hold memory of users,
# and offline, guard and unaccepted pages hold nothing.
_KMALLOC = "large_kmalloc"


_MARKS = (Part.FREE_PAGES, Part.OWNER_MARKS, Part.TAIL_WORDS)
"""Parts without which a user's pages are not recognised."""


def check_marks(kernel: Kernel) -> None:
    """
    Refuse a kernel of which an extract could hold memory of users.

    :raises CannotAnalyse: if frames of users cannot be distinguished from those of the kernel, or
        the kernel's image from other memory from boot.
    """
    for unrecognised in kernel.unrecognised:
        if unrecognised.part in _MARKS:
            raise CannotAnalyse(f"no extract: it might hold user data. {unrecognised.message}")
    # Reserved memory has the kernel's data, and the command line and the log's text, too.
    if not kernel.image:
        raise CannotAnalyse(
            "no extract: it might hold the kernel's command line. Its symbols do not say where its "
            "image begins and ends (_text, _end)"
        )


class FrameOwners:
    """Finds the owners of frames, on a kernel that passed :func:`check_marks`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._frames = FrameReader(snapshot)
        self._owners = OwnerReader(snapshot)

    def owner(self, frame: int) -> Owner:
        """
        The owner of a frame.

        :param frame: Its PFN.
        """
        kernel = self._kernel
        try:
            page = self._snapshot.struct_pages(frame)
            # The PFN of a head is even: there may be no struct page after that of an odd one.
            second = self._snapshot.struct_pages(frame ^ 1)
        except MissingMemory:
            return Owner.UNKNOWN
        if is_poison(page):
            return Owner.UNUSED
        if self._frames.free_block(frame) is not None:
            return Owner.FREE
        if kernel.head_test.matches(page) and kernel.hugetlb_test.matches(page + second):
            return Owner.HUGETLB
        owner = self._owners.at(page, 0)
        if owner is None or owner.kind is OwnerKind.FAILED:
            return self._owner_without_mark(frame, page)
        if owner.kind is OwnerKind.COMPOUND_TAIL:
            return self._owner_of_tail(frame, owner.detail)
        if owner.kind is OwnerKind.TYPED:
            name = kernel.page_marks.type_name(owner.detail)
            return Owner.KERNEL if name == _KMALLOC else Owner.OTHER
        return _OWNERS[owner.kind]

    def _owner_without_mark(self, frame: int, page: bytes) -> Owner:
        """
        The owner of a frame whose struct page has no mark of one.

        :param page: Its struct page.
        """
        kernel = self._kernel
        flags = kernel.page.value(page, "flags")
        # A mapping that is no pointer of the kernel's: nothing is known of such a page.
        if kernel.page.value(page, "mapping"):
            return Owner.USER
        if kernel.page_flags.zone(flags) == kernel.device_zone:
            return Owner.DEVICE
        if flags & kernel.page_marks.reserved:
            return Owner.BOOT
        # A page that is freed is first on a list of its CPU, with no mark at all.
        if self._frames.is_released(page) and not self._frames.is_of_unsplit_block(frame):
            return Owner.FREE
        return Owner.KERNEL

    def _owner_of_tail(self, frame: int, link: int) -> Owner:
        """
        The owner of a tail: that of its compound page.

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
