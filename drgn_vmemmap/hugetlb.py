# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The folios: what the hstates say of themselves, what their lists hold, and what
the memmap itself shows.

Follows ``struct hstate`` of ``include/linux/hugetlb.h`` and the lists that
``mm/hugetlb.c`` keeps in it: a free list for each node, one active list.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from drgn_vmemmap.kernel import Kernel, ZoneKey, printable
from drgn_vmemmap.memmap import MissingSections, present_sections
from drgn_vmemmap.memory import MissingMemory
from drgn_vmemmap.pagetable import Problem, Walker
from drgn_vmemmap.x86_64 import PAGE_SIZE

# From 2 MiB to 16 GiB: x86-64 has folios of 2 MiB and 1 GiB, and any other order is damage.
_ORDERS = range(9, 23)


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


class BrokenHstate(NamedTuple):
    """A hstate of an order that no folio can have; its lists are not followed."""

    name: str
    order: int


class BrokenList(NamedTuple):
    """A list whose walk ended before its end."""

    list: HstateList
    address: int
    """The pointer that could not be followed, or the head page that could not be read."""
    unreadable: bool
    """The dump lacks memory; otherwise, the list itself is damaged."""
    reason: str


def read_hstates(kernel: Kernel, walker: Walker) -> Iterator[Hstate | BrokenHstate]:
    """
    The kernel's hstates.

    :raises MissingMemory: if they are not in the dump.
    """
    for index in range(kernel.hstate_count):
        address = kernel.hstates + index * kernel.hstate.size
        hstate = _hstate(kernel, address, walker.read(address, kernel.hstate.size))
        yield hstate if hstate.order in _ORDERS else BrokenHstate(hstate.name, hstate.order)


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


class Head(NamedTuple):
    """What the first two struct pages of a HugeTLB folio say of it."""

    order: int
    flags: int
    private: int
    next: int
    """The pointer to the next folio of its list."""


def scan(
    kernel: Kernel, walker: Walker, orders: Iterable[int]
) -> Iterator[tuple[int, Head] | MissingSections]:
    """
    Find HugeTLB folios in the memmap itself.

    :param orders: Orders of the hstates.
    :return: Head PFN and head of each, and the sections that could not be seen.
    """
    orders = set(orders)
    if not orders:
        return
    step = 1 << min(orders)
    behind = 0
    for section in present_sections(kernel, walker):
        if isinstance(section, MissingSections):
            yield section
            continue
        missing = False
        for pfn in range(-(-section.pfns.start // step) * step, section.pfns.stop, step):
            # Within a folio, a remapped tail page may look like its head.
            if pfn < behind:
                continue
            try:
                head = read_head(kernel, walker, pfn)
            except MissingMemory:
                problem = walker.entry(kernel.page_address(pfn)).problem
                missing = missing or problem in (None, Problem.UNREADABLE)
                continue
            if head is not None and head.order in orders and pfn % (1 << head.order) == 0:
                behind = pfn + (1 << head.order)
                yield pfn, head
        if missing:
            yield MissingSections(section.pfns)


def read_head(kernel: Kernel, walker: Walker, pfn: int) -> Head | None:
    """
    :return: The head of the HugeTLB folio at a PFN; ``None`` if there is none.
    :raises MissingMemory: if its struct pages are not mapped, or not in the dump.
    """
    pages = walker.read(kernel.page_address(pfn), 2 * kernel.page.size)
    if not kernel.hugetlb_mark.matches(pages) or not kernel.head_mark.matches(pages):
        return None
    return Head(
        order=pages[kernel.order.offset],
        flags=kernel.page.value(pages, "flags"),
        private=kernel.page.value(pages, "private"),
        next=kernel.page.value(pages, "lru"),
    )


def find_folios(
    kernel: Kernel, walker: Walker, hstates: Sequence[Hstate]
) -> Iterator[Folio | BrokenList | MissingSections]:
    """
    Find all HugeTLB folios: those on the hstates' lists, and those on none.

    A list that cannot be followed to its end gives what was found, then a
    :class:`BrokenList`. No folio is given twice.
    """
    heads: dict[int, Head] = {}
    for found in scan(kernel, walker, (hstate.order for hstate in hstates)):
        if isinstance(found, MissingSections):
            yield found
        else:
            heads[found[0]] = found[1]
    seen: set[int] = set()
    for hstate in hstates:
        for list_ in hstate.lists:
            yield from _follow(kernel, walker, list_, hstate.order, heads, seen)
    names = {hstate.order: hstate.name for hstate in hstates}
    for pfn, head in heads.items():
        if pfn not in seen:
            yield _folio(kernel, head, pfn, head.order, names[head.order], State.OFF_LIST)


def _follow(
    kernel: Kernel,
    walker: Walker,
    list_: HstateList,
    order: int,
    heads: Mapping[int, Head],
    seen: set[int],
) -> Iterator[Folio | BrokenList]:
    state = State.ACTIVE if list_.node is None else State.FREE
    lru = kernel.page.offset("lru")
    pointer = list_.first
    while pointer != list_.head:
        pfn, misaligned = divmod(pointer - lru - kernel.vmemmap, kernel.page.size)
        reason = None
        if misaligned or not 0 <= pfn < kernel.paging.max_pfn:
            reason = f"pointer {pointer:#x} leads out of the memmap"
        elif pfn % (1 << order):
            reason = f"leads to PFN {pfn:#x}, which can be no folio of order {order}"
        elif pfn in seen:
            reason = f"meets the folio at PFN {pfn:#x} a second time"
        if reason is not None:
            yield BrokenList(list_, pointer, False, reason)
            return
        seen.add(pfn)
        try:
            head = heads.get(pfn) or read_head(kernel, walker, pfn)
        except MissingMemory:
            yield _folio(kernel, None, pfn, order, list_.hstate, state, list_.node)
            yield BrokenList(list_, pointer, True, f"head page of PFN {pfn:#x} is not in the dump")
            return
        if head is None:
            reason = f"leads to PFN {pfn:#x}, which is no HugeTLB folio"
            yield BrokenList(list_, pointer, False, reason)
            return
        yield _folio(kernel, head, pfn, order, list_.hstate, state)
        pointer = head.next


def _folio(
    kernel: Kernel,
    head: Head | None,
    pfn: int,
    order: int,
    hstate: str,
    state: State,
    node: int | None = None,
) -> Folio:
    if head is None:
        return Folio(pfn, order, hstate, node, None, state, None)
    bit = kernel.hvo.optimized_bit
    return Folio(
        pfn=pfn,
        order=order,
        hstate=hstate,
        node=kernel.page_flags.node(head.flags),
        zone=kernel.page_flags.zone(head.flags),
        state=state,
        flag_optimized=None if bit is None else bool(head.private >> bit & 1),
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
