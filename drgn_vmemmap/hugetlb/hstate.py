# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The hstates: one for each size of HugeTLB folios, with its counters and lists.

Follows ``struct hstate`` of ``include/linux/hugetlb.h``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, repeat
from typing import NamedTuple, Optional

from drgn_vmemmap.errors import MissingMemory, printable
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.hugetlb import node_count
from drgn_vmemmap.kernel.structs import Struct
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_POINTER_SIZE = 8

# From 2 MiB to 16 GiB: x86-64 has folios of 2 MiB and 1 GiB, and any other order is damage.
_ORDERS = range(9, 23)


Count = Optional[int]
"""``None`` for a counter that this kernel does not have."""


class Counters(NamedTuple):
    """The kernel's counters of a hstate, or of one node of it, in folios."""

    nr_huge_pages: Count
    free_huge_pages: Count
    surplus_huge_pages: Count


_OF_NODES = tuple(f"{counter}_node" for counter in Counters._fields)
"""Names of the arrays that have each counter by node."""


class HstateList(NamedTuple):
    """One list of a hstate's folios."""

    hstate: str
    node: int | None
    """The node of a free list; ``None`` for the active list."""
    head: int
    """Virtual address of its ``struct list_head``."""
    first: int
    """Its ``next`` pointer."""
    last: int
    """Its ``prev`` pointer."""

    def __str__(self) -> str:
        return f"{self.hstate} " + (
            "active list" if self.node is None else f"free list of node {self.node}"
        )


class Hstate(NamedTuple):
    """A size of HugeTLB folios: ``struct hstate``."""

    name: str
    order: int
    counters: Counters
    node_counters: dict[int | None, Counters]
    """Of the nodes with anything to count."""
    lists: list[HstateList]
    resv_huge_pages: Count
    """Free folios that are promised to mappings; as the kernel has it, also below zero."""
    max_huge_pages: Count
    """How many folios the administrator asked for."""
    no_counters: Counters = Counters(0, 0, 0)
    """Of a node with nothing to count."""

    def counters_of(self, node: int | None) -> Counters:
        """The kernel's counters of a node."""
        return self.node_counters.get(node, self.no_counters)


class BrokenHstate(NamedTuple):
    """A hstate of an order that no folio can have; its lists are not followed."""

    name: str
    order: int
    address: int
    """Virtual address in bytes of its ``struct hstate``."""


def read_hstates(snapshot: Snapshot) -> Iterator[Hstate | BrokenHstate]:
    """
    The kernel's hstates.

    :raises MissingMemory: if they are not in the dump.
    """
    kernel = snapshot.kernel
    names: set[str] = set()
    for index in range(kernel.hstate_count):
        address = kernel.hstates + index * kernel.hstate.size
        data = snapshot.read(address, kernel.hstate.size)
        name = _name(kernel, data)
        if not name or name in names:
            # It is damaged; folios of different hstates must not be counted as those of one.
            name = f"hstates[{index}]"
        names.add(name)
        hstate = _hstate(kernel, address, data, name)
        if hstate.order in _ORDERS:
            yield hstate
        else:
            yield BrokenHstate(name, hstate.order, address)


def may_change(snapshot: Snapshot) -> bool:
    """
    Whether the hstates may be caught between two changes of one folio: while it moves from list to
    list, counters do not agree with lists, or with each other, by one.
    """
    lock = snapshot.kernel.hugetlb_lock
    if lock is None or snapshot.kernel.live:
        return True
    try:
        return any(snapshot.read(lock.address, lock.size))
    except MissingMemory:
        return True


def _hstate(kernel: Kernel, address: int, data: bytes, name: str) -> Hstate:
    """
    :param address: Virtual address of the ``struct hstate``.
    :param data: Its bytes.
    """
    layout = kernel.hstate
    return Hstate(
        name=name,
        order=layout.value(data, "order"),
        counters=Counters(*(_total(layout, data, counter) for counter in Counters._fields)),
        node_counters=_node_counters(layout, data),
        lists=list(_lists(layout, address, data, name)),
        resv_huge_pages=_total(layout, data, "resv_huge_pages"),
        max_huge_pages=_total(layout, data, "max_huge_pages"),
        no_counters=Counters(*(0 if array in layout.members else None for array in _OF_NODES)),
    )


def _total(layout: Struct, data: bytes, counter: str) -> Count:
    """A counter of all nodes together."""
    if counter not in layout.members:
        return None
    return _signed(layout.value(data, counter), layout.members[counter].size)


def _node_counters(layout: Struct, data: bytes) -> dict[int | None, Counters]:
    """The counters of each node with anything to count."""
    columns = (_by_node(layout, data, name) for name in _OF_NODES)
    rows = zip(range(node_count(layout)), *columns)
    return {node: Counters(*counts) for node, *counts in rows if any(counts)}


def _by_node(layout: Struct, data: bytes, name: str) -> Iterable[Count]:
    """A counter of each node."""
    if name not in layout.members:
        return repeat(None)
    size = layout.members[name].size
    # Most of the nodes that a kernel may have do not exist, and count nothing.
    return [_signed(count, size) if count else 0 for count in layout.elements(data, name)]


def _lists(layout: Struct, address: int, data: bytes, hstate: str) -> Iterator[HstateList]:
    """The free lists that are not empty, and the active list."""
    free_lists = _list_heads(layout, address, data, "hugepage_freelists")
    for node, (head, first, last) in enumerate(free_lists):
        # Lists of nodes that do not exist are empty: they point at themselves, both ways.
        if not head == first == last:
            yield HstateList(hstate, node, head, first, last)
    for head, first, last in _list_heads(layout, address, data, "hugepage_activelist"):
        yield HstateList(hstate, None, head, first, last)


def _list_heads(
    layout: Struct, address: int, data: bytes, name: str
) -> Iterator[tuple[int, int, int]]:
    """Address of each list's head, and the ``next`` and the ``prev`` pointer in it."""
    if name not in layout.members:
        return iter(())
    member = layout.members[name]
    heads = count(address + member.offset, member.size)
    after = member._replace(offset=member.offset + _POINTER_SIZE)
    before = Struct(layout.size, {name: after}).elements(data, name)
    return zip(heads, layout.elements(data, name), before)


def _name(kernel: Kernel, data: bytes) -> str:
    """A hstate's name; where it cannot be read, as ``hugetlb_add_hstate()`` makes it."""
    member = kernel.hstate.members.get("name")
    if member is None:
        order = kernel.hstate.value(data, "order")
        return f"hugepages-{kernel.page_size << min(order, _ORDERS[-1]) >> 10}kB"
    name = data[member.offset : member.offset + member.length].split(b"\0")[0]
    return printable(name.decode("ascii", "backslashreplace"))


def _signed(count: int, size: int) -> int:
    """
    A counter that went below zero as a negative number.

    :param count: The counter as an unsigned number.
    :param size: Bytes of the counter.
    """
    return count - (1 << 8 * size) if count >> 8 * size - 1 else count
