# SPDX-License-Identifier: LGPL-2.1-or-later

"""
``struct page`` without a dump: what its bytes are on x86-64, from v5.14 to v7.3.

Follows ``include/linux/mm_types.h``. HVO needs a size that is a power of two, which is 64.
"""

from __future__ import annotations

STRUCT_PAGE_SIZE = 64

_MEMBERS = (
    (0, "flags"),
    (8, "compound_head or compound_info of a tail, lru of any other page"),
    (16, "lru.prev, or what its owner keeps there"),
    (24, "mapping"),
    (32, "index"),
    (40, "private"),
    (48, "_mapcount or page_type"),
    (52, "_refcount"),
    (56, "memcg_data, or what its owner keeps there"),
)

COUNTS = (48, 52)
"""Offsets of ``_mapcount`` and ``_refcount``, which are what is mostly written in a tail."""

POISON = (1 << 64) - 1
"""Flags of a struct page that nobody uses, by ``page_init_poison()``."""

_TAIL = 1 << 0
_ORDERS = range(1, 19)

# Struct pages of a folio of order 9 fill 8 pages of the vmemmap.
PAGES_PER_VMEMMAP_PAGE = 4096 // STRUCT_PAGE_SIZE
PAGES_PER_HUGE_PAGE = 512

_WALKERS = {
    "isolate_migratepages_block": "compaction takes a reference of any page that it meets by PFN",
    "isolate_freepages_block": "compaction reads the struct page of any page that it meets by PFN",
    "split_huge_pages_all": "it takes a reference of any folio that it meets by PFN",
    "page_idle_get_folio": "idle page tracking takes references of pages that it meets by PFN",
    "page_idle_get_page": "idle page tracking takes references of pages that it meets by PFN",
    "damon_get_folio": "DAMON takes references of folios that it meets by PFN",
    "damon_get_page": "DAMON takes references of pages that it meets by PFN",
    "do_migrate_range": "memory offlining takes references of folios that it meets by PFN",
    "__get_hwpoison_page": "memory failure takes a reference of the page that failed",
    "get_hwpoison_page": "memory failure takes a reference of the page that failed",
    "kpagecount_read": "it reads the struct page of any PFN that user space asks for",
    "stable_page_flags": "it reads the struct page of any PFN that user space asks for",
    "has_unmovable_pages": "page isolation reads struct pages by PFN",
    "free_tail_page_prepare": "it checks what a tail holds when its folio is freed",
    "__free_pages_prepare": "it checks what struct pages hold when they are freed",
    "hugetlb_vmemmap_restore_folio": "HVO gives the vmemmap of a folio its own frames back",
    "hugetlb_vmemmap_optimize_folio": "HVO remaps the vmemmap of a folio",
    "vmemmap_remap_pte": "HVO remaps the vmemmap of a folio",
    "vmemmap_restore_pte": "HVO gives the vmemmap of a folio its own frames back",
}


def member_at(offset: int) -> str:
    """The member that a byte of a struct page belongs to."""
    return next(name for start, name in reversed(_MEMBERS) if start <= offset)


def known_function(name: str) -> str | None:
    """A sentence on a function that handles struct pages; compilers add suffixes to its name."""
    return _WALKERS.get(name.split(".")[0])


def is_tail(link: int) -> bool:
    """Whether the second word of a struct page says that it is a tail."""
    return bool(link & _TAIL)


def order_of_mask(link: int) -> int | None:
    """
    The order of a tail's folio, where ``compound_info`` holds a mask (commit 8c846c879e22, v7.1).

    :return: ``None`` if it holds a pointer.
    """
    size = -(link & ~_TAIL) & (1 << 64) - 1
    order = (size // STRUCT_PAGE_SIZE).bit_length() - 1
    return order if order in _ORDERS and size == STRUCT_PAGE_SIZE << order else None


def base_from_tail(pfn: int, link: int, alignment: int) -> int | None:
    """
    The vmemmap's base, from a tail's PFN and its pointer to its head.

    The head's PFN is a multiple of its folio's size; with one size only, the base that
    follows from it is aligned.

    :param alignment: Of the base, in bytes.
    """
    bases = set()
    for order in _ORDERS:
        head = pfn >> order << order
        base = ((link & ~_TAIL) - head * STRUCT_PAGE_SIZE) % (1 << 64)
        if head != pfn and base >> 63 and base % alignment == 0:
            bases.add(base)
    return bases.pop() if len(bases) == 1 else None
