# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios on their way into or out of the pool: in flight is not broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.rules.finding import Severity
from tests.oracles.expected import findings
from tests.support import findings_of
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT, Mark
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import (
    ABSENT,
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    OWN_R,
    OWN_W,
    REUSE_W,
    SECTION_PAGES,
    Damage,
    Folio,
    Machine,
    Vpage,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SHIFT

FLYING = FIRST_FOLIO + 1024
GIGANTIC = GIB >> PAGE_SHIFT

every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)


def machine(release: str, *more: Folio) -> Machine:
    """Two sound folios, and others."""
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512), *more)
    size = 3 * GIB if any(folio.order == 18 for folio in more) else GIB
    return Machine(line=LINES[release], node_size=size, folios=folios)


def flying(
    edits: Mapping[int, Vpage], flag: bool | None = None, remapped: bool = True, order: int = 9
) -> Folio:
    """A folio on no list that is not counted."""
    pfn = GIGANTIC if order == 18 else FLYING
    return Folio(pfn, order, State.OFF_LIST, remapped, edits, flag, counted=False)


def accusations(report: Report) -> list[str]:
    return [f"{f.rule}: {f.message}" for f in report.findings if f.severity is not Severity.INFO]


def in_flight(report: Report) -> dict[int | None, str]:
    return {f.folio: f.message for f in report.findings if f.rule == "in-flight"}


def half_way(release: str, order: int, done: int) -> dict[int, Vpage]:
    """A remap that has come as far as a vmemmap page."""
    return dict.fromkeys(range(KEPT[LINES[release].layout] + done, 8 << (order - 9)), OWN_W)


@pytest.mark.long
@pytest.mark.parametrize(("order", "done"), ((9, 1), (9, 3), (18, 1), (18, 600)))
@pytest.mark.parametrize("flag", (True, False))
@every_layout
def test_a_remap_that_is_half_done_is_in_flight(
    release: str, flag: bool, order: int, done: int
) -> None:
    folio = flying(half_way(release, order, done), flag, order=order)
    image = Image(machine(release, folio))
    report = verify(image.prog)
    assert accusations(report) == []
    assert list(in_flight(report)) == [folio.pfn]
    (verdict,) = (j.verdict for f, j in report.folios if f.pfn == folio.pfn)
    assert verdict is Verdict.PARTIAL
    assert Counter(findings_of(image.examine())) == findings(image)


@every_layout
def test_a_restore_that_is_half_done_is_in_flight(release: str) -> None:
    first = KEPT[LINES[release].layout]
    image = Image(machine(release, flying(dict.fromkeys(range(first, 5), FRESH_W))))
    report = verify(image.prog)
    assert accusations(report) == []
    assert in_flight(report)[FLYING].startswith("partly optimized, pages 5-7 share a frame; not")


@every_layout
def test_what_neither_a_remap_nor_a_restore_leaves_is_found_in_flight_too(release: str) -> None:
    folio = flying({**half_way(release, 9, 3), 7: OWN_R})
    found = accusations(verify(Image(machine(release, folio)).prog))
    assert {accusation.partition(":")[0] for accusation in found} == {"reuse-mismatch"}


def test_a_folio_that_is_half_done_is_not_accused_where_its_zone_is_not_in_the_dump() -> None:
    image = Image(machine("7.2.0", flying(half_way("7.2.0", 9, 3))))
    image.drop_frame(image.physical(image.nodes[0]) >> PAGE_SHIFT)
    found = accusations(verify(image.prog))
    assert {accusation.partition(":")[0] for accusation in found} == {"unreadable"}


@pytest.mark.parametrize("remapped", (True, False))
@every_layout
def test_the_flag_of_a_folio_in_flight_says_nothing(release: str, remapped: bool) -> None:
    report = verify(Image(machine(release, flying({}, not remapped, remapped))).prog)
    assert accusations(report) == []
    said = "on no list; not counted: on its way into or out of the pool"
    assert in_flight(report) == {FLYING: said}


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
@every_layout
def test_what_is_half_done_to_a_folio_that_is_counted_is_broken(release: str, state: State) -> None:
    folio = replace(flying(half_way(release, 9, 3)), state=state, counted=True)
    report = verify(Image(machine(release, folio)).prog)
    assert {f.rule for f in report.findings if f.severity is Severity.ERROR} == {"reuse-mismatch"}
    assert in_flight(report) == {}


@every_layout
def test_where_one_of_two_is_not_counted_both_may_be_in_flight(release: str) -> None:
    folio = flying(half_way(release, 9, 3))
    other = Folio(FLYING + 512, state=State.OFF_LIST)
    image = Image(machine(release, folio, other))
    report = verify(image.prog)
    assert accusations(report) == []
    assert "or its remap was given up" in in_flight(report)[FLYING]
    assert Counter(findings_of(image.examine())) == findings(image)


