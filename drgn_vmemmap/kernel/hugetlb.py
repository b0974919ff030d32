# SPDX-License-Identifier: LGPL-2.1-or-later

"""HugeTLB in a kernel: hstates, and the failed memory of their folios."""

from __future__ import annotations

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingFacts
from drgn_vmemmap.kernel.facts import Lock, Poison
from drgn_vmemmap.kernel.lookup import Lookup, not_supported
from drgn_vmemmap.kernel.structs import Member, Struct
from drgn_vmemmap.kernel.unrecognised import Part
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE

_HUGE_MAX_HSTATE = 2  # on x86-64
# A count beyond this is damage.
_HSTATES_LIMIT = 16
# An order from this one on is damage, too.
_ORDERS_END = 64

_CGROUP = "struct hugetlb_cgroup_per_node"

_COUNTERS = (
    *("nr_huge_pages", "nr_huge_pages_node", "free_huge_pages", "free_huge_pages_node"),
    *("surplus_huge_pages", "resv_huge_pages", "max_huge_pages", "surplus_huge_pages_node"),
)

_LISTS = ("hugepage_activelist", "hugepage_freelists")


def hstate(lookup: Lookup, page: Struct) -> Struct:
    """
    ``struct hstate``.

    :param page: ``struct page``; without the pointers in it, lists cannot be followed.
    """
    found = lookup.struct(
        "struct hstate",
        # A name follows from the order.
        optional=("name",),
        parts={
            **dict.fromkeys(_COUNTERS, (Part.HSTATE_COUNTERS,)),
            **dict.fromkeys(_LISTS, (Part.HSTATE_LISTS,)),
        },
        **{name: [name] for name in ("name", "order", *_LISTS, *_COUNTERS)},
    )
    if "lru" in page.members:
        return found
    members = {name: found.members[name] for name in found.members if name not in _LISTS}
    return found._replace(members=members)


def node_count(hstate: Struct) -> int:
    """
    ``MAX_NUMNODES``: how many elements an array has that is by node.

    :raises CannotAnalyse: if there is no such array.
    """
    by_node = [name for name in hstate.members if name.endswith(("freelists", "_node"))]
    if not by_node:
        raise not_supported("struct hstate", "hugepage_freelists", "nr_huge_pages_node")
    return max(hstate.members[name].length for name in by_node)


def hstate_count(lookup: Lookup, hstates: int, hstate: Struct) -> int:
    """
    How many elements of ``hstates`` are in use.

    :param hstates: Its virtual address.
    :raises MissingFacts: if there cannot be as many.
    """
    count = lookup.variable("hugetlb_max_hstate", 4)
    if count is None:
        # They are filled from the first on, and a hstate in use has an order.
        data = lookup.prog.read(hstates, _HUGE_MAX_HSTATE * hstate.size)
        return sum(map(bool, hstate.column(data, "order")))
    if count > _HSTATES_LIMIT:
        raise MissingFacts(f"hugetlb_max_hstate is {count}, which is impossible: damaged dump")
    # hugetlb_add_hstate() counts a hstate before it gives it an order.
    if count == 0 and _has_order(lookup, hstates, hstate):
        raise MissingFacts("hugetlb_max_hstate is 0, but a hstate has an order: damaged dump")
    return count


def _has_order(lookup: Lookup, address: int, hstate: Struct) -> bool:
    """Whether the hstate at a virtual address is known to have an order."""
    try:
        return bool(hstate.value(lookup.prog.read(address, hstate.size), "order"))
    except drgn.FaultError:
        return False


def kept_pages(lookup: Lookup, hstates: int, hstate: Struct, page: Struct) -> set[int]:
    """
    How many vmemmap pages of an optimized folio keep a frame of their own, by its hstate.

    Hstates of kernels from v5.14 to v5.19 record how many do not.

    :param hstates: Virtual address of their array.
    :return: Such numbers, one for each size; none if they are not recorded, or HVO was off at boot.
    """
    names = ["optimize_vmemmap_pages", "nr_free_vmemmap_pages"]
    freed = lookup.struct("struct hstate", optional=("freed",), freed=names)
    if "freed" not in freed.members:
        return set()
    count = hstate_count(lookup, hstates, hstate)
    data = lookup.prog.read(hstates, count * hstate.size)
    return {
        (page.size << order) // PAGE_SIZE - without
        for order, without in zip(hstate.column(data, "order"), freed.column(data, "freed"))
        if without and order < _ORDERS_END
    }


def lock(lookup: Lookup) -> Lock | None:
    """``hugetlb_lock``, which is held while lists and counters of the hstates change."""
    address = lookup.address("hugetlb_lock")
    if address is None:
        return None
    try:
        # With PREEMPT_RT, it has an owner.
        spinlock = lookup.struct("struct spinlock", held=["rlock.raw_lock", "lock.owner"])
    except CannotAnalyse:
        return None
    held = spinlock.members["held"]
    return Lock(address + held.offset, held.size) if held.is_number else None


def reservation_bit(lookup: Lookup) -> int | None:
    """Bit number of ``HPG_restore_reserve``: a folio that gives back a reservation when freed."""
    return lookup.enumerators("enum hugetlb_page_flags").get("HPG_restore_reserve")


def poison(lookup: Lookup) -> Poison:
    """How the kernel records memory of a folio that failed, as far as it does."""
    try:
        entry = lookup.struct("struct raw_hwp_page", next=["node.next"], page=["page"])
    except CannotAnalyse:
        entry = Struct(0, {})
    return Poison(
        flag=lookup.page_flag("PG_hwpoison"),
        list=_failed_pages_list(lookup) if entry.members else None,
        unreliable_bit=lookup.enumerators("enum hugetlb_page_flags").get("HPG_raw_hwp_unreliable"),
        page=entry,
    )


def _failed_pages_list(lookup: Lookup) -> Member | None:
    """Where a folio's list of failed pages begins, from the head page on."""
    try:
        folio = lookup.struct(
            "struct folio",
            optional=("list", "subpool"),
            list=["hugetlb_hwpoison.first", "_hugetlb_hwpoison"],
            subpool=["_hugetlb_subpool"],
        )
        page = lookup.struct("struct page", private=["private"])
    except CannotAnalyse:
        return None
    # Linux commit dad6a5eb5556 ("mm,hugetlb: use folio fields in second tail page") (in v6.2);
    # before, it was in the private of the tail SUBPAGE_INDEX_HWPOISON: the one after those of the
    # subpool and, if they are built, of the cgroups. That enumeration has no name, and may not be
    # among the types.
    if "list" in folio.members or "subpool" in folio.members:
        return folio.members.get("list")
    tail = lookup.constant("SUBPAGE_INDEX_HWPOISON", 4 if lookup.has_type(_CGROUP) else 2)
    private = page.members["private"]
    return private._replace(offset=tail * page.size + private.offset)
