# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on hstates: their lists and their counters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from drgn_vmemmap.hugetlb.folio import FolioClass, State
from drgn_vmemmap.hugetlb.hstate import BrokenHstate, Counters, Hstate
from drgn_vmemmap.hugetlb.lists import BrokenList
from drgn_vmemmap.hugetlb.search import SearchProblem
from drgn_vmemmap.kernel.facts import ZoneKey
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import (
    COUNT_MISMATCH,
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
        reason += ": as between the two stores of an insertion or a removal"
    return rule.finding(f"{broken.list}: {reason}", address=broken.address)


def broken_hstate(broken: BrokenHstate) -> Finding:
    """A hstate's order is one that the processor has pages of (``hugetlb_add_hstate()``)."""
    return LIST_CORRUPT.finding(
        f"{broken.name}: order {broken.order} cannot be; its lists were not followed"
    )


def search_problem(problem: SearchProblem) -> Finding:
    """What kept the search for folios from being complete."""
    if isinstance(problem, BrokenList):
        return broken_list(problem)
    pfns = f"PFNs {problem.pfns[0]:#x} to {problem.pfns[-1]:#x}"
    if isinstance(problem, MissingSections):
        return UNREADABLE.finding(f"which of {pfns} have a memmap is not in the dump")
    # Folios there are found only if a list leads to them.
    return UNREADABLE.finding(f"not all of the memmap of {pfns} is in the dump")


def unknown_memory(unknown: UnknownMemory) -> Finding:
    """Whether memory is a device's, or hosts its own vmemmap, its struct pages show."""
    return UNREADABLE.finding(
        f"whether PFNs {unknown.pfns[0]:#x} to {unknown.pfns[-1]:#x} {unknown.question} "
        "is not in the dump"
    )


def missing_zones(zones: Sequence[ZoneKey]) -> Finding:
    """
    The zones say which frames they keep for shared tails (``vmemmap_get_tail()``).

    :param zones: Those that are not in the dump, at least one.
    """
    names = ", ".join(f"{zone.zone} of node {zone.node}" for zone in zones[:_NAMED_ZONES])
    more = f" and {len(zones) - _NAMED_ZONES} more" if len(zones) > _NAMED_ZONES else ""
    return UNREADABLE.finding(f"the tail frames of zones {names}{more} are not in the dump")


def count_mismatch(
    hstate: Hstate, folios: Mapping[tuple[FolioClass, State], int], complete: bool
) -> Iterator[Finding]:
    """
    The hstate's counters agree with its lists (``__prep_account_new_huge_page()``).

    Folios on no list may or may not be counted: those being made or given back are not.

    :param folios: How many folios were found of each class in each state.
    :param complete: Whether all folios can have been found: the dump lacks nothing that shows them.
    """
    found: Counter[tuple[int | None, str]] = Counter()
    off_list: Counter[tuple[int | None, str]] = Counter()
    nodes: set[int | None] = {None, *hstate.node_counters}
    for (folio_class, state), count in folios.items():
        if folio_class.hstate == hstate.name:
            nodes.add(folio_class.node)
            for node in {None, folio_class.node}:
                found[node, "nr_huge_pages"] += count
                found[node, "free_huge_pages"] += count if state is State.FREE else 0
                off_list[node, "nr_huge_pages"] += count if state is State.OFF_LIST else 0
    for node in sorted(nodes, key=lambda node: (node is not None, node)):
        counters = hstate.counters if node is None else hstate.counters_of(node)
        for name in ("nr_huge_pages", "free_huge_pages"):
            expected, seen = getattr(counters, name), found[node, name]
            if expected is None:
                continue
            if expected < seen - off_list[node, name] or (complete and expected > seen):
                yield COUNT_MISMATCH.finding(
                    f"{_place(hstate, node)}: {name} is {expected}, {seen} folios were found"
                )


def impossible_counters(hstate: Hstate) -> Iterator[Finding]:
    """
    A hstate's counters can be what they are: they were not taken below zero, and there are not
    more folios of a kind than there are folios (``hugetlb_acct_memory()``).
    """
    total = hstate.counters.nr_huge_pages
    limit = math.inf if total is None else max(total, 0)
    counts = {
        "surplus_huge_pages": hstate.counters.surplus_huge_pages,
        "resv_huge_pages": hstate.resv_huge_pages,
    }
    for name, count in counts.items():
        if count is not None and not 0 <= count <= limit:
            reason = "below zero" if count < 0 else f"more than the {total} folios counted"
            yield COUNT_MISMATCH.finding(f"{hstate.name}: {name} is {count}, {reason}")
    if (hstate.max_huge_pages or 0) < 0:
        yield COUNT_MISMATCH.finding(
            f"{hstate.name}: max_huge_pages is {hstate.max_huge_pages}, below zero"
        )
    for name in Counters._fields:
        of_all = getattr(hstate.counters, name)
        if of_all is None or getattr(hstate.no_counters, name) is None:
            continue
        of_nodes = sum(getattr(counters, name) for counters in hstate.node_counters.values())
        # Both are updated under one lock, one after the other.
        if abs(of_nodes - of_all) > 1:
            yield COUNT_MISMATCH.finding(
                f"{hstate.name}: {name} is {of_all}, but those of its nodes add up to {of_nodes}"
            )


def _place(hstate: Hstate, node: int | None) -> str:
    return hstate.name if node is None else f"{hstate.name} on node {node}"


def shared_slot(frame: int, slots: Sequence[str]) -> Finding:
    """
    Each zone keeps a frame of its own for the tails of each order (``vmemmap_get_tail()``).

    :param slots: The zones and orders that keep the same frame, in words.
    """
    return REUSE_INVALID.finding(
        f"tail frame {frame:#x} is kept for {' and for '.join(slots)}",
        expected="a frame for each zone and order",
    )