@pytest.mark.parametrize(
    ("edits", "flag", "remapped", "is_in_flight"),
    (
        ({}, False, True, True),
        ({}, True, False, True),
        ({}, True, True, False),
        ({}, False, False, False),
        ({7: OWN_R}, True, True, False),
        ({7: OWN_R}, False, True, False),
    ),
)
@every_layout
def test_where_one_of_two_is_not_counted_it_may_be_the_one_whose_flag_differs(
    release: str, edits: dict[int, Vpage], flag: bool, remapped: bool, is_in_flight: bool
) -> None:
    other = Folio(FLYING + 512, state=State.OFF_LIST)
    report = verify(Image(machine(release, flying(edits, flag, remapped), other)).prog)
    assert [*in_flight(report)] == [FLYING] * is_in_flight
    off_list = {finding.folio for finding in report.findings if finding.rule == "off-list"}
    assert off_list == {FLYING, other.pfn} - {*in_flight(report)}


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_frames_that_wait_for_the_end_of_a_batch_are_counted_and_not_missed(release: str) -> None:
    image = Image(machine(release, flying({})))
    address = image.variables["nr_memmap_pages"][1]
    count = image.memory.read_u64(image.physical(address))
    image.write(address, count + 7)
    assert accusations(verify(image.prog)) == []
    image.write(address, count + 9)
    assert "add up to" in accusations(verify(image.prog))[0]


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_frames_of_a_batch_are_not_missed_where_one_of_its_folios_may_be_in_migration(
    release: str,
) -> None:
    # Whichever of the two is not counted, its remap is done.
    migrating = Folio(FLYING + 512, state=State.OFF_LIST)
    image = Image(machine(release, flying({}), migrating))
    address = image.variables["nr_memmap_pages"][1]
    count = image.memory.read_u64(image.physical(address))
    image.write(address, count + 7)
    report = verify(image.prog)
    assert accusations(report) == []
    assert [*in_flight(report)] == []
    image.write(address, count + 17)
    assert "add up to" in accusations(verify(image.prog))[0]


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_frames_of_a_folio_that_is_counted_and_on_no_list_are_missed(release: str) -> None:
    image = Image(machine(release, Folio(FLYING, state=State.OFF_LIST)))
    address = image.variables["nr_memmap_pages"][1]
    image.write(address, image.memory.read_u64(image.physical(address)) + 7)
    assert "add up to" in accusations(verify(image.prog))[0]


def test_frames_of_a_broken_folio_do_not_wait_to_be_counted() -> None:
    image = Image(machine("6.12.0", Folio(FLYING, edits={5: REUSE_W})))
    address = image.variables["nr_memmap_pages"][1]
    image.write(address, image.memory.read_u64(image.physical(address)) + 1)
    assert {accusation.partition(":")[0] for accusation in accusations(verify(image.prog))} == {
        "tail-writable",
        "count-mismatch",
    }


def test_frames_that_back_the_vmemmap_are_counted_whatever_is_in_flight() -> None:
    image = Image(machine("6.12.0", flying({}, order=18)))
    address = image.variables["nr_memmap_pages"][1]
    count = image.memory.read_u64(image.physical(address))
    for counted, is_right in ((count, True), (count + 4095, True), (count - 1, False)):
        image.write(address, counted)
        found = "".join(accusations(verify(image.prog)))
        assert ("add up to" in found) == (not is_right), counted


@pytest.mark.parametrize("restored", (0, 2))
@pytest.mark.parametrize("destructor", (0, 1), ids=("no-destructor", "compound-page"))
@pytest.mark.parametrize("release", ("5.15.0", "5.18.0", "6.1.0", "6.4.0"))
def test_folios_that_left_the_pool_before_they_are_restored_are_in_flight(
    release: str, destructor: int, restored: int
) -> None:
    first = KEPT[LINES[release].layout]
    image = Image(machine(release, flying(dict.fromkeys(range(first, first + restored), FRESH_W))))
    image.write_page(FLYING + 1, compound_dtor=destructor)
    report = verify(image.prog)
    assert accusations(report) == []
    assert "not counted" in in_flight(report)[FLYING]
    assert len(report.folios) == 3


@pytest.mark.parametrize("release", ("5.15.0", "6.1.0"))
def test_a_folio_that_left_the_pool_is_found_where_no_other_is_near(release: str) -> None:
    alone = replace(flying({}), pfn=FIRST_FOLIO + 2 * SECTION_PAGES)
    image = Image(machine(release, alone))
    image.write_page(alone.pfn + 1, compound_dtor=0)
    report = verify(image.prog)
    assert accusations(report) == []
    assert "not counted" in in_flight(report)[alone.pfn]


