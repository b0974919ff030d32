# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The folios: what the hstates say of themselves, and what their lists hold.

Follows ``struct hstate`` of ``include/linux/hugetlb.h`` and the lists that
``mm/hugetlb.c`` keeps in it: a free list for each node, one active list.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drgn_vmemmap.kernel import Kernel, ZoneKey, printable
from drgn_vmemmap.memory import MissingMemory
from drgn_vmemmap.pagetable import Walker
from drgn_vmemmap.x86_64 import PAGE_SIZE

# 16 GiB, well beyond x86-64's largest folio of 1 GiB; an order above is damage.
_ORDER_LIMIT = 22


class Counters(NamedTuple):
    """What the kernel counts for a hstate, or for one node of it, in folios."""

    nr_huge_pages: int
    free_huge_pages: int
    surplus_huge_pages: int


class HstateList(NamedTuple):
    """One list of a hstate's folios."""

    hstate: str
    node: int | None
    """The node of a free list; ``None`` for the active list."""
    head: int
    """Virtual address of its ``struct list_head``."""
    first: int
    """Its ``next`` pointer."""

    def __str__(self) -> str:
        return f"{self.hstate} " + (
            "active list" if self.node is None else f"free list of node {self.node}"
        )


class Hstate(NamedTuple):
    """A size of HugeTLB folios: ``struct hstate``."""

    name: str
    order: int
    counters: Counters
    node_counters: dict[int, Counters]
    """Of the nodes with anything to count."""
    lists: list[HstateList]


class State(enum.Enum):
    """Where a folio was found."""

    FREE = "free"
    ACTIVE = "active"
    OFF_LIST = "off-list"


class Folio(NamedTuple):
    """A HugeTLB page, named by its head PFN."""

    pfn: int
    order: int
    hstate: str
    node: int | None
    """``None`` if neither its list nor its head page tells."""
    zone: int | None
    """Zone number; ``None`` if the head page is not in the dump."""
    state: State
    flag_optimized: bool | None
    """``HPG_vmemmap_optimized``; ``None`` on a kernel without it, or without the head page."""


class BrokenList(NamedTuple):
    """A list whose walk ended before its end."""

    list: HstateList
    address: int
    """The pointer that could not be followed, or the head page that could not be read."""
    unreadable: bool
    """The dump lacks memory; otherwise, the list itself is damaged."""
    reason: str


def read_hstates(kernel: Kernel, walker: Walker) -> Iterator[Hstate]:
    """
    The kernel's hstates.

    :raises MissingMemory: if they are not in the dump.
    """
    for index in range(kernel.hstate_count):
        address = kernel.hstates + index * kernel.hstate.size
        yield _hstate(kernel, address, walker.read(address, kernel.hstate.size))


def _hstate(kernel: Kernel, address: int, data: bytes) -> Hstate:
    layout = kernel.hstate
    member = layout.members["name"]
    name = data[member.offset : member.offset + member.length].split(b"\0")[0]
    text = printable(name.decode("ascii", "backslashreplace"))

    def list_at(member_name: str, node: int | None) -> HstateList:
        offset = layout.offset(member_name, node or 0)
        first = int.from_bytes(data[offset : offset + 8], "little")
        return HstateList(text, node, address + offset, first)

    nodes = range(layout.members["hugepage_freelists"].length)
    counters = {
        node: Counters(*(layout.value(data, f"{name}_node", node) for name in Counters._fields))
        for node in nodes
    }
    freelists = (list_at("hugepage_freelists", node) for node in nodes)
    return Hstate(
        text,
        layout.value(data, "order"),
        Counters(*(layout.value(data, name) for name in Counters._fields)),
        {node: counts for node, counts in counters.items() if any(counts)},
        # Lists of nodes that do not exist are empty: they point at themselves.
        [list_ for list_ in freelists if list_.first != list_.head]
        + [list_at("hugepage_activelist", None)],
    )


def list_folios(
    kernel: Kernel, walker: Walker, hstates: Iterable[Hstate]
) -> Iterator[Folio | BrokenList]:
    """
    Follow the lists of hstates.

    A list that cannot be followed to its end gives what was found, then a
    :class:`BrokenList`. No folio is given twice, so that every walk ends.
    """
    seen: set[int] = set()
    for hstate in hstates:
        for list_ in hstate.lists:
            yield from _follow(kernel, walker, list_, hstate.order, seen)


