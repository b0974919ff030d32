# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a frame is: its state, and all vmemmap that it backs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import AddressKind
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.output.explanation import text
from tests.explain.images import OPTIMIZED, UNOPTIMIZED, at, backs, every_layout, explained, image
from tests.oracles.page_tables import ReferenceWalker
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.layouts import REUSED_PAGE
from tests.synthetic.model import FIRST_FOLIO, FRESH_W, GIB, SECTION_PAGES, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE
from tests.synthetic.strategies import few, machines


@pytest.mark.parametrize(
    ("release", "index", "seen"), (("5.15.0", 1, "1-7"), ("6.12.0", 0, "0-7"), ("7.2.0", 1, "1-7"))
)
def test_who_maps_the_reuse_frame_is_reported(release: str, index: int, seen: str) -> None:
    of = image(release)
    frame = of.frames[OPTIMIZED][index]
    for what in (f"pfn:{frame:#x}", f"phys:{(frame or 0) << 12:#x}"):
        assert backs(explained(of, what)) == [(OPTIMIZED, seen)]
    assert backs(at(of, OPTIMIZED + 3 * 64)) == [(OPTIMIZED, seen)]


def test_a_zones_tail_frame_is_seen_by_all_optimized_folios_of_the_zone() -> None:
    pfns = [FIRST_FOLIO + 512 * number for number in range(20)]
    folios = tuple(Folio(pfn, remapped=pfn != pfns[3]) for pfn in pfns)
    of = Image(Machine(line=LINES["7.2.0"], folios=folios))
    explanation = at(of, pfns[10] + 100)
    assert explanation.mapping.keeper == "zone 1 of node 0, for the tails of folios of order 9"
    assert at(of, pfns[10]).mapping.keeper == ""
    assert (explanation.mapping.count, explanation.mapping.pages) == (19, 19 * 7)
    assert backs(explanation) == [(pfn, "1-7") for pfn in pfns[:9] if pfn != pfns[3]]
    assert f"pages 1-7 of each of folios {pfns[0]:#x}, {pfns[1]:#x}" in text(explanation)
    assert "in 11 more places" in text(explanation)


def test_the_frame_of_an_unoptimized_folio_backs_its_page_alone() -> None:
    explanation = at(image("6.12.0"), UNOPTIMIZED + 3 * 64)
    assert backs(explanation) == [(UNOPTIMIZED, "3")]
    assert "vmemmap page 3 of folio" in text(explanation)


@every_layout
def test_a_frame_of_two_folios_is_reported_and_a_write_there_is_not_called_harmless(
    release: str,
) -> None:
    of = image(release)
    of.write_entry(UNOPTIMIZED, 3, of.entry(OPTIMIZED, 0))
    for pfn in (UNOPTIMIZED + 3 * 64, OPTIMIZED):
        explanation = at(of, pfn)
        assert {folio for folio, _ in backs(explanation)} == {OPTIMIZED, UNOPTIMIZED}
        assert explanation.write.startswith("goes unnoticed")


def test_a_frame_that_backs_vmemmap_of_no_folio_is_reported_with_its_pfns() -> None:
    of = image("6.12.0")
    of.write_entry(UNOPTIMIZED, 8, of.entry(UNOPTIMIZED, 3))
    explanation = at(of, UNOPTIMIZED + 3 * 64)
    assert backs(explanation) == [(UNOPTIMIZED, "3"), (None, "")]
    assert explanation.mapping.mappers[1].pfns == (UNOPTIMIZED + 512, UNOPTIMIZED + 575)
    assert f"of PFNs {UNOPTIMIZED + 512:#x} to {UNOPTIMIZED + 575:#x}" in text(explanation)


def test_adjacent_pages_of_no_folio_are_one_place() -> None:
    of = image("6.12.0")
    for index in (8, 9):
        of.write_entry(UNOPTIMIZED, index, of.entry(UNOPTIMIZED, 3))
    explanation = at(of, UNOPTIMIZED + 3 * 64)
    assert backs(explanation) == [(UNOPTIMIZED, "3"), (None, "")]
    assert explanation.mapping.mappers[0].pfns == (UNOPTIMIZED + 192, UNOPTIMIZED + 255)
    assert explanation.mapping.mappers[1].pfns == (UNOPTIMIZED + 512, UNOPTIMIZED + 639)


def test_adjacent_pages_of_no_folio_that_two_tables_map_are_one_place() -> None:
    folios, edge = (Folio(FIRST_FOLIO),), 5 * SECTION_PAGES
    of = Image(Machine(folios=folios, split=frozenset((4, 5))))
    for pfn in (edge - 64, edge):
        of.write_entry(pfn, 0, of.entry(FIRST_FOLIO, 0))
    explanation = at(of, FIRST_FOLIO)
    assert backs(explanation) == [(FIRST_FOLIO, "0-7"), (None, "")]
    assert explanation.mapping.mappers[1].pfns == (edge - 64, edge + 63)


