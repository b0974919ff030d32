# SPDX-License-Identifier: LGPL-2.1-or-later

"""The members of a struct page, and what recognises the struct pages of a HugeTLB folio."""

from __future__ import annotations

from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.kernel.facts import PageFlags
from drgn_vmemmap.kernel.lookup import Lookup, not_supported
from drgn_vmemmap.kernel.page_types import page_type_test
from drgn_vmemmap.kernel.structs import Member, PageTest, Struct
from drgn_vmemmap.kernel.unrecognised import Part

# Bytes of the members that are neither longs nor pointers.
_SIZES = {"refcount": 4, "page_type": 4, "compound_dtor": 1, "compound_order": 1}


def struct_page(lookup: Lookup) -> Struct:
    """
    ``struct page``; the members that some kernels lack are absent there.

    :raises CannotAnalyse: if one is no number, is not where C aligns it, or overlaps another one.
    """
    page = lookup.struct(
        "struct page",
        optional=("memcg_data", "compound_dtor", "compound_order"),
        parts={
            "lru": (Part.HSTATE_LISTS,),
            "private": (Part.OPTIMIZED_FLAG, Part.FREE_PAGES),
            "mapping": (Part.TAIL_WORDS,),
            "refcount": (Part.FREE_PAGES, Part.TAIL_WORDS),
            # Since v6.9, it has the mark of HugeTLB folios, too: see hugetlb_test().
            "page_type": (Part.FREE_PAGES, Part.TAIL_WORDS, Part.OWNER_MARKS),
        },
        # Linux commit 53fbef56e07d ("mm: introduce memdesc_flags_t") (in v6.18)
        flags=["flags.f", "flags"],
        lru=["lru.next"],
        private=["private"],
        compound_head=["compound_info", "compound_head"],
        mapping=["mapping"],
        refcount=["_refcount"],
        memcg_data=["memcg_data", "mem_cgroup"],
        page_type=["page_type"],
        compound_dtor=["compound_dtor"],
        compound_order=["compound_order"],
    )
    for name, member in page.members.items():
        if member != Member(member.offset & -member.size, _SIZES.get(name, 8), 1):
            raise CannotAnalyse(f"{name} in struct page is no number: damaged types")
    # Of all these, only lru shares its bytes: with compound_head.
    apart = sorted((page.offset(name), name) for name in page.members if name != "lru")
    for (offset, name), (next_offset, next_name) in zip(apart, apart[1:]):
        if offset + page.members[name].size > next_offset:
            both = f"{name} and {next_name} in struct page"
            raise CannotAnalyse(f"{both} are in the same place: damaged types")
    return page


def page_flags(nodes: int, zones: int) -> PageFlags:
    """
    Where the flags of a page keep its node and its zone.

    Follows ``include/linux/page-flags-layout.h``: node, then zone, from the top bit down. With a
    virtual memmap the section number takes no bits.

    :param nodes: ``MAX_NUMNODES``.
    :param zones: ``MAX_NR_ZONES``.
    """
    node_width = (nodes - 1).bit_length()
    zone_width = (zones - 1).bit_length()
    return PageFlags(
        node_shift=64 - node_width,
        node_mask=(1 << node_width) - 1,
        zone_shift=64 - node_width - zone_width,
        zone_mask=(1 << zone_width) - 1,
    )


def head_test(lookup: Lookup, page: Struct) -> PageTest:
    """Recognises the head page of a compound page that may be a HugeTLB folio."""
    head = lookup.page_flag("PG_head")
    if not head:
        raise not_supported("enum pageflags", "PG_head")
    # No HugeTLB folio is on an LRU list; other large folios are.
    return PageTest(page.offset("flags"), 8, head | lookup.page_flag("PG_lru"), head)


def hugetlb_test(lookup: Lookup, page: Struct) -> PageTest:
    """
    Recognises a HugeTLB folio among compound pages.

    :raises CannotAnalyse: if this kernel has no mark that is known.
    """
    # Linux commit d99e3140a4d3 ("mm: turn folio_test_hugetlb into a PageType") (in v6.9)
    mark = page_type_test(lookup, page, "PAGE_HUGETLB_MAPCOUNT_VALUE")
    if mark is not None:
        return mark
    # Linux commit 9c5ccf2db04b ("mm: remove HUGETLB_PAGE_DTOR") (in v6.6)
    # made it a flag of the second struct page.
    bit = lookup.number("PG_hugetlb")
    if 0 < bit < 64:
        return PageTest(page.size + page.offset("flags"), 8, 1 << bit, 1 << bit)
    destructor = lookup.enumerators("enum compound_dtor_id").get("HUGETLB_PAGE_DTOR")
    if destructor is None:
        raise not_supported(
            "VMCOREINFO", "PAGE_HUGETLB_MAPCOUNT_VALUE", "PG_hugetlb", "HUGETLB_PAGE_DTOR"
        )
    # Linux commit 1c5509be58f6 ("mm: remove 'First tail page' members from
    # struct page") (in v6.3)
    if "compound_dtor" not in page.members:
        if "compound_order" in page.members:
            raise not_supported("struct page", "compound_dtor")
        folio = lookup.struct("struct folio", dtor=["_folio_dtor"])
        return PageTest(folio.offset("dtor"), 1, 0xFF, destructor)
    return PageTest(page.size + page.offset("compound_dtor"), 1, 0xFF, destructor)


def removed_test(lookup: Lookup, page: Struct) -> PageTest | None:
    """
    Recognises a compound page that may be a folio whose vmemmap is remapped and that has no mark of
    HugeTLB: one that left its pool, or that is being made; ``None`` if there are none.
    """
    # Until Linux commit 32c877191e02 ("hugetlb: do not clear hugetlb dtor until allocating
    # vmemmap") (in v6.5), a folio got NULL_COMPOUND_DTOR or COMPOUND_PAGE_DTOR, which are 0
    # and 1, before its vmemmap was restored. Until v6.7, one that is being made has the latter
    # until its vmemmap is remapped, or no PG_hugetlb.
    destructors = lookup.enumerators("enum compound_dtor_id")
    test = hugetlb_test(lookup, page)
    if "HUGETLB_PAGE_DTOR" in destructors and test.size == 1:
        return PageTest(test.offset, 1, 0xFE, 0)
    is_flag = test.offset == page.size + page.offset("flags")
    return test._replace(value=0) if is_flag else None


def order(lookup: Lookup, page: Struct) -> Member:
    """Where a folio keeps its order, from its head page on."""
    # Linux commit 1c5509be58f6 ("mm: remove 'First tail page' members from
    # struct page") (in v6.3)
    if "compound_order" in page.members:
        return Member(page.size + page.offset("compound_order"), 1, 1)
    if "compound_dtor" in page.members:
        raise not_supported("struct page", "compound_order")
    # Linux commit ebc1baf5c9b4 ("mm: free up a word in the first tail page")
    # (in v6.6) made it the lowest byte of the second page's flags.
    folio = lookup.struct("struct folio", order=["_folio_order", "_flags_1"])
    return Member(folio.offset("order"), 1, 1)
