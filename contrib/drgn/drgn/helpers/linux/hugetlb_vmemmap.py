# SPDX-License-Identifier: LGPL-2.1-or-later


"""
HugeTLB Vmemmap
---------------

The ``drgn.helpers.linux.hugetlb_vmemmap`` module provides helpers for HugeTLB
Vmemmap Optimization (HVO), which frees most of the memory that the ``struct
page``\\ s of a HugeTLB page are in.

The pages of the virtual memory map that describe one HugeTLB page are called
its vmemmap pages.
"""

from typing import Iterator, List, Set

from drgn import Object, Program, sizeof
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import compound_order, follow_pfn, page_to_pfn
from drgn.helpers.linux.mmzone import for_each_online_pgdat

__all__ = (
    "for_each_hugetlb_page",
    "hugetlb_page_vmemmap_freed",
    "hugetlb_page_vmemmap_optimized",
    "hugetlb_page_vmemmap_pfns",
)


def for_each_hugetlb_page(hstate: Object) -> Iterator[Object]:
    """
    Iterate over all HugeTLB pages on the lists of a HugeTLB page size state:
    the free pages of each node, then the active pages.

    A page that is being allocated, freed, or migrated may be on no list.

    >>> hstate = next(for_each_hstate())
    >>> sum(1 for _ in for_each_hugetlb_page(hstate))
    72

    :param hstate: ``struct hstate *``
    :return: Iterator of ``struct page *`` objects, which are head pages.
    """
    for free_list in hstate.hugepage_freelists:
        yield from list_for_each_entry("struct page", free_list.address_of_(), "lru")
    yield from list_for_each_entry(
        "struct page", hstate.hugepage_activelist.address_of_(), "lru"
    )


def hugetlb_page_vmemmap_optimized(page: Object) -> bool:
    """
    Return whether the kernel has marked a HugeTLB page as optimized by HVO.

    :param page: ``struct page *``, which must be a head page.
    """
    # Since Linux kernel commit f41f2ed43ca5 ("mm: hugetlb: free the vmemmap
    # pages associated with each HugeTLB page") (in v5.14), there is a flag for
    # it. Before that, there was no HVO.
    try:
        bit = page.prog_.constant("HPG_vmemmap_optimized")
    except LookupError:
        return False
    return bool(page.private & (1 << bit))


def hugetlb_page_vmemmap_pfns(page: Object) -> List[int]:
    """
    Get the PFN that each vmemmap page of a HugeTLB page is mapped to.

    Vmemmap pages that HVO freed have the PFN of another one, or of a page that
    is shared by the HugeTLB pages of a zone.

    >>> [hex(pfn) for pfn in hugetlb_page_vmemmap_pfns(page)]
    ['0x35f96', '0x35f96', '0x35f96', '0x35f96', '0x35f96', '0x35f96', '0x35f96', '0x35f96']

    :param page: ``struct page *``, which must be a head page.
    :raises FaultError: if a vmemmap page is not mapped
    """
    prog = page.prog_
    start = page.value_()
    size = sizeof(page.type_.type) << compound_order(page).value_()
    init_mm = prog["init_mm"].address_of_()
    return [
        follow_pfn(init_mm, address).value_()
        for address in range(start, start + size, prog["PAGE_SIZE"].value_())
    ]


def hugetlb_page_vmemmap_freed(page: Object) -> int:
    """
    Get the number of vmemmap pages of a HugeTLB page that have no memory of
    their own, as the page tables say.

    >>> hugetlb_page_vmemmap_freed(page)
    7

    :param page: ``struct page *``, which must be a head page.
    :raises FaultError: if a vmemmap page is not mapped
    """
    pfns = hugetlb_page_vmemmap_pfns(page)
    return len(pfns) - len(set(pfns) - _shared_tail_pfns(page.prog_))


def _shared_tail_pfns(prog: Program) -> Set[int]:
    # Since Linux kernel commit 622026e87c40 ("mm/hugetlb: remove fake head
    # pages") (in v7.1), the HugeTLB pages of a zone share one page of tail
    # struct pages for each order.
    return {
        page_to_pfn(page).value_()
        for pgdat in for_each_online_pgdat(prog)
        for zone in pgdat.node_zones
        if zone.type_.has_member("vmemmap_tails")
        for page in zone.vmemmap_tails
        if page
    }
