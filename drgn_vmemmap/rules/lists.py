# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on hstates: their lists and their counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from drgn_vmemmap.hugetlb.folio import FolioClass, State
from drgn_vmemmap.hugetlb.hstate import BrokenHstate, Counters, Hstate
from drgn_vmemmap.hugetlb.lists import BrokenList
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import COUNT_MISMATCH, LIST_CORRUPT, UNREADABLE
from drgn_vmemmap.vmemmap.sections import MissingSections


def broken_list(broken: BrokenList) -> Finding:
    """A list of folios closes, and holds each once (``include/linux/list.h``)."""
    rule = UNREADABLE if broken.unreadable else LIST_CORRUPT
    return rule.finding(f"{broken.list}: {broken.reason}", address=broken.address)


def broken_hstate(broken: BrokenHstate) -> Finding:
    """A hstate's order is one that the processor has pages of (``hugetlb_add_hstate()``)."""
    return LIST_CORRUPT.finding(
        f"{broken.name}: order {broken.order} cannot be; its lists were not followed"
    )


def search_problem(problem: BrokenList | MissingSections) -> Finding:
    """What kept the search for folios from being complete."""
    if isinstance(problem, BrokenList):
        return broken_list(problem)
    first, last = problem.pfns[0], problem.pfns[-1]
    # Folios there are found only if a list leads to them.
    return UNREADABLE.finding(
        f"not all of the memmap of PFNs {first:#x} to {last:#x} is in the dump"
    )


def count_mismatch(
    hstate: Hstate, folios: Mapping[tuple[FolioClass, State], int]
) -> Iterator[Finding]:
    """
    The hstate's counters agree with its lists (``__prep_account_new_huge_page()``).

    Folios on no list may or may not be counted: those being made or given back are not.

    :param folios: How many folios were found of each class in each state.
    """
    found: Counter[tuple[int | None, str]] = Counter()
    off_list: Counter[tuple[int | None, str]] = Counter()
    for (folio_class, state), count in folios.items():
        if folio_class.hstate == hstate.name:
            for node in {None, folio_class.node}:
                found[node, "nr_huge_pages"] += count
                found[node, "free_huge_pages"] += count if state is State.FREE else 0
                off_list[node, "nr_huge_pages"] += count if state is State.OFF_LIST else 0
    nodes: list[tuple[int | None, Counters]] = [(None, hstate.counters)]
    nodes += hstate.node_counters.items()
    for node, counters in nodes:
        for name in ("nr_huge_pages", "free_huge_pages"):
            expected, seen = getattr(counters, name), found[node, name]
            if not seen - off_list[node, name] <= expected <= seen:
                where = hstate.name if node is None else f"{hstate.name} on node {node}"
                yield COUNT_MISMATCH.finding(
                    f"{where}: {name} is {expected}, {seen} folios were found"
                )
