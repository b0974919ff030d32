# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Whose a frame is, by its own struct page: whether the kernel may have data there.

Follows ``struct page`` of ``include/linux/mm_types.h`` and ``include/linux/page-flags.h``.
"""

from __future__ import annotations

import enum
import re

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.structs import PageTest
from drgn_vmemmap.vmemmap.frames import PageReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# Where struct page has these members if VMCOREINFO does not say.
_MAPPING = 24

# PAGE_MAPPING_ANON of include/linux/page-flags.h; the lowest bit of a tail's compound_info.
_LOWEST_BIT = 1


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
    TAIL = "a tail of a compound page"
    HUGETLB = "a HugeTLB folio's"
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


class FrameOwners:
    """Finds out whose frames are."""

    def __init__(self, snapshot: Snapshot, vmcoreinfo: bytes) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._pages = PageReader(snapshot)
        self._numbers = {name.decode(): int(value) for name, value in _NUMBER.findall(vmcoreinfo)}
        self._mapping = self._numbers.get("OFFSET(page.mapping)", _MAPPING)

    def owner(self, frame: int) -> Owner:
        """
        :param frame: Its PFN.
        """
        try:
            page = self._snapshot.struct_pages(frame)
            second = self._snapshot.struct_pages(frame ^ 1)
        except MissingMemory:
            return Owner.UNKNOWN
        kernel = self._kernel
        if not is_struct_page(kernel, page):
            return Owner.UNKNOWN
        if self._pages.free_block(frame) is not None:
            return Owner.FREE
        if kernel.page.value(page, "compound_head") & _LOWEST_BIT:
            return Owner.TAIL
        if kernel.head_test.matches(page) and kernel.hugetlb_test.matches(page + second):
            return Owner.HUGETLB
        if self._is_slab(page):
            return Owner.SLAB
        if self._has_type(page):
            return Owner.KERNEL
        mapping = int.from_bytes(page[self._mapping : self._mapping + 8], "little")
        return Owner.USER if mapping else Owner.KERNEL

    def _is_slab(self, page: bytes) -> bool:
        """By its type, or before v6.10 by a flag."""
        flag = self._numbers.get("NUMBER(PG_slab)")
        if flag is not None and self._kernel.page.value(page, "flags") >> flag & 1:
            return True
        test = self._slab_test()
        return test is not None and test.matches(page)

    def _slab_test(self) -> PageTest | None:
        value = self._numbers.get("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", 0) & 0xFFFFFFFF
        if not value or "page_type" not in self._kernel.page.members:
            return None
        offset = self._kernel.page.offset("page_type")
        # Linux commit 4ffca5a96678 ("mm: support only one page_type per page") (in v6.12)
        if value & 0xFFFFFF == 0:
            return PageTest(offset, 4, 0xFF << 24, value)
        bit = ~value & 0xFFFFFFFF
        base = 0x80000000 if bit >> 16 else 0xF0000000
        return PageTest(offset, 4, base | bit, base)

    def _has_type(self, page: bytes) -> bool:
        """Whether it has a page type, as page tables have: its mapping is something else then."""
        if "page_type" not in self._kernel.page.members:
            return False
        page_type = self._kernel.page.value(page, "page_type")
        return page_type >> 28 == 0xF and page_type != 0xFFFFFFFF


_NUMBER = re.compile(rb"^((?:NUMBER|OFFSET)\([\w.]+\))=(-?\d+)$", re.MULTILINE)
