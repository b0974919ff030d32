# SPDX-License-Identifier: LGPL-2.1-or-later

"""What the search for folios knows of the lists, and of what the dump lacks."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hugetlb.hstate import BrokenHstate, read_hstates
from drgn_vmemmap.hugetlb.lists import BrokenList
from drgn_vmemmap.hugetlb.search import MissingHeads, SearchResult, find_folios
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedKernel
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, NO_TYPE, OPTIMIZED_BIT, Mark
from tests.synthetic.model import FIRST_FOLIO, GIB, SECTION_PAGES, Damage, Folio, Machine, Section
from tests.synthetic.physical import PAGE_SHIFT

PFNS = [FIRST_FOLIO + 512 * number for number in range(3)]
OFFLINE = 5 * SECTION_PAGES
NAME = "hugepages-2048kB"


class Known(NamedTuple):
    complete: bool
    has_corrupt_lists: bool
    incomplete_lists: set[str]


SOUND = Known(True, False, set())


def search(image: Image, compare_tails: bool = False) -> SearchResult:
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    hstates = [each for each in read_hstates(snapshot) if not isinstance(each, BrokenHstate)]
    return find_folios(snapshot, hstates, compare_tails=compare_tails)


def known(image: Image) -> Known:
    found = search(image)
    return Known(found.complete, found.has_corrupt_lists, found.incomplete_lists)


def three_free(*missing: int) -> Image:
    """
    Three free folios, and memory that is not online.

    :param missing: Those whose head page is not in the dump.
    """
    folios = (Folio(pfn, head_in_dump=n not in missing) for n, pfn in enumerate(PFNS))
    return Image(Machine(folios=tuple(folios), sections={5: Section.OFFLINE}))


def test_lists_that_close_hold_all_folios() -> None:
    assert known(three_free()) == SOUND


def test_a_list_that_is_damaged_is_no_lack_of_the_dump() -> None:
    image = three_free()
    image.memmap.link(PFNS[1], 0, image.lru(PFNS[0]))
    assert known(image) == SOUND._replace(has_corrupt_lists=True)


def test_a_list_that_loses_folios_is_named_by_its_hstate() -> None:
    image = three_free()
    image.memmap.link(PFNS[0], 0, image.list_head(9, 0))
    image.memmap.link(PFNS[2], image.list_head(9, 0), 0)
    assert known(image) == Known(True, True, {NAME})


def test_a_list_in_the_middle_of_a_removal_is_not_damaged() -> None:
    image = three_free()
    image.memmap.link(PFNS[1], image.lru(PFNS[2]), image.list_head(9, 0))
    assert known(image) == SOUND


def test_heads_that_are_not_in_the_dump_may_hide_folios_and_damage_no_list() -> None:
    found = known(three_free(1))
    assert not found.complete and not found.has_corrupt_lists
    assert known(three_free(0, 1)).incomplete_lists == {NAME}


def test_a_list_that_leads_to_what_is_not_in_the_dump_may_hold_more_folios() -> None:
    image = three_free()
    image.drop_frame(image.memmap.boot_frame(image.memmap.number(OFFLINE)))
    image.memmap.link(PFNS[1], image.lru(OFFLINE), image.lru(PFNS[0]))
    found = known(image)
    assert not found.complete and not found.has_corrupt_lists


def test_folios_that_only_lists_show_are_in_their_places_among_the_others() -> None:
    for missing in range(3):
        assert [*search(three_free(missing)).folios.pfns] == PFNS


def test_a_folio_that_left_its_pool_is_in_its_place_among_the_others() -> None:
    gone = Folio(PFNS[0], state=State.OFF_LIST, counted=False)
    image = Image(Machine(line=LINES["6.1.0"], folios=(gone, *map(Folio, PFNS[1:]))))
    image.write_page(PFNS[0] + 1, compound_dtor=0)
    assert [*search(image).folios.pfns] == PFNS


def test_struct_pages_of_memory_that_is_not_online_are_of_no_folios() -> None:
    image = three_free()
    image.memmap.write_folio(Folio(OFFLINE))
    assert [*search(image).folios.pfns] == PFNS


def test_sections_that_are_not_in_the_dump_may_hide_folios() -> None:
    image = three_free()
    roots = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    root = image.memory.read_u64(image.physical(roots))
    image.drop_frame(image.physical(root) >> PAGE_SHIFT)
    found = known(image)
    assert not found.complete and not found.has_corrupt_lists


lines = pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0", "7.2.0"))
places = pytest.mark.parametrize("place", (64, 95, 127))


def side_by_side(release: str) -> tuple[Image, list[int]]:
    """
    A folio at each place of 384 MiB, with their PFNs; none is on a list.

    The heads of the second 128 MiB are read together, and alone: those of the first are read with
    memory that has none, and at the end of the third there are none again.
    """
    pfns = [FIRST_FOLIO + 512 * number for number in range(192)]
    folios = tuple(Folio(pfn, state=State.OFF_LIST, remapped=False) for pfn in pfns)
    return Image(Machine(line=LINES[release], folios=folios)), pfns


@places
@lines
def test_a_compound_page_among_adjacent_folios_is_none_of_them(release: str, place: int) -> None:
    image, pfns = side_by_side(release)
    other = pfns.pop(place)
    if LINES[release].mark is Mark.DESTRUCTOR:
        image.write_page(other + 1, compound_dtor=1)
    elif LINES[release].mark is Mark.FLAG:
        image.write_page(other + 1, flags=image.memmap.flags(other) | 9)
    else:
        image.write_page(other, page_type=NO_TYPE)
    assert [*search(image).folios.pfns] == pfns


@places
@lines
def test_what_has_no_head_or_another_order_among_adjacent_folios_is_none_of_them(
    release: str, place: int
) -> None:
    image, pfns = side_by_side(release)
    headless = pfns.pop(place)
    image.write_page(headless, flags=image.memmap.flags(headless))
    assert [*search(image).folios.pfns] == pfns
    image, _ = side_by_side(release)
    for order in (8, 18):
        kernel = EditedKernel(image.prog)
        kernel.write_page(headless, kernel.kernel.order.offset, order, 1)
        assert [folio.pfn for folio, _ in kernel.analyse().folios] == pfns


@lines
def test_each_of_many_adjacent_folios_is_known_by_its_own_flags(release: str) -> None:
    image, pfns = side_by_side(release)
    poisoned, optimized = pfns[69], pfns[127]
    image.write_page(poisoned, flags=image.memmap.flags(poisoned, "PG_head", "PG_hwpoison"))
    image.write_page(optimized, private=1 << OPTIMIZED_BIT)
    found = search(image).folios
    folios = [found[row] for row in range(len(found))]
    assert [folio.pfn for folio in folios if folio.poisoned] == [poisoned]
    assert [folio.pfn for folio in folios if folio.flag_optimized] == [optimized]


@pytest.mark.parametrize("number", (0, 1, 2))
def test_folios_are_found_on_both_sides_of_memory_that_is_not_online(number: int) -> None:
    after = OFFLINE + SECTION_PAGES
    pfns = [FIRST_FOLIO, after, after + 512][number:]
    folios = tuple(Folio(pfn, state=State.OFF_LIST) for pfn in pfns)
    image = Image(Machine(folios=folios, sections={5: Section.OFFLINE}))
    assert [*search(image).folios.pfns] == pfns


def without_heads(found: SearchResult) -> list[range]:
    """The memory of which not all struct pages are in the dump."""
    return [problem.pfns for problem in found.problems if isinstance(problem, MissingHeads)]


def sections(*numbers: int) -> list[range]:
    return [range(n * SECTION_PAGES, (n + 1) * SECTION_PAGES) for n in numbers]


def test_memory_whose_struct_pages_are_not_in_the_dump_is_named_by_its_sections() -> None:
    image = three_free()
    for number in (6, 3):
        of_section = image.memmap.number(number * SECTION_PAGES)
        for page in range(of_section, of_section + 512):
            image.drop_frame(image.memmap.boot_frame(page))
    assert without_heads(search(image)) == sections(3, 6)


def test_memory_whose_page_table_is_not_in_the_dump_is_named_by_its_section() -> None:
    folio = Folio(4 * SECTION_PAGES)
    for damage, numbers in ((Damage.MISSING, (4,)), (Damage.ABSENT, ())):
        image = Image(Machine(folios=(folio,), damage={4: damage}))
        assert without_heads(search(image)) == sections(*numbers)


@pytest.mark.parametrize("compare_tails", (False, True))
@pytest.mark.parametrize("absent", (None, 0, 300, 799))
def test_each_of_many_adjacent_folios_is_found(compare_tails: bool, absent: int | None) -> None:
    folios = [
        Folio(FIRST_FOLIO + 512 * n, state=State.OFF_LIST, head_in_dump=n != absent)
        for n in range(800)
    ]
    found = search(Image(Machine(node_size=4 * GIB, folios=tuple(folios))), compare_tails)
    assert [*found.folios.pfns] == [folio.pfn for folio in folios if folio.head_in_dump]
    of_absent = () if absent is None else (folios[absent].pfn // SECTION_PAGES,)
    assert without_heads(found) == sections(*of_absent)


def test_hstates_may_be_in_any_order() -> None:
    state = State.OFF_LIST
    folios = (Folio(FIRST_FOLIO, state=state), Folio(GIB >> PAGE_SHIFT, 18, state))
    for orders in ((9, 18), (18, 9)):
        image = Image(Machine(node_size=3 * GIB, orders=orders, folios=folios))
        assert [*search(image).folios.pfns] == [folio.pfn for folio in folios]


def test_a_list_that_leads_to_memory_without_a_section_is_damaged() -> None:
    """Memory is removed when its folios are gone."""
    image = three_free()
    array = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    sections = image.memory.read_u64(image.physical(array))
    number = FIRST_FOLIO // SECTION_PAGES
    image.write(sections + number * image.types.structs["mem_section"].size, 0)
    found = search(image)
    assert list(found.folios.pfns) == PFNS
    assert [each.reason for each in found.problems if isinstance(each, BrokenList)] == [
        f"leads to PFN {pfn:#x}, of memory that has no section" for pfn in PFNS
    ]
    assert known(image) == Known(True, True, set())
    image.drop_frame(image.physical(sections) >> PAGE_SHIFT)
    assert not known(image).has_corrupt_lists
