# SPDX-License-Identifier: LGPL-2.1-or-later

"""Counters of a hstate beside the folios that were found: which of them cannot both be right."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from drgn_vmemmap.hugetlb.folio import FolioClass, State
from drgn_vmemmap.hugetlb.hstate import Counters, Hstate, read_hstates
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.rules.counters import count_mismatches, impossible_counters
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

NAME = "hugepages-2048kB"
FREE, ACTIVE, OFF_LIST = State.FREE, State.ACTIVE, State.OFF_LIST


@pytest.fixture(scope="module")
def hstates() -> list[Hstate]:
    """Of a kernel that counts four folios of 2 MiB, of which three are free, on one node."""
    pfns = (FIRST_FOLIO + 512 * number for number in range(4))
    folios = tuple(Folio(pfn, state=FREE if number else ACTIVE) for number, pfn in enumerate(pfns))
    image = Image(Machine(folios=folios, orders=(9,)))
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    return [each for each in read_hstates(snapshot) if isinstance(each, Hstate)]


def said(
    hstates: list[Hstate],
    found: dict[State, int],
    complete: bool = True,
    incomplete_lists: Collection[str] = (),
    may_move: bool = False,
    node: int | None = 0,
    name: str = NAME,
) -> list[str]:
    """What is said where so many folios were found in each state, but for the node's counters."""
    folio = FolioClass(9, name, node, 1, True)
    folios = {(folio, state): count for state, count in found.items()}
    findings = count_mismatches(hstates, folios, complete, incomplete_lists, may_move)
    messages = [f"{finding.rule}: {finding.message}" for finding in findings]
    return [message for message in messages if " on node " not in message]


def mismatch(name: str, counted: int, found: int) -> str:
    return f"count-mismatch: {NAME}: {name} is {counted}, {found} folios were found"


def test_counters_that_agree_with_what_was_found_are_right(hstates: list[Hstate]) -> None:
    assert said(hstates, {FREE: 3, ACTIVE: 1}) == []
    # A folio on no list may be counted or not.
    assert said(hstates, {FREE: 3, ACTIVE: 1, OFF_LIST: 1}) == []
    assert said(hstates, {FREE: 3, OFF_LIST: 1}) == []


def test_more_folios_than_are_counted_are_found(hstates: list[Hstate]) -> None:
    expected = [mismatch("nr_huge_pages", 4, 5), mismatch("free_huge_pages", 3, 4)]
    for complete in (True, False):
        assert said(hstates, {FREE: 4, ACTIVE: 1}, complete) == expected
        assert said(hstates, {FREE: 4, ACTIVE: 1}, complete, [NAME]) == expected
    assert said(hstates, {FREE: 3, ACTIVE: 2}) == [mismatch("nr_huge_pages", 4, 5)]


def test_the_counter_of_all_nodes_comes_first(hstates: list[Hstate]) -> None:
    folio = FolioClass(9, NAME, 0, 1, True)
    findings = count_mismatches(hstates, {(folio, FREE): 3}, True, (), False)
    words = "nr_huge_pages is 4, 3 folios were found"
    assert [finding.message for finding in findings] == [
        *(f"{NAME}: {words}", f"{NAME} on node 0: {words}")
    ]


def test_folios_that_are_counted_may_be_where_the_dump_lacks_memory(hstates: list[Hstate]) -> None:
    missing = {FREE: 2, ACTIVE: 1}
    expected = [mismatch("nr_huge_pages", 4, 3), mismatch("free_huge_pages", 3, 2)]
    assert said(hstates, missing) == expected
    assert said(hstates, missing, complete=False) == []


def test_free_folios_may_be_on_a_list_that_cannot_be_followed(hstates: list[Hstate]) -> None:
    found = {FREE: 2, ACTIVE: 1, OFF_LIST: 1}
    assert said(hstates, found) == [mismatch("free_huge_pages", 3, 2)]
    assert said(hstates, found, incomplete_lists=["hugepages-1048576kB"]) != []
    assert said(hstates, found, incomplete_lists=[NAME]) == []
    # A list does not change how many there are.
    gone = [mismatch("nr_huge_pages", 4, 3)]
    assert said(hstates, {FREE: 3}, incomplete_lists=[NAME]) == gone


def test_folios_of_another_size_or_node_are_not_counted_here(hstates: list[Hstate]) -> None:
    gone = [mismatch("nr_huge_pages", 4, 0), mismatch("free_huge_pages", 3, 0)]
    assert said(hstates, {FREE: 3, ACTIVE: 1}, name="hugepages-1048576kB") == gone
    assert said(hstates, {FREE: 3, ACTIVE: 1}, node=1) == []
    folio = FolioClass(9, NAME, 1, 1, True)
    findings = count_mismatches(hstates, {(folio, FREE): 3, (folio, ACTIVE): 1}, True, (), False)
    assert [finding.message for finding in findings] == [
        f"{NAME} on node {node}: {name} is {counted}, {found} folios were found"
        for node, pairs in ((0, ((4, 0), (3, 0))), (1, ((0, 4), (0, 3))))
        for name, (counted, found) in zip(("nr_huge_pages", "free_huge_pages"), pairs)
    ]


@pytest.mark.parametrize(
    ("found", "is_moving"),
    (
        ({FREE: 3, ACTIVE: 2}, True),
        ({FREE: 3}, True),
        ({FREE: 3, ACTIVE: 3}, False),
        ({FREE: 4, ACTIVE: 1}, False),
        ({FREE: 2, ACTIVE: 2}, True),
        ({FREE: 1, ACTIVE: 3}, False),
    ),
)
def test_counters_that_differ_by_one_folio_may_be_caught_while_it_moves(
    hstates: list[Hstate], found: dict[State, int], is_moving: bool
) -> None:
    assert all(each.startswith("count-mismatch: ") for each in said(hstates, found))
    moving = said(hstates, found, may_move=True)
    assert moving
    assert all(each.startswith("in-flight: ") is is_moving for each in moving)