def _follow(
    kernel: Kernel, walker: Walker, list_: HstateList, order: int, seen: set[int]
) -> Iterator[Folio | BrokenList]:
    lru = kernel.page.offset("lru")
    pointer = list_.first
    while pointer != list_.head:
        pfn, misaligned = divmod(pointer - lru - kernel.vmemmap, kernel.page.size)
        reason = None
        if misaligned or not 0 <= pfn < kernel.paging.max_pfn:
            reason = "leads out of the memmap"
        elif order > _ORDER_LIMIT or pfn % (1 << order):
            reason = f"leads to PFN {pfn}, which can be no folio of order {order}"
        elif pfn in seen:
            reason = f"meets the folio at PFN {pfn} a second time"
        if reason is not None:
            yield BrokenList(list_, pointer, False, reason)
            return
        seen.add(pfn)
        try:
            head = walker.read(kernel.page_address(pfn), kernel.page.size)
        except MissingMemory:
            yield _folio(kernel, None, pfn, order, list_)
            yield BrokenList(list_, pointer, True, f"ends at PFN {pfn}: no head page in the dump")
            return
        yield _folio(kernel, head, pfn, order, list_)
        pointer = kernel.page.value(head, "lru")


def _folio(kernel: Kernel, head: bytes | None, pfn: int, order: int, list_: HstateList) -> Folio:
    state = State.ACTIVE if list_.node is None else State.FREE
    if head is None:
        return Folio(pfn, order, list_.hstate, list_.node, None, state, None)
    flags = kernel.page.value(head, "flags")
    bit = kernel.hvo.optimized_bit
    return Folio(
        pfn=pfn,
        order=order,
        hstate=list_.hstate,
        node=kernel.page_flags.node(flags),
        zone=kernel.page_flags.zone(flags),
        state=state,
        flag_optimized=None if bit is None else bool(kernel.page.value(head, "private") >> bit & 1),
    )


class TailFrames:
    """
    The frames that zones keep for the shared tails of optimized folios.

    Follows ``vmemmap_tails`` of ``struct zone``: for each order from
    ``VMEMMAP_TAIL_MIN_ORDER`` on, a pointer to the frame's ``struct page``.
    """

    def __init__(self, kernel: Kernel, walker: Walker) -> None:
        self._by_zone: dict[ZoneKey, dict[int, int] | None] = {
            key: _tail_frames(kernel, walker, address) for key, address in kernel.zones.items()
        }

    def all(self) -> frozenset[int]:
        """PFNs of all of them that the dump tells."""
        return frozenset(
            pfn for frames in self._by_zone.values() if frames for pfn in frames.values()
        )

    def acceptable(self, folio: Folio) -> frozenset[int] | None:
        """
        :return: PFNs that may be a folio's reuse frame because its zone keeps
            them for its order; ``None`` if the dump does not tell.
        """
        if not self._by_zone:
            return frozenset()
        if folio.node is None or folio.zone is None:
            return None
        frames = self._by_zone.get(ZoneKey(folio.node, folio.zone), {})
        if frames is None:
            return None
        return frozenset(frames[order] for order in frames if order == folio.order)


def _tail_frames(kernel: Kernel, walker: Walker, zone: int) -> dict[int, int] | None:
    """PFNs of one zone's tail frames by order; ``None`` if the zone is not in the dump."""
    member = kernel.zone.members["vmemmap_tails"]
    try:
        data = walker.read(zone + member.offset, member.size * member.length)
    except MissingMemory:
        return None
    # ilog2(2 * PAGE_SIZE / sizeof(struct page)): the first order with a tail frame to share.
    first_order = (2 * PAGE_SIZE // kernel.page.size).bit_length() - 1
    frames = {}
    for index, (page,) in enumerate(struct.iter_unpack("<Q", data)):
        pfn, misaligned = divmod(page - kernel.vmemmap, kernel.page.size)
        if page and not misaligned and 0 <= pfn < kernel.paging.max_pfn:
            frames[first_order + index] = pfn
    return frames
