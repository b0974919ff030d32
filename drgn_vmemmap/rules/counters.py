# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on the counters of the hstates: what they must agree with, and what they can be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from drgn_vmemmap.hugetlb.folio import FolioClass, State
from drgn_vmemmap.hugetlb.hstate import Counters, Hstate
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import COUNT_MISMATCH, IN_FLIGHT


class _Difference(NamedTuple):
    """A counter that does not agree with the folios found."""

    hstate: Hstate
    node: int | None
    """``None`` for the counter of all nodes."""
    name: str
    counted: int
    found: int
    more: int
    """How many folios too many are counted."""

    @property
    def may_be_on_lists(self) -> bool:
        """Whether folios on lists that cannot be followed would explain it."""
        return self.name == "free_huge_pages" and self.more > 0

    def __str__(self) -> str:
        place = _place(self.hstate, self.node)
        found = "1 folio was" if self.found == 1 else f"{self.found} folios were"
        return f"{place}: {self.name} is {self.counted}, {found} found"


def count_mismatches(
    hstates: Sequence[Hstate],
    folios: Mapping[tuple[FolioClass, State], int],
    complete: bool,
    incomplete_lists: Collection[str],
    may_move: bool,
) -> Iterator[Finding]:
    """
    The hstates' counters agree with their lists (``__prep_account_new_huge_page()``).

    Folios on no list may or may not be counted: those being made or given back are not.

    :param folios: How many folios were found of each class in each state.
    :param complete: Whether all folios can have been found: the dump lacks nothing that shows them.
    :param incomplete_lists: Names of hstates whose lists may hold folios that could not be reached.
    :param may_move: Whether the hstates may be caught while a folio moves.
    """
    found = [
        each
        for hstate in hstates
        for each in _differences(hstate, folios, complete)
        if not each.may_be_on_lists or hstate.name not in incomplete_lists
    ]
    is_moving = may_move and _are_of_one_folio(found)
    for each in found:
        if is_moving:
            yield IN_FLIGHT.finding(
                f"{each}, which is possible while a folio moves under hugetlb_lock"
            )
        else:
            yield COUNT_MISMATCH.finding(str(each))


def _differences(
    hstate: Hstate, folios: Mapping[tuple[FolioClass, State], int], complete: bool
) -> Iterator[_Difference]:
    """The counters of a hstate that do not agree with the folios found."""
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
            counted, seen = getattr(counters, name), found[node, name]
            if counted is None:
                continue
            least = seen - off_list[node, name]
            if counted < least:
                yield _Difference(hstate, node, name, counted, seen, counted - least)
            elif complete and counted > seen:
                yield _Difference(hstate, node, name, counted, seen, counted - seen)


def _are_of_one_folio(differences: Sequence[_Difference]) -> bool:
    """
    Whether one folio that moves explains all differences.

    ``enqueue_hugetlb_folio()`` and ``remove_hugetlb_folio()`` change a list, the counter of all
    nodes and that of one node, one after the other: as long as one differs, that of its node does.
    None is below zero at any moment.
    """
    counters = {(each.hstate.name, each.name) for each in differences}
    nodes = {each.node for each in differences} - {None}
    more = {each.more for each in differences}
    is_possible = all(each.counted >= 0 for each in differences)
    return is_possible and len(counters) == 1 and len(nodes) == 1 and more in ({1}, {-1})


def impossible_counters(
    hstate: Hstate,
    may_change: bool,
    with_reservation: int = 0,
    free_is_compared: bool = True,
) -> Iterator[Finding]:
    """
    A hstate's counters are possible: none is below zero, and no kind of folio is counted more
    often than all folios (``hugetlb_acct_memory()``).

    :param may_change: Whether the hstates may be caught between two changes.
    :param with_reservation: How many folios give back a reservation when they are freed.
    :param free_is_compared: Whether free folios can all have been found: then
        :func:`count_mismatches` says if there are not as many as are counted.
    """
    yield from _impossible_counts(hstate, with_reservation, free_is_compared)
    if (hstate.max_huge_pages or 0) < 0:
        yield COUNT_MISMATCH.finding(
            f"{hstate.name}: max_huge_pages is {hstate.max_huge_pages}, below zero"
        )
    yield from _other_sums(hstate, may_change)


def _impossible_counts(
    hstate: Hstate, with_reservation: int, free_is_compared: bool
) -> Iterator[Finding]:
    """Counts of a kind of folio that are below zero, or above the count of all folios."""
    total = hstate.counters.nr_huge_pages
    limit = math.inf if total is None else max(total, 0)
    counts = {
        "surplus_huge_pages": hstate.counters.surplus_huge_pages,
        "resv_huge_pages": hstate.resv_huge_pages,
    }
    if not free_is_compared and (hstate.counters.free_huge_pages or 0) > 0:
        counts["free_huge_pages"] = hstate.counters.free_huge_pages
    for name, count in counts.items():
        if count is None or 0 <= count <= limit:
            continue
        if name == "resv_huge_pages" and -with_reservation <= count < 0:
            # Linux commit df7a6d1f6405 ("mm/hugetlb: restore the reservation if needed") (in
            # v6.9): a mapping that goes takes a reservation more from the counter, and a folio of
            # it that somebody else still holds gives it back only when it is freed.
            yield IN_FLIGHT.finding(
                f"{hstate.name}: {name} is {count}, which is possible while folios with "
                "HPG_restore_reserve are held after their mapping is gone"
            )
        else:
            reason = "below zero" if count < 0 else f"more than the {total} folios counted"
            yield COUNT_MISMATCH.finding(f"{hstate.name}: {name} is {count}, {reason}")
    for node, counters in hstate.node_counters.items():
        surplus = counters.surplus_huge_pages
        if surplus is not None and surplus < 0:
            place = _place(hstate, node)
            yield COUNT_MISMATCH.finding(f"{place}: surplus_huge_pages is {surplus}, below zero")


def _other_sums(hstate: Hstate, may_change: bool) -> Iterator[Finding]:
    """Counters of a hstate that are not the sums of those of its nodes."""
    for name in Counters._fields:
        of_all = getattr(hstate.counters, name)
        if of_all is None or getattr(hstate.no_counters, name) is None:
            continue
        of_nodes = sum(getattr(counters, name) for counters in hstate.node_counters.values())
        # Both are updated under one lock, one after the other.
        if abs(of_nodes - of_all) > may_change:
            yield COUNT_MISMATCH.finding(
                f"{hstate.name}: {name} is {of_all}, but those of its nodes add up to {of_nodes}"
            )


def _place(hstate: Hstate, node: int | None) -> str:
    return hstate.name if node is None else f"{hstate.name} on node {node}"
