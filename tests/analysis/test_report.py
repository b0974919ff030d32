# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report of an image is what the image was built from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.analysis.report import Report, Totals
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hvo.verdict import Verdict
from tests.oracles import expected
from tests.support import findings_of
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import (
    FIRST_FOLIO,
    GIB,
    SECTION_PAGES,
    Folio,
    Link,
    LinkPlace,
    Machine,
    Section,
    hstate_name,
    pmd_of,
)
from tests.synthetic.physical import KERNEL, PAGE_SIZE
from tests.synthetic.strategies import machines

FOLIOS = 64
"""So many 2 MiB folios have one page table in common."""


def document_of(report: Report) -> dict[str, Any]:
    """The report's document, without what the model cannot know."""
    result = document(report, folios=True)
    for name in ("tool", "target", "findings", "selection", "verified", "incomplete"):
        del result[name]
    return result


# Random machines.


@given(machines())
def test_a_sound_machine_is_reported_as_it_is(machine: Machine) -> None:
    image = Image(machine)
    report = image.examine()
    assert document_of(report) == expected.document(image)
    assert Counter(findings_of(report)) == expected.findings(image)


@given(machines(broken=True))
def test_a_broken_machine_is_reported_as_it_is(machine: Machine) -> None:
    image = Image(machine)
    report = image.examine()
    assert document_of(report) == expected.document(image)
    assert Counter(findings_of(report)) == expected.findings(image)
    assert report.incomplete == any(f.rule == "unreadable" for f in expected.findings(image))


@given(machines(broken=True), st.data())
def test_a_narrowed_report_is_of_what_it_was_narrowed_to(
    machine: Machine, data: st.DataObject
) -> None:
    image = Image(machine)
    within = [pfn for folio in machine.folios for pfn in (folio.pfn, folio.pfns[-1])]
    choices: dict[str, st.SearchStrategy[Any]] = {
        "hstate": st.sampled_from([hstate_name(order) for order in machine.orders]),
        "node": st.integers(0, machine.nodes),
        "pfn": st.sampled_from(within or [0]) | st.integers(0, machine.max_pfn),
    }
    selection: dict[str, Any] = data.draw(st.fixed_dictionaries({}, optional=choices))
    report = image.examine(**selection)
    assert document_of(report) == expected.document(image, **selection)


# What HVO saves.


def pool(release: str, optimized: int = FOLIOS, others: int = 0, **machine: Any) -> Machine:
    """A machine with 2 MiB folios side by side, some of them optimized."""
    folios = [
        Folio(FIRST_FOLIO + 512 * number, remapped=number < optimized)
        for number in range(optimized + others)
    ]
    return Machine(line=LINES[release], folios=tuple(folios), **machine)


def totals(machine: Machine) -> Totals:
    return Image(machine).examine().totals


@pytest.mark.parametrize(
    ("release", "freed", "spent"),
    (("5.15.0", 6 * 64, 1), ("6.12.0", 7 * 64, 1), ("7.2.0", 7 * 64, 2)),
)
def test_a_page_table_full_of_folios_costs_one_page(release: str, freed: int, spent: int) -> None:
    """And with shared tails, another one for the tail."""
    found = totals(pool(release))
    assert found.counts.freed == freed
    assert found.freed_bytes == freed * PAGE_SIZE
    assert (found.page_tables, found.shared_tail_frames) == (1, spent - 1)
    assert found.net_saved_bytes == (freed - spent) * PAGE_SIZE
    assert found.still_possible_bytes == 0


@pytest.mark.parametrize(("release", "freed"), (("5.15.0", 4094), ("6.12.0", 4095)))
def test_a_folio_of_1_gib_costs_eight_page_tables(release: str, freed: int) -> None:
    folio = Folio(GIB >> 12, order=18)
    found = totals(Machine(line=LINES[release], node_size=3 * GIB, folios=(folio,)))
    assert (found.counts.freed, found.page_tables) == (freed, 8)
    assert found.net_saved_bytes == (freed - 8) * PAGE_SIZE


def test_one_folio_saves_less_than_it_frees() -> None:
    found = totals(pool("7.2.0", optimized=1))
    assert found.net_saved_bytes == (7 - 1 - 1) * PAGE_SIZE


@pytest.mark.parametrize("enabled", (True, False))
def test_what_is_still_possible_does_not_depend_on_the_switch(enabled: bool) -> None:
    found = totals(pool("6.12.0", others=8, enabled=enabled))
    assert found.still_possible_bytes == 8 * 7 * PAGE_SIZE


@pytest.mark.parametrize(
    ("release", "page_size"), (("5.10.0", 64), ("7.2.0-without-hvo", 64), ("6.12.0", 80))
)
def test_where_hvo_cannot_be_nothing_is_possible(release: str, page_size: int) -> None:
    found = totals(pool(release, optimized=0, others=8, page_size=page_size))
    assert (found.still_possible_bytes, found.net_saved_bytes) == (0, 0)


def test_tables_are_not_counted_where_there_is_no_hvo() -> None:
    machine = pool("5.10.0", optimized=0, others=8)
    assert totals(replace(machine, split=frozenset({pmd_of(FIRST_FOLIO)}))).page_tables == 0


def test_an_inconsistent_folio_is_not_counted_as_possible() -> None:
    machine = pool("6.12.0", optimized=0, others=2)
    image = Image(replace(machine, split=frozenset({pmd_of(FIRST_FOLIO)})))
    image.write_entry(FIRST_FOLIO, 3, image.entry(FIRST_FOLIO, 3) & ~2)
    found = image.examine().totals
    assert (found.counts[Verdict.INCONSISTENT], found.still_possible_bytes) == (1, 7 * PAGE_SIZE)


# HVO's switch.


