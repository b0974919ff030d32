# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on hstates and zones: their lists, and what of them is not in the dump."""

from __future__ import annotations

from collections.abc import Sequence

from drgn_vmemmap.hugetlb.hstate import BrokenHstate
from drgn_vmemmap.hugetlb.lists import BrokenList
from drgn_vmemmap.hugetlb.search import SearchProblem
from drgn_vmemmap.hugetlb.tail_frames import InvalidSlot
from drgn_vmemmap.kernel.facts import ZoneKey
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import (
    IN_FLIGHT,
    LIST_CORRUPT,
    REUSE_INVALID,
    UNREADABLE,
)
from drgn_vmemmap.vmemmap.sections import MissingSections
from drgn_vmemmap.vmemmap.special import UnknownMemory

# The most zones that are named of those that are not in the dump.
_NAMED_ZONES = 8


def broken_list(broken: BrokenList) -> Finding:
    """A list of folios closes, and holds each once (``include/linux/list.h``)."""
    rule, reason = UNREADABLE if broken.unreadable else LIST_CORRUPT, broken.reason
    if broken.in_flight:
        rule = IN_FLIGHT
        reason += ", which is possible between the two stores of an insertion or a removal"
    return rule.finding(f"{broken.list}: {reason}", address=broken.address)


def broken_hstate(broken: BrokenHstate) -> Finding:
    """A hstate's order is one that the processor has pages of (``hugetlb_add_hstate()``)."""
    return LIST_CORRUPT.finding(
        f"{broken.name}: order {broken.order} is impossible; its lists were not followed",
        address=broken.address,
    )


def search_problem(problem: SearchProblem) -> Finding:
    """A problem that kept the search for folios from being complete."""
    if isinstance(problem, BrokenList):
        return broken_list(problem)
    pfns = f"PFNs {problem.pfns[0]:#x} to {problem.pfns[-1]:#x}"
    if isinstance(problem, MissingSections):
        return UNREADABLE.finding(f"the dump does not show which of {pfns} have a memmap")
    # Folios there are found only if a list leads to them.
    return UNREADABLE.finding(f"not all of the memmap of {pfns} is in the dump")


def unknown_memory(unknown: UnknownMemory) -> Finding:
    """Struct pages show whether memory is a device's, or hosts its own vmemmap."""
    return UNREADABLE.finding(
        f"the dump does not show whether PFNs {unknown.pfns[0]:#x} to {unknown.pfns[-1]:#x} "
        f"{unknown.question}"
    )


def missing_zones(zones: Sequence[ZoneKey]) -> Finding:
    """
    The zones say which frames they keep for shared tails (``vmemmap_get_tail()``).

    :param zones: Those that are not in the dump, at least one.
    """
    names = ", ".join(f"{zone.zone} of node {zone.node}" for zone in zones[:_NAMED_ZONES])
    more = f" and {len(zones) - _NAMED_ZONES} more" if len(zones) > _NAMED_ZONES else ""
    return UNREADABLE.finding(f"the tail frames of zones {names}{more} are not in the dump")


def invalid_slot(slot: InvalidSlot) -> Finding:
    """A zone keeps the struct page of a frame for tails, or nothing (``vmemmap_get_tail()``)."""
    return REUSE_INVALID.finding(
        f"vmemmap_tails of {slot.name}, is {slot.pointer:#x}, which is no struct page",
        address=slot.address,
        expected="the struct page of a frame, or null",
    )


def shared_slot(frame: int, slots: Sequence[str], address: int) -> Finding:
    """
    Each zone keeps a frame of its own for the tails of each order (``vmemmap_get_tail()``).

    :param slots: The zones and orders that keep the same frame, in words.
    :param address: Virtual address in bytes of the frame's struct page.
    """
    return REUSE_INVALID.finding(
        f"tail frame {frame:#x} is kept for {' and for '.join(slots)}",
        address=address,
        expected="a frame for each zone and order",
    )