@pytest.mark.parametrize(
    ("own", "seen"),
    (
        ((), "0-4095"),
        ((511,), "0-510,512-4095"),
        ((512,), "0-511,513-4095"),
        ((300, 511, 512), "0-299,301-510,513-4095"),
    ),
)
def test_pages_of_a_folio_that_many_tables_map_are_one_place(
    own: tuple[int, ...], seen: str
) -> None:
    gigantic = GIB >> PAGE_SHIFT
    folio = Folio(gigantic, 18, edits=dict.fromkeys(own, FRESH_W))
    explanation = at(Image(Machine(node_size=3 * GIB, folios=(folio,))), gigantic)
    assert backs(explanation) == [(gigantic, seen)]
    assert explanation.mapping.mappers[0].pfns == (gigantic, 2 * gigantic - 1)


def test_a_frame_is_explained_where_zones_are_not_in_the_dump() -> None:
    of = image("7.2.0")
    of.drop_frame(of.physical(of.nodes[0]) >> PAGE_SHIFT)
    explanation = at(of, OPTIMIZED + 200)
    assert (backs(explanation), explanation.mapping.keeper) == ([(OPTIMIZED, "1-7")], "")


def test_pages_of_one_folio_that_are_apart_are_one_place() -> None:
    of = image("6.12.0")
    of.write_entry(UNOPTIMIZED, 5, of.entry(UNOPTIMIZED, 3))
    assert backs(at(of, UNOPTIMIZED + 3 * 64)) == [(UNOPTIMIZED, "3,5")]


def test_pages_of_no_folio_that_are_apart_are_two_places() -> None:
    of = image("6.12.0")
    for index in (8, 10):
        of.write_entry(UNOPTIMIZED, index, of.entry(UNOPTIMIZED, 3))
    explanation = at(of, UNOPTIMIZED + 3 * 64)
    assert backs(explanation) == [(UNOPTIMIZED, "3"), (None, ""), (None, "")]
    assert (explanation.mapping.count, explanation.mapping.pages) == (3, 3)
    pfns = [mapper.pfns for mapper in explanation.mapping.mappers[1:]]
    assert pfns == [(UNOPTIMIZED + n, UNOPTIMIZED + n + 63) for n in (512, 640)]


@every_layout
def test_of_the_frames_of_a_folio_one_is_its_reuse_frame(release: str) -> None:
    of = image(release)
    explains = Explainer.of_program(of.prog)
    (folio,) = (each.folio for each in of.examine().folios if each.folio.pfn == OPTIMIZED)
    reuse = of.frames[OPTIMIZED][3] or 0
    assert explains.is_reuse_frame(reuse, folio)
    for frame in {*of.frames[OPTIMIZED], *of.frames[UNOPTIMIZED], reuse - 1, reuse + 1} - {reuse}:
        assert not explains.is_reuse_frame(frame or 0, folio)


def test_a_frame_that_one_tail_alone_has_is_not_the_reuse_frame() -> None:
    folio = Folio(FIRST_FOLIO, edits={2: FRESH_W, 3: FRESH_W})
    of = Image(Machine(line=LINES["6.12.0"], folios=(folio,)))
    explains = Explainer.of_program(of.prog)
    (found,) = (each.folio for each in of.examine().folios)
    frames = [frame or 0 for frame in of.frames[FIRST_FOLIO][:4]]
    assert [explains.is_reuse_frame(frame, found) for frame in frames] == [True, True, False, False]


@pytest.mark.parametrize("release", ("5.10.0", "7.2.0-without-hvo"))
def test_without_hvo_no_frame_is_a_reuse_frame(release: str) -> None:
    of = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO, remapped=False),)))
    explains = Explainer.of_program(of.prog)
    (found,) = (each.folio for each in of.examine().folios)
    frames = [frame or 0 for frame in of.frames[FIRST_FOLIO]]
    assert not any(explains.is_reuse_frame(frame, found) for frame in frames)


def test_a_freed_frame_is_said_to_be_free() -> None:
    of = image("6.12.0")
    freed = of.memmap.boot_frame(of.memmap.number(OPTIMIZED) + 3)
    explanation = explained(of, f"pfn:{freed:#x}")
    assert (explanation.frame_state or "").startswith("free, in the buddy allocator")
    assert backs(explanation) == []


def test_an_address_of_the_direct_map_is_that_of_its_frame() -> None:
    of = image("6.12.0")
    frame = of.frames[OPTIMIZED][0] or 0
    explanation = explained(of, f"{of.machine.page_offset + frame * PAGE_SIZE:#x}")
    assert explanation.kind is AddressKind.DIRECT_MAP
    assert explanation.frame == frame
    assert backs(explanation) == [(OPTIMIZED, "0-7")]


