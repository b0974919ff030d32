# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is said of a list that is broken: where, by what, and which folios may be on it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.hugetlb import lists
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hugetlb.hstate import HstateList
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, GIB, SECTION_PAGES, Folio, Machine, Section
from tests.synthetic.physical import PAGE_SHIFT

PFNS = tuple(FIRST_FOLIO + 512 * number for number in range(3))
NOWHERE = 0xDEAD000000000100


def three(*others: Folio, is_live: bool = False) -> Image:
    """A kernel with three free folios on one list, and other folios."""
    free = (Folio(pfn) for pfn in PFNS)
    image = Image(Machine(line=LINES["6.12.0"], node_size=3 * GIB, folios=(*free, *others)))
    image.live = is_live
    return image


def ring(image: Image) -> list[int]:
    """The addresses of the pointers of a free list, its head first and last."""
    head = image.list_head(9, 0)
    return [head, *map(image.lru, PFNS), head]


def reasons(image: Image) -> list[str]:
    """What is said of lists, after their names."""
    return [
        finding.message.split(": ", 1)[1]
        for finding in image.examine().findings
        if finding.rule in ("list-corrupt", "in-flight") and "list" in finding.message
    ]


def states(image: Image) -> dict[int, State]:
    return {folio.pfn: folio.state for folio, _ in image.examine().folios}


@pytest.mark.parametrize("number", range(3))
def test_a_list_is_broken_after_its_head_or_a_folio(number: int) -> None:
    image = three()
    links = ring(image)
    if number:
        image.memmap.link(PFNS[number - 1], NOWHERE, links[number - 1])
        after = f"the folio at PFN {PFNS[number - 1]:#x}"
    else:
        image.write(links[0], NOWHERE)
        after = "its head"
    assert reasons(image) == [f"after {after}, pointer {NOWHERE:#x} leads out of the memmap"]
    assert set(states(image).values()) == {State.FREE}


@pytest.mark.parametrize("number", range(4))
def test_of_a_list_that_does_not_lead_back_both_pointers_are_named(number: int) -> None:
    image = three()
    links = ring(image)
    what = "its head"
    if number < 3:
        what = f"the folio at PFN {PFNS[number]:#x}"
        image.memmap.link(PFNS[number], links[number + 2], NOWHERE)
    else:
        image.write(links[0] + 8, NOWHERE)
    expected = f"prev of {what} is {NOWHERE:#x}, not {links[number]:#x}"
    assert reasons(image) == [expected]