def test_counters_that_differ_on_two_nodes_are_not_of_one_folio(hstates: list[Hstate]) -> None:
    two = {(FolioClass(9, NAME, node, 1, True), FREE): 1 for node in (1, 2)}
    here = {(FolioClass(9, NAME, 0, 1, True), state): n for state, n in ((FREE, 1), (ACTIVE, 1))}
    findings = [*count_mismatches(hstates, {**two, **here}, False, (), True)]
    assert findings
    assert {finding.rule for finding in findings} == {"count-mismatch"}


@pytest.mark.parametrize(
    ("total", "surplus", "reserved", "said"),
    (
        (4, 0, 0, []),
        (4, 4, 4, []),
        (4, 5, 4, ["surplus_huge_pages is 5, more than the 4 folios counted"]),
        (4, 4, 5, ["resv_huge_pages is 5, more than the 4 folios counted"]),
        (4, -1, 0, ["surplus_huge_pages is -1, below zero"]),
        (-1, 0, 0, []),
        (-1, 1, 0, ["surplus_huge_pages is 1, more than the -1 folios counted"]),
        (None, 1 << 40, 0, []),
        (4, None, None, []),
        (None, 0, -1, ["resv_huge_pages is -1, below zero"]),
    ),
)
def test_there_are_not_more_folios_of_a_kind_than_folios(
    hstates: list[Hstate],
    total: int | None,
    surplus: int | None,
    reserved: int | None,
    said: list[str],
) -> None:
    (hstate,) = hstates
    counters = hstate.counters._replace(nr_huge_pages=total, surplus_huge_pages=surplus)
    changed = hstate._replace(
        counters=counters,
        resv_huge_pages=reserved,
        no_counters=Counters(None, None, None),  # of a kernel whose nodes' were not recognised
    )
    messages = [finding.message for finding in impossible_counters(changed, False)]
    assert messages == [f"{NAME}: {part}" for part in said]


@pytest.mark.parametrize(
    ("free", "is_wrong"), ((None, False), (-1, False), (0, False), (4, False), (5, True))
)
def test_there_are_not_more_free_folios_than_folios_where_a_dump_does_not_show_all_of_them(
    hstates: list[Hstate], free: int | None, is_wrong: bool
) -> None:
    (hstate,) = hstates
    changed = hstate._replace(
        counters=hstate.counters._replace(free_huge_pages=free),
        no_counters=Counters(None, None, None),
    )
    for is_compared in (True, False):
        findings = impossible_counters(changed, False, free_is_compared=is_compared)
        words = f"{NAME}: free_huge_pages is 5, more than the 4 folios counted"
        assert [each.message for each in findings] == [words] * (is_wrong and not is_compared)


@pytest.mark.parametrize("may_change", (True, False))
def test_no_node_has_less_than_no_surplus(hstates: list[Hstate], may_change: bool) -> None:
    """Not even while a counter changes: those of its nodes may differ from the sum by one."""
    (hstate,) = hstates
    changed = hstate._replace(
        node_counters={**hstate.node_counters, 1: Counters(0, 0, -1)},
    )
    messages = [finding.message for finding in impossible_counters(changed, may_change)]
    assert messages[0] == f"{NAME} on node 1: surplus_huge_pages is -1, below zero"
    assert len(messages) == (1 if may_change else 2)


@pytest.mark.parametrize("name", ("nr_huge_pages", "free_huge_pages"))
def test_a_counter_below_zero_is_wrong_under_the_lock_too(hstates: list[Hstate], name: str) -> None:
    (hstate,) = hstates
    folio = FolioClass(9, NAME, 0, 1, True)
    below = Counters(0, 0, 0)._replace(**{name: -1})
    changed = hstate._replace(node_counters={**hstate.node_counters, 1: below})
    found = {(folio, FREE): 3, (folio, ACTIVE): 1}
    (finding,) = count_mismatches([changed], found, True, (), may_move=True)
    assert finding.rule == "count-mismatch"
    assert finding.message == f"{NAME} on node 1: {name} is -1, 0 folios were found"


@pytest.mark.parametrize(("pages", "is_wrong"), ((None, False), (0, False), (1, False), (-1, True)))
def test_no_pool_is_to_have_less_than_no_folio(
    hstates: list[Hstate], pages: int | None, is_wrong: bool
) -> None:
    (hstate,) = hstates
    findings = impossible_counters(hstate._replace(max_huge_pages=pages), False)
    messages = [f"{NAME}: max_huge_pages is -1, below zero"]
    assert [finding.message for finding in findings] == messages * is_wrong


@pytest.mark.parametrize(("more", "may_change"), ((0, True), (1, True), (2, False), (-1, True)))
def test_counters_of_nodes_add_up_or_differ_by_the_one_that_changes(
    hstates: list[Hstate], more: int, may_change: bool
) -> None:
    (hstate,) = hstates
    counters = hstate.counters._replace(free_huge_pages=3 + more)
    changed = hstate._replace(counters=counters)
    words = f"{NAME}: free_huge_pages is {3 + more}, but those of its nodes add up to 3"
    for is_changing in (True, False):
        findings = impossible_counters(changed, is_changing)
        is_right = not more or (is_changing and may_change)
        assert [finding.message for finding in findings] == [words] * (not is_right)