def test_a_frame_comes_with_the_explanation_of_its_struct_page() -> None:
    of = image("6.12.0")
    explanation = explained(of, f"pfn:{OPTIMIZED + 200:#x}")
    assert explanation.page is not None and explanation.page.role == "tail"
    inner = explanation.of_page
    assert inner is not None and inner.entry is not None
    assert inner.query.address == of.machine.page_address(OPTIMIZED + 200)
    assert inner.entry.raw == of.entry(OPTIMIZED, 3)
    assert backs(inner) == [(OPTIMIZED, "0-7")]
    assert "0x0003" in inner.write


def reference(of: Image) -> ReferenceWalker:
    """Reads the frame that backs a page of the vmemmap the slow way."""
    machine = of.machine
    return ReferenceWalker(
        of.memory,
        machine.levels,
        of.physical(of.variables["hstates"][1]) >> 21 << 21,
        machine.encryption_mask,
        machine.max_pfn,
    )


@pytest.mark.long
@few
@given(machines(broken=True), st.data())
def test_all_pages_that_are_mapped_to_a_frame_are_found(
    machine: Machine, data: st.DataObject
) -> None:
    of = Image(machine)
    seen: Counter[int] = Counter()
    walker = reference(of)
    pages = range(machine.vmemmap, machine.page_address(machine.max_pfn), PAGE_SIZE)
    mapped = {address: walker.walk(address).frame for address in pages}
    seen.update(frame for frame in mapped.values() if frame is not None)
    explains = Explainer.of_program(of.prog)
    for address in data.draw(st.lists(st.sampled_from(sorted(mapped)), min_size=1, max_size=8)):
        explanation = explains.explain(parse(f"{address + 52:#x}"))
        assert explanation.frame == mapped[address]
        assert explanation.kind is AddressKind.VMEMMAP
        frame = explanation.frame
        if frame is not None and frame < machine.max_pfn:
            assert explanation.mapping.pages == seen[frame]
            assert explains.explain(parse(f"pfn:{frame:#x}")).mapping.pages == seen[frame]


@pytest.mark.long
@few
@given(machines(broken=True))
def test_each_vmemmap_page_is_said_to_be_of_its_folio(machine: Machine) -> None:
    of = Image(machine)
    explains = Explainer.of_program(of.prog)
    walker = reference(of)
    for report in of.examine().folios:
        start = machine.page_address(report.folio.pfn)
        first = walker.walk(start).frame
        for index in range(8):
            address = start + index * PAGE_SIZE
            pfn, offset = divmod(address - machine.vmemmap, machine.page_size)
            page = explains.explain(parse(f"{address:#x}")).page
            assert page is not None
            assert (page.pfn, page.offset, page.folio) == (pfn, offset, report)
            assert page.vmemmap_page == index
            shows_the_head = (
                offset == 0
                and first is not None
                and walker.walk(address).frame == first
                and REUSED_PAGE.get(report.judgement.layout) == 0
            )
            other = "fake head" if shows_the_head else "tail"
            assert page.role == ("head" if index == 0 else other)


@every_layout
def test_each_page_table_over_the_vmemmap_is_called_one(release: str) -> None:
    of = image(release)
    address = of.machine.page_address(OPTIMIZED)
    steps = explained(of, f"{address:#x}").steps
    assert [step.level.name for step in steps[1:]][-1] == "PTE"
    for step in steps:
        explanation = explained(of, f"phys:{step.raw_address:#x}")
        assert explanation.mapping.table is not None
        level, start = explanation.mapping.table
        assert level == step.level.name
        assert start <= address < start + step.level.entry_span * 512
        assert f"the {level} table over the vmemmap from {start:#x} on" in text(explanation)
    assert explained(of, f"pfn:{OPTIMIZED:#x}").mapping.table is None


def test_each_of_the_page_tables_under_one_table_is_found() -> None:
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 3 * SECTION_PAGES))
    of = Image(Machine(folios=folios))
    for folio in folios:
        start = of.machine.page_address(folio.pfn)
        table = of.entry_address(folio.pfn) >> PAGE_SHIFT
        assert explained(of, f"pfn:{table:#x}").mapping.table == ("PTE", start)
    directory = of.entry_address(FIRST_FOLIO, 0, "PMD") >> PAGE_SHIFT
    assert explained(of, f"pfn:{directory:#x}").mapping.table == ("PMD", of.machine.vmemmap)


def test_what_a_frame_backs_is_not_known_where_a_page_table_is_not_in_the_dump() -> None:
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 3 * SECTION_PAGES))
    for missing in (False, True):
        of = Image(Machine(folios=folios))
        frame = of.frames[FIRST_FOLIO][0]
        if missing:
            of.drop_frame(of.entry_address(folios[1].pfn) >> PAGE_SHIFT)
        explanation = explained(of, f"pfn:{frame:#x}")
        assert explanation.complete is not missing
        assert backs(explanation) == [(FIRST_FOLIO, "0-7")]