@pytest.mark.parametrize("together", (1, 2, 3))
def test_a_list_leads_back_however_few_folios_are_compared_together(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_TOGETHER", together)
    assert reasons(three()) == []


@pytest.mark.parametrize("together", (1, 2, 3))
@pytest.mark.parametrize("number", range(2))
def test_one_of_two_places_that_do_not_lead_back_is_no_removal(
    number: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_TOGETHER", together)
    image = three()
    links = ring(image)
    image.memmap.link(PFNS[number], links[number + 2], links[number - 1] if number else links[2])
    image.write(links[0] + 8, links[1])
    (reason,) = reasons(image)
    assert f"prev of the folio at PFN {PFNS[number]:#x} is" in reason and "removal" not in reason


def test_a_list_does_not_lead_to_a_pfn_that_no_folio_of_its_order_has() -> None:
    image = three()
    image.memmap.link(PFNS[0], image.lru(PFNS[1] + 8), image.list_head(9, 0))
    assert reasons(image) == [
        f"after the folio at PFN {PFNS[0]:#x}, leads to PFN {PFNS[1] + 8:#x}, "
        "where no folio of order 9 begins"
    ]


GIGANTIC = Folio(GIB >> PAGE_SHIFT, 18, state=State.OFF_LIST)
ELSEWHERE = Folio(2 * GIB >> PAGE_SHIFT, 18, state=State.OFF_LIST)


def test_a_list_is_broken_before_a_folio_of_another_order() -> None:
    """It ends after the last folio before that one, from wherever that one leads on."""
    image = three(GIGANTIC)
    links = ring(image)
    image.memmap.link(PFNS[1], image.lru(GIGANTIC.pfn), links[1])
    image.memmap.link(GIGANTIC.pfn, links[3], links[2])
    assert reasons(image) == [
        f"after the folio at PFN {PFNS[1]:#x}, leads to PFN {GIGANTIC.pfn:#x}, a folio of order 18"
    ]
    assert states(image) == {**dict.fromkeys(PFNS, State.FREE), GIGANTIC.pfn: State.OFF_LIST}


def test_a_folio_of_another_order_that_only_lists_show_stays_on_its_own_list() -> None:
    """Nobody looks for folios in memory that is not online."""
    pfn = GIGANTIC.pfn
    offline = dict.fromkeys(range(pfn // SECTION_PAGES, 2 * pfn // SECTION_PAGES), Section.OFFLINE)
    small = Folio(FIRST_FOLIO)
    image = Image(Machine(node_size=3 * GIB, folios=(small, ELSEWHERE), sections=offline))
    image.memmap.write_folio(GIGANTIC)
    own = image.list_head(18, 0)
    image.memmap.link(pfn, own, own)
    image.write(own, image.lru(pfn))
    image.write(own + 8, image.lru(pfn))
    image.memmap.link(small.pfn, image.lru(pfn), image.list_head(9, 0))
    assert reasons(image) == [
        f"after the folio at PFN {small.pfn:#x}, leads to PFN {pfn:#x}, a folio of order 18"
    ]
    assert states(image)[pfn] is State.FREE


def is_wrong(image: Image, free: int) -> bool:
    """Whether a counter of so many free folios is said to be wrong."""
    image.write_hstate(9, free_huge_pages=free, free_huge_pages_node=free)
    messages = [f.message for f in image.examine().findings if f.rule == "count-mismatch"]
    return any("free_huge_pages" in message for message in messages)


def test_folios_of_a_list_that_is_broken_once_are_all_counted() -> None:
    """From both of its ends, it leads to all of them."""
    image = three()
    image.memmap.link(PFNS[0], NOWHERE, ring(image)[0])
    assert set(states(image).values()) == {State.FREE}
    assert not is_wrong(image, free=3)
    assert is_wrong(image, free=1)


def test_folios_of_a_list_that_only_fails_to_lead_back_are_all_counted() -> None:
    image = three()
    image.memmap.link(PFNS[1], ring(image)[3], NOWHERE)
    assert not is_wrong(image, free=3)
    assert is_wrong(image, free=1)


def test_folios_between_two_breaks_of_a_list_may_be_what_a_counter_counts() -> None:
    image = three()
    links = ring(image)
    image.memmap.link(PFNS[0], NOWHERE, links[0])
    image.memmap.link(PFNS[2], links[4], NOWHERE)
    assert states(image)[PFNS[1]] is State.OFF_LIST
    assert not is_wrong(image, free=3)


def test_so_may_those_of_a_list_whose_end_leads_to_a_folio_of_another_order() -> None:
    image = three(GIGANTIC)
    links = ring(image)
    image.memmap.link(PFNS[0], NOWHERE, links[0])
    image.memmap.link(GIGANTIC.pfn, links[0], links[2])
    image.write(links[0] + 8, image.lru(GIGANTIC.pfn))
    assert states(image)[GIGANTIC.pfn] is State.OFF_LIST
    assert not is_wrong(image, free=3)


def test_a_folio_stays_on_the_list_that_led_to_it_first() -> None:
    """A free folio leads to the head of the active list, whose own beginning is broken."""
    image = three()
    links, active = ring(image), image.list_head(9, None)
    image.memmap.link(PFNS[0], active, links[0])
    image.write(active, NOWHERE)
    image.write(active + 8, links[1])
    assert states(image)[PFNS[0]] is State.FREE


@pytest.mark.parametrize("to", (NOWHERE, None))
def test_a_list_of_a_running_kernel_that_leads_to_no_folio_each_time_is_found(
    to: int | None,
) -> None:
    image = three(is_live=True)
    to = image.lru(0xA000) if to is None else to
    image.memmap.link(PFNS[0], to, ring(image)[0])
    report = analyse(Snapshot(discover(image.prog), ProgramMemory(image.prog)))
    assert [finding.rule for finding in report.findings] == ["list-corrupt"]


@pytest.mark.parametrize("failures", range(5))
def test_a_list_of_a_running_kernel_is_followed_anew_a_few_times(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sound, and no other folio is taken for one on it, if one attempt succeeds."""
    alone = Folio(FIRST_FOLIO + 512 * 3, state=State.OFF_LIST)
    image = three(alone, is_live=True)
    links = ring(image)
    image.memmap.link(PFNS[0], NOWHERE, links[0])
    image.memmap.link(PFNS[2], links[4], NOWHERE)
    walk, attempts = lists.ListWalk._walk_alone, count(1)

    def walk_alone(self: lists.ListWalk, list_: HstateList, order: int) -> Iterator[int]:
        if next(attempts) > failures:
            image.memmap.link(PFNS[0], links[2], links[0])
        return walk(self, list_, order)

    monkeypatch.setattr(lists.ListWalk, "_walk_alone", walk_alone)
    report = analyse(Snapshot(discover(image.prog), ProgramMemory(image.prog)))
    found = {folio.pfn: folio.state for folio, _ in report.folios}
    is_sound = failures < 4
    assert found[alone.pfn] is State.OFF_LIST
    assert (found[PFNS[1]] is State.FREE) is is_sound
    assert ("list-corrupt" not in {each.rule for each in report.findings}) is is_sound
