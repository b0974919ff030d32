# SPDX-License-Identifier: LGPL-2.1-or-later

"""Flags, lists, counters, and what is not in the dump: each fault is found where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drgn_vmemmap.hugetlb import lists
from drgn_vmemmap.hugetlb.folio import State
from tests.oracles.view import Found
from tests.rules.machines import (
    ACTIVE,
    FREE_AFTER,
    FREE_BEFORE,
    PFNS,
    errors,
    every_layout,
    every_line,
    every_order,
    found,
    machine,
)
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, OPTIMIZED_BIT
from tests.synthetic.model import (
    FIRST_FOLIO,
    GIB,
    SECTION_PAGES,
    Damage,
    Folio,
    Link,
    LinkPlace,
    Machine,
    Section,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SHIFT


@every_layout
@every_order
def test_an_optimized_folio_without_the_flag_is_found(release: str, order: int) -> None:
    image = Image(machine(release, order, flag=False))
    assert found(image) == errors("flag-mismatch", PFNS[order], [None])


@every_layout
def test_an_unoptimized_folio_with_the_flag_is_found(release: str) -> None:
    image = Image(machine(release, remapped=False, flag=True))
    assert found(image) == errors("flag-mismatch", PFNS[9], [None])


@every_layout
def test_other_flags_of_a_folio_are_not_taken_for_the_optimized_one(release: str) -> None:
    image = Image(machine(release))
    image.write_page(FREE_AFTER, private=~(1 << OPTIMIZED_BIT) % (1 << 64))
    assert found(image) == []


@pytest.mark.parametrize("link", Link)
def test_a_list_that_does_not_close_is_found_and_loses_no_folio(link: Link) -> None:
    sound = machine("6.12.0")
    image = Image(replace(sound, links={LinkPlace(9, 0, 1): link}))
    report = image.examine()
    assert found(image) == [Found("list-corrupt", "error")]
    assert len(report.folios) == len(sound.folios)


def three_free() -> tuple[Image, list[int]]:
    """A kernel with three free folios on one list, and a fourth one on none."""
    pfns = [FIRST_FOLIO + 512 * number for number in range(4)]
    last = Folio(pfns[3], state=State.OFF_LIST, counted=True)
    free = (Folio(pfn) for pfn in pfns[:3])
    return Image(Machine(line=LINES["6.12.0"], folios=(*free, last))), pfns


def lists_of(image: Image) -> list[str]:
    """What is said of the lists, by the rule."""
    return [
        finding.rule
        for finding in image.examine().findings
        if finding.rule == "list-corrupt" or "list of" in finding.message
    ]


def test_a_folio_that_is_being_inserted_is_in_flight() -> None:
    """``__list_add()`` was stopped after its first store, or before its last one."""
    for links_are_set in (False, True):
        image, (first, *_, new) = three_free()
        following, head = image.lru(first + 512), image.list_head(9, 0)
        image.memmap.link(first, following, image.lru(new))
        if links_are_set:
            image.memmap.link(new, image.lru(first), head)
        assert lists_of(image) == ["in-flight"]
    image.memmap.link(first, following, image.lru(first + 1024))
    assert lists_of(image) == ["list-corrupt"]  # that one is on the list, elsewhere


@pytest.mark.parametrize("removed", range(3))
def test_a_folio_that_is_being_removed_is_in_flight(removed: int) -> None:
    """``__list_del()`` was stopped after its first store."""
    image, pfns = three_free()
    head = image.list_head(9, 0)
    ring = [head, *map(image.lru, pfns[:3]), head]
    if removed == 2:
        image.write(head + 8, ring[removed])
    else:
        image.memmap.link(pfns[removed + 1], ring[removed + 3], ring[removed])
    assert lists_of(image) == ["in-flight"]
    (message,) = (f.message for f in image.examine().findings if f.rule == "in-flight")
    assert message.endswith(
        ", which is possible between the two stores of an insertion or a removal"
    )


def test_lists_of_a_hstate_whose_order_cannot_be_are_not_followed() -> None:
    image = Image(machine("6.12.0"))
    image.write_hstate(9, order=8)
    (finding,) = (f for f in image.examine().findings if f.rule == "list-corrupt")
    assert finding.message == "hugepages-2048kB: order 8 is impossible; its lists were not followed"
    assert finding.address == image.hstates[9]


def test_a_list_whose_end_does_not_lead_back_is_found() -> None:
    image, pfns = three_free()
    image.write(image.list_head(9, 0) + 8, image.lru(pfns[0]))
    assert lists_of(image) == ["list-corrupt"]
    image, pfns = three_free()
    empty = image.list_head(9, 1)
    image.write(empty + 8, image.lru(pfns[0]))
    assert lists_of(image) == ["list-corrupt"]


def test_two_places_that_do_not_lead_back_are_no_insertion() -> None:
    image, (first, second, third, new) = three_free()
    image.memmap.link(first, image.lru(second), image.lru(new))
    image.memmap.link(third, image.list_head(9, 0), image.lru(first))
    assert lists_of(image) == ["list-corrupt"]


def states_of(image: Image) -> dict[int, State]:
    """The states of the folios, by their PFNs."""
    return {folio.pfn: folio.state for folio, _ in image.examine().folios}


def test_a_folio_on_the_free_list_of_another_node_is_found() -> None:
    pfns = [(GIB >> PAGE_SHIFT) * node + FIRST_FOLIO for node in range(2)]
    image = Image(Machine(nodes=2, folios=tuple(map(Folio, pfns))))
    head, other = (image.list_head(9, node) for node in range(2))
    image.memmap.link(pfns[0], image.lru(pfns[1]), head)
    image.memmap.link(pfns[1], head, image.lru(pfns[0]))
    for offset, first, last in ((0, pfns[0], other), (8, pfns[1], other)):
        image.write(head + offset, image.lru(first))
        image.write(other + offset, last)
    (finding,) = (f for f in image.examine().findings if f.rule == "list-corrupt")
    assert f"holds the folio at PFN {pfns[1]:#x} of node 1" in finding.message
    assert finding.address == image.lru(pfns[1])


def test_a_broken_list_is_not_followed_from_its_end_to_what_does_not_lead_back() -> None:
    image, (first, _, third, other) = three_free()
    image.memmap.link(first, image.machine.page_offset, image.list_head(9, 0))
    image.memmap.link(third, image.list_head(9, 0), image.lru(other))
    assert [pfn for pfn, state in states_of(image).items() if state is State.FREE] == [first, third]


def test_a_broken_list_is_not_followed_from_its_end_to_a_folio_of_another_order() -> None:
    gigantic = Folio(GIB >> PAGE_SHIFT, 18, state=State.OFF_LIST)
    small = tuple(Folio(FIRST_FOLIO + 512 * number) for number in range(2))
    image = Image(Machine(node_size=3 * GIB, folios=(*small, gigantic)))
    (first, second), head = (image.lru(folio.pfn) for folio in small), image.list_head(9, 0)
    image.memmap.link(small[0].pfn, image.machine.page_offset, head)
    image.memmap.link(small[1].pfn, head, image.lru(gigantic.pfn))
    image.memmap.link(gigantic.pfn, second, first)
    assert states_of(image)[gigantic.pfn] is State.OFF_LIST


def test_folios_after_one_of_another_order_are_not_on_its_list() -> None:
    gigantic = Folio(GIB >> PAGE_SHIFT, 18, state=State.OFF_LIST)
    image = Image(Machine(node_size=3 * GIB, folios=(Folio(FIRST_FOLIO), gigantic)))
    head = image.list_head(9, 0)
    image.memmap.link(FIRST_FOLIO, image.lru(gigantic.pfn), head)
    image.memmap.link(gigantic.pfn, head, image.lru(FIRST_FOLIO))
    image.write(head + 8, image.lru(gigantic.pfn))
    assert states_of(image) == {FIRST_FOLIO: State.FREE, gigantic.pfn: State.OFF_LIST}
    assert "list-corrupt" in lists_of(image)


def test_a_list_that_does_not_close_is_no_insertion_where_one_place_does_not_lead_back() -> None:
    image, (_, second, third, new) = three_free()
    image.memmap.link(second, image.lru(third), image.lru(new))
    image.memmap.link(third, image.machine.page_offset, image.lru(second))
    assert lists_of(image) == ["list-corrupt", "list-corrupt"]


def test_the_folio_that_does_not_lead_back_is_named_wherever_it_is_in_its_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lists, "_TOGETHER", 2)
    for number in range(3):
        image, pfns = three_free()
        head = image.list_head(9, 0)
        ring = [head, *map(image.lru, pfns[:3]), head]
        image.memmap.link(pfns[number], ring[number + 2], 0xDEAD000000000122)
        (finding,) = (f for f in image.examine().findings if f.rule == "list-corrupt")
        assert (
            f"prev of the folio at PFN {pfns[number]:#x} is 0xdead000000000122" in finding.message
        )
        assert finding.address == image.lru(pfns[number])


def test_the_copy_of_a_head_to_which_a_list_leads_is_no_folio() -> None:
    """The first struct page of a vmemmap page that shares the head's frame is the head's."""
    image, (first, second, *_) = three_free()
    image.memmap.link(first, image.lru(second + 64), image.list_head(9, 0))
    assert second + 64 not in states_of(image)
    assert lists_of(image) == ["list-corrupt"]


def test_a_list_that_goes_in_a_circle_where_the_memmap_is_not_read_is_found() -> None:
    """Nobody looks for folios in memory that is not online."""
    pfn = 5 * SECTION_PAGES
    image = Image(Machine(folios=(Folio(FIRST_FOLIO),), sections={5: Section.OFFLINE}))
    image.memmap.write_folio(Folio(pfn))
    image.memmap.link(FIRST_FOLIO, image.lru(pfn), image.list_head(9, 0))
    image.memmap.link(pfn, image.lru(pfn), image.lru(FIRST_FOLIO))
    messages = [f.message for f in image.examine().findings if f.rule == "list-corrupt"]
    assert f"leads to the folio at PFN {pfn:#x} a second time" in messages[0]


def test_a_list_that_leads_to_memory_that_is_no_folio_is_found() -> None:
    image = Image(machine("6.12.0"))
    image.memmap.link(PFNS[9], image.lru(0xA000), 0)
    assert Found("list-corrupt", "error") in found(image)


def test_a_list_that_leads_into_another_list_is_found() -> None:
    image = Image(machine("6.12.0"))
    image.memmap.link(FREE_AFTER, image.lru(ACTIVE), 0)
    # From the active folio, the free list goes on to the active list's head; from there, the
    # active list meets the folio again.
    assert found(image)[:2] == [Found("list-corrupt", "error")] * 2


def test_a_list_without_its_head_in_memory_is_found() -> None:
    image = Image(machine("6.12.0"))
    image.write(image.list_head(9, 0), 0)
    assert Found("list-corrupt", "error") in found(image)


@pytest.mark.parametrize(
    "counter",
    ("nr_huge_pages", "free_huge_pages", "nr_huge_pages_node", "free_huge_pages_node"),
)
def test_a_counter_that_differs_from_what_is_there_is_found(counter: str) -> None:
    image = Image(machine("6.12.0"))
    image.write_hstate(9, **{counter: 7})
    # Those of the nodes do not add up any more, either.
    finding, sums = image.examine().findings
    assert {(f.rule, f.severity.value) for f in (finding, sums)} == {("count-mismatch", "warning")}
    assert "those of its nodes add up to" in sums.message
    seen = 4 if counter.startswith("nr") else 3
    assert f"{counter.replace('_node', '')} is 7, {seen} folios were found" in finding.message
    assert ("on node 0" in finding.message) == counter.endswith("_node")


@pytest.mark.parametrize(("counted", "found"), ((2, 2), (3, 0), (4, 0), (5, 2)))
def test_a_folio_on_no_list_may_or_may_not_be_counted(counted: int, found: int) -> None:
    # It is being made or given back, or else isolated. It counts for its node and in all.
    sound = machine("6.12.0")
    folios = tuple(
        replace(f, state=State.OFF_LIST if f.pfn == ACTIVE else f.state) for f in sound.folios
    )
    image = Image(replace(sound, folios=folios, is_locked=False))
    image.write_hstate(9, nr_huge_pages=counted, nr_huge_pages_node=counted)
    mismatches = [f for f in image.examine().findings if f.rule == "count-mismatch"]
    assert len(mismatches) == found


def test_counters_are_not_accused_for_folios_whose_node_is_not_in_the_dump() -> None:
    sound = machine("6.12.0")
    folios = tuple(replace(f, head_in_dump=f.pfn != ACTIVE) for f in sound.folios)
    report = Image(replace(sound, folios=folios)).examine()
    assert report.incomplete
    assert "count-mismatch" not in {finding.rule for finding in report.findings}


@every_layout
def test_a_table_that_is_not_in_the_dump_is_reported_once(release: str) -> None:
    sound = machine(release, 18)
    for number in (0, 5):
        image = Image(replace(sound, damage={pmd_of(PFNS[18]) + number: Damage.MISSING}))
        findings = [f for f in found(image) if f.folio is not None]
        assert findings == [Found("unreadable", "warning", PFNS[18], 512 * number)]
        assert image.examine().incomplete


def test_a_zone_that_is_not_in_the_dump_leaves_shared_tails_unknown() -> None:
    image = Image(machine("7.2.0"))
    image.drop_frame(image.physical(image.nodes[0]) >> PAGE_SHIFT)
    optimized = (FREE_BEFORE, PFNS[9], ACTIVE)
    assert found(image) == [
        *(Found("unreadable", "warning", pfn) for pfn in optimized),
        Found("unreadable", "warning"),
    ]


def test_sections_that_are_not_in_the_dump_are_reported() -> None:
    image = Image(machine("6.12.0"))
    _, address = image.variables["mem_section"]
    roots = image.memory.read_u64(image.physical(address))
    root = image.memory.read_u64(image.physical(roots))
    image.drop_frame(image.physical(root) >> PAGE_SHIFT)
    assert found(image) == [Found("unreadable", "warning")]


@every_line
def test_a_folio_on_no_list_is_found_in_the_memmap(release: str) -> None:
    sound = machine(release)
    folios = tuple(replace(f, state=State.OFF_LIST) for f in sound.folios)
    image = Image(replace(sound, folios=folios))
    pfns = (FREE_BEFORE, PFNS[9], FREE_AFTER, ACTIVE)
    assert found(image) == [Found("off-list", "info", pfn) for pfn in pfns]


@every_line
def test_a_folio_of_1_gib_on_no_list_is_found_once(release: str) -> None:
    sound = machine(release, 18)
    folios = tuple(
        replace(f, state=State.OFF_LIST if f.order == 18 else f.state) for f in sound.folios
    )
    assert found(Image(replace(sound, folios=folios))) == [Found("off-list", "info", PFNS[18])]


@pytest.mark.parametrize(
    ("head_in_dump", "words"),
    ((True, "is on no list"), (False, "is on none of the lists that could be followed")),
)
def test_a_folio_may_be_on_a_list_that_the_dump_does_not_show(
    head_in_dump: bool, words: str
) -> None:
    other = Folio(FIRST_FOLIO + 512, head_in_dump=head_in_dump)
    image = Image(Machine(folios=(Folio(FIRST_FOLIO, state=State.OFF_LIST), other)))
    messages = [f.message for f in image.examine().findings if f.rule == "off-list"]
    assert messages == [words]