@pytest.mark.parametrize("order", (8, 18))
@pytest.mark.parametrize("release", ("5.15.0", "6.1.0"))
def test_what_left_the_pool_is_no_folio_where_none_of_its_order_can_begin(
    release: str, order: int
) -> None:
    image = Image(machine(release, flying({})))
    image.write_page(FLYING + 1, compound_dtor=0, compound_order=order)
    report = verify(image.prog)
    assert FLYING not in [folio.pfn for folio, _ in report.folios]
    assert "orphan-remap" in {finding.rule for finding in report.findings}


@pytest.mark.parametrize("release", ("5.15.0", "6.1.0"))
def test_a_gigantic_folio_that_left_the_pool_may_be_remapped_where_the_dump_lacks_a_table(
    release: str,
) -> None:
    restored = dict.fromkeys(range(KEPT[LINES[release].layout], 3 * 512), FRESH_W)
    last = pmd_of(GIGANTIC) + 7
    image = Image(
        replace(machine(release, flying(restored, order=18)), damage={last: Damage.MISSING})
    )
    image.write_page(GIGANTIC + 1, compound_dtor=0)
    report = verify(image.prog)
    assert GIGANTIC in [folio.pfn for folio, _ in report.folios]
    assert {accusation.partition(":")[0] for accusation in accusations(report)} == {"unreadable"}


@pytest.mark.parametrize("done", (1, 3, None), ids=("one-page", "three-pages", "all-pages"))
@pytest.mark.parametrize("release", ("5.15.0", "5.18.0", "6.1.0", "6.4.0", "6.6.0"))
def test_a_folio_that_is_remapped_before_it_is_a_hugetlb_one_is_in_flight(
    release: str, done: int | None
) -> None:
    edits = {} if done is None else half_way(release, 9, done)
    image = Image(machine(release, flying(edits, flag=False)))
    if LINES[release].mark is Mark.DESTRUCTOR:
        image.write_page(FLYING + 1, compound_dtor=1)
    else:
        image.write_page(FLYING + 1, flags=image.memmap.flags(FLYING) | 9)
    report = verify(image.prog)
    assert accusations(report) == []
    assert "not counted" in in_flight(report)[FLYING]
    assert len(report.folios) == 3


@pytest.mark.parametrize("flag", (True, False))
@pytest.mark.parametrize("release", ("5.15.0", "6.1.0"))
def test_a_compound_page_that_only_seems_to_have_left_the_pool_is_no_folio(
    release: str, flag: bool
) -> None:
    image = Image(machine(release, flying({}, flag, remapped=False)))
    image.write_page(FLYING + 1, compound_dtor=1)
    report = verify(image.prog)
    assert accusations(report) == []
    assert len(report.folios) == 2


@pytest.mark.parametrize(
    ("edits", "shares"),
    (
        ({7: OWN_R}, False),
        (dict.fromkeys(range(1, 8), REUSE_W), True),
        ({1: ABSENT, 2: ABSENT}, False),
    ),
    ids=("read-only", "shared and writable", "absent"),
)
@pytest.mark.parametrize("release", ("5.15.0", "6.1.0"))
def test_a_compound_page_that_maps_no_reuse_frame_as_hvo_does_did_not_leave_the_pool(
    release: str, edits: dict[int, Vpage], shares: bool
) -> None:
    image = Image(machine(release, flying(edits, True, remapped=shares)))
    image.write_page(FLYING + 1, compound_dtor=1)
    pfns = [folio.pfn for folio, _ in verify(image.prog).folios]
    assert pfns == [FIRST_FOLIO, FIRST_FOLIO + 512]


def test_a_folio_on_a_list_that_is_marked_as_removed_is_broken() -> None:
    image = Image(machine("6.1.0"))
    image.write_page(FIRST_FOLIO + 1, compound_dtor=1)
    assert "list-corrupt" in {finding.rule for finding in verify(image.prog).findings}


@pytest.mark.long
@pytest.mark.parametrize("release", ("6.18.0", "7.2.0", "coming"))
def test_a_gigantic_folio_from_boot_is_protected_after_it_was_made(release: str) -> None:
    unprotected = dict.fromkeys(range(KEPT[LINES[release].layout], 4096), REUSE_W)
    report = verify(Image(machine(release, flying(unprotected, order=18))).prog)
    assert accusations(report) == []
    assert "not counted" in in_flight(report)[GIGANTIC]
    # Once it is counted and in use, it must be protected; and so must a folio of 2 MiB, always.
    counted = replace(flying(unprotected, order=18), counted=True, state=State.ACTIVE)
    small = flying({page: REUSE_W for page in unprotected if page < 8})
    # Kernels before v6.15 make no folio so.
    for line, wrong in (
        (release, counted),
        (release, small),
        ("6.12.0", flying(unprotected, order=18)),
    ):
        found = accusations(verify(Image(machine(line, wrong)).prog))
        assert found and {each.partition(":")[0] for each in found} == {"tail-writable"}