@pytest.mark.parametrize("release", [r for r, line in LINES.items() if line.variables])
@pytest.mark.parametrize("enabled", (True, False))
def test_the_switch_is_read(release: str, enabled: bool) -> None:
    assert (
        Image(Machine(line=LINES[release], enabled=enabled)).examine().kernel.hvo.enabled is enabled
    )


def test_without_its_variable_the_switch_is_not_known() -> None:
    image = Image(Machine(line=LINES["6.12.0"]))
    # A kernel without CONFIG_KALLSYMS_ALL does not have its static variables.
    del image.variables["vmemmap_optimize_enabled"]
    hvo = image.examine().kernel.hvo
    assert (hvo.enabled, hvo.layout.value) == (None, "head-reuse")


# Lists.


def test_a_machine_without_folios_has_an_empty_report() -> None:
    report = Image(Machine()).examine()
    assert (list(report.folios), report.findings) == ([], [])
    assert [hstate.hstate.name for hstate in report.hstates] == [
        "hugepages-2048kB",
        "hugepages-1048576kB",
    ]


def test_a_folio_is_free_active_or_off_list() -> None:
    pfns = [FIRST_FOLIO + 512 * number for number in range(3)]
    folios = tuple(Folio(pfn, state=state) for pfn, state in zip(pfns, State))
    report = Image(Machine(folios=folios)).examine()
    assert [(f.folio.pfn, f.folio.state) for f in report.folios] == list(zip(pfns, State))


@pytest.mark.parametrize(
    ("position", "link"),
    # From its head, a list leads to its first folio anyway.
    [(at, link) for at in range(-1, 5) for link in Link if (at, link) != (-1, Link.FIRST)],
)
def test_a_list_that_is_broken_is_followed_from_its_end_too(position: int, link: Link) -> None:
    machine = replace(pool("6.12.0", optimized=5), links={LinkPlace(9, 0, position): link})
    report = Image(machine).examine()
    assert {folio.folio.state for folio in report.folios} == {State.FREE}
    assert [f.rule for f in report.findings] == ["list-corrupt"]


def test_folios_on_a_list_that_is_broken_once_are_all_counted() -> None:
    links = {LinkPlace(9, 0, 2): Link.OUTSIDE}
    image = Image(replace(pool("6.12.0", optimized=5), links=links))
    image.write_hstate(9, free_huge_pages=7, free_huge_pages_node=7)
    rules = [finding.rule for finding in image.examine().findings]
    assert rules.count("count-mismatch") == 2


@pytest.mark.parametrize("link", (Link.OUTSIDE, Link.MISALIGNED, Link.TAIL))
def test_of_a_list_that_is_broken_twice_nothing_is_said_of_what_lies_between(link: Link) -> None:
    links = {LinkPlace(9, 0, position): link for position in (0, 2)}
    image = Image(replace(pool("6.12.0", optimized=5), links=links))
    report = image.examine()
    assert [folio.folio.state.value for folio in report.folios] == [
        *("free", "off-list", "off-list", "free", "free"),
    ]
    assert [f.rule for f in report.findings] == ["list-corrupt", "off-list", "off-list"]
    # More folios are on the list than are counted, whatever lies between.
    image.write_hstate(9, free_huge_pages=2, free_huge_pages_node=2)
    assert [f.rule for f in image.examine().findings].count("count-mismatch") == 2


def test_a_head_that_is_not_in_the_dump_ends_its_list_but_not_the_report() -> None:
    machine = pool("6.12.0", optimized=5)
    folios = tuple(replace(f, head_in_dump=f.pfn != FIRST_FOLIO + 1024) for f in machine.folios)
    report = Image(replace(machine, folios=folios)).examine()
    assert [folio.folio.state.value for folio in report.folios] == [
        *("free", "free", "free", "free", "free"),
    ]
    assert [folio.folio.flag_optimized for folio in report.folios] == [True, True, None, True, True]
    assert {folio.judgement.verdict.value for folio in report.folios} == {"optimized"}
    assert report.incomplete


# Hot-plugged memory.

PLUGGED = 6 * SECTION_PAGES


def test_a_page_table_of_plugged_memory_that_had_no_block_is_not_hvos() -> None:
    machine = Machine(
        folios=(Folio(PLUGGED, remapped=False),),
        split=frozenset({6}),
        sections={6: Section.PLUGGED},
    )
    image = Image(machine)
    first = image.memmap.number(PLUGGED)
    frames = [image.memmap.boot_frame(first + index) for index in range(512)]
    contents = [bytes(image.memory.frames[frame]) for frame in frames]
    # No two frames are one after the other, as of a block that a leaf maps.
    for index, frame in enumerate(reversed(frames)):
        image.memory.frames[frame] = contents[index]
        image.memmap.map(first + index, frame)
        address = machine.vmemmap + (first + index) * PAGE_SIZE
        image.tables.map(address, frame, "PTE", KERNEL)
    found = image.examine().totals
    assert (found.page_tables, found.net_saved_bytes) == (0, 0)


@pytest.mark.parametrize("remapped", (True, False))
def test_a_page_table_of_plugged_memory_that_was_a_leaf_is_hvos(remapped: bool) -> None:
    machine = Machine(
        folios=(Folio(PLUGGED, remapped=remapped), Folio(PLUGGED + 512, remapped=False)),
        split=frozenset({6}),
        sections={6: Section.PLUGGED},
    )
    assert totals(machine).page_tables == 1


def test_all_tables_over_an_optimized_gigantic_folio_are_hvos() -> None:
    sections = dict.fromkeys(range(8, 16), Section.PLUGGED)
    machine = Machine(node_size=3 * GIB, folios=(Folio(GIB >> 12, 18),), sections=sections)
    assert totals(machine).page_tables == 8
