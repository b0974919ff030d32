# SPDX-License-Identifier: LGPL-2.1-or-later

"""The map: what is where in memory is seen where it is, on any screen."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.map import NoMap, Part
from drgn_vmemmap.analysis.map_states import CellState
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.special import DEVICE, SpecialVmemmap
from tests.output.maps import (
    DAMAGED,
    HIDDEN,
    LEAF,
    SOUND,
    TIB,
    UNOPTIMIZED,
    cell,
    draw,
    states,
    text,
)
from tests.synthetic.image import Image
from tests.synthetic.model import GIB, REUSE_W, SECTION_PAGES, Folio, Machine, hstate_name
from tests.synthetic.physical import PAGE_SHIFT


def test_each_folio_shows_what_it_is(report: Report) -> None:
    drawn = draw(report, Part(), 64)
    assert drawn.span == 512
    assert {pfn: cell(drawn, pfn).state for pfn in (SOUND, DAMAGED, UNOPTIMIZED, LEAF, HIDDEN)} == {
        SOUND: CellState.OPTIMIZED,
        DAMAGED: CellState.ERROR,
        UNOPTIMIZED: CellState.UNOPTIMIZED,
        LEAF: CellState.LEAF,
        HIDDEN: CellState.WARNING,
    }
    assert states(drawn)[CellState.OTHER] == 512 - 5


def test_a_cell_of_many_folios_shows_how_many_are_optimized() -> None:
    folios = tuple(Folio(Machine().folio_pfn(n), remapped=n < 6) for n in range(16))
    report = verify(Image(Machine(folios=folios)).prog)
    drawn = draw(report, Part(), 16, rows=4)
    assert drawn.span == 8 * 512
    shown = cell(drawn, folios[0].pfn)
    assert (shown.state, shown.optimized, shown.filled) == (CellState.PARTLY, 6 / 8, 1.0)
    assert sorted(count for _, count in shown.traits) == [2, 6]
    assert cell(drawn, folios[8].pfn).state is CellState.UNOPTIMIZED


@pytest.mark.parametrize(
    ("severity", "state"),
    (
        (Severity.ERROR, CellState.ERROR),
        (Severity.WARNING, CellState.WARNING),
        (Severity.INFO, CellState.OPTIMIZED),
    ),
)
def test_what_is_worse_wins_in_a_cell(severity: Severity, state: CellState) -> None:
    sound = verify(Image(Machine(folios=(Folio(SOUND),))).prog)
    finding = Finding("tail-content", severity, "", folio=SOUND)
    drawn = draw(replace(sound, findings=[finding]), Part(), 16, rows=2)
    assert cell(drawn, SOUND).state is state


def test_vmemmap_that_is_no_folios_shows_what_is_wrong_with_it(report: Report) -> None:
    address = report.kernel.geometry.address(0x4000)
    finding = Finding("orphan-remap", Severity.ERROR, "", address=address)
    drawn = draw(replace(report, findings=[finding]), Part(), 64)
    assert states(drawn)[CellState.ERROR] == 1
    assert cell(drawn, 0x4000).state is CellState.ERROR


def test_a_finding_that_has_no_place_is_counted(report: Report) -> None:
    nowhere = [
        Finding("count-mismatch", Severity.WARNING, ""),
        Finding("list-corrupt", Severity.ERROR, "", address=1 << 63),
        Finding("list-corrupt", Severity.ERROR, "", address=(1 << 64) - 8),
    ]
    drawn = draw(replace(report, findings=nowhere), Part(), 64)
    assert (drawn.elsewhere, drawn.places) == (3, {})
    assert "not on this map 3" in text(replace(report, findings=nowhere))
    assert "finding" not in text(replace(report, findings=[]))


def test_device_memory_and_holes_are_distinguished_from_memory(report: Report) -> None:
    sections = [
        SectionRange(range(n * SECTION_PAGES, (n + 1) * SECTION_PAGES), 3) for n in (0, 2, 3)
    ]
    device = SpecialVmemmap(DEVICE, sections[2].pfns, 0)
    drawn = draw(replace(report, sections=sections, special=[device]), Part(), 512)
    assert cell(drawn, sections[0].pfns[-1]).state is CellState.OTHER
    assert cell(drawn, sections[2].pfns[-1]).state is CellState.DEVICE
    assert cell(drawn, sections[0].pfns.stop + 8 * 512).state is CellState.HOLE


def test_a_large_folio_covers_many_cells() -> None:
    folios = (Folio(GIB >> PAGE_SHIFT, 18), Folio(SOUND))
    report = verify(Image(Machine(node_size=3 * GIB, folios=folios)).prog)
    drawn = draw(report, Part(), 256)
    assert states(drawn) == {CellState.OPTIMIZED: 513, CellState.OTHER: 3 * 512 - 513}
    assert "one cell = 2 MiB = 1 folio of 2 MiB = 1/512 of a folio of 1 GiB" in text(
        report, width=300
    )


# What is shown, and where.


def test_a_row_shows_its_address_and_its_nodes() -> None:
    plain = Machine(nodes=2)
    pfns = [plain.folio_pfn(0, node) for node in (0, 1)]
    report = verify(Image(replace(plain, folios=tuple(map(Folio, pfns)))).prog)
    drawn = draw(report, Part(), 64)
    nodes = {row.pfn: list(row.nodes) for row in drawn.rows if row.nodes}
    assert nodes == {pfns[0]: [0], pfns[1]: [1]}
    assert re.search(r"^ +1 +0x48000000 +O\.", text(report, width=84), re.MULTILINE)
    assert [list(row.nodes) for row in draw(report, Part(), 2048).rows] == [[0, 1]]


def test_a_node_is_shown_from_its_first_folio_to_its_last() -> None:
    plain = Machine(nodes=2)
    pfns = [plain.folio_pfn(number, node) for node in (0, 1) for number in (0, 3)]
    report = verify(Image(replace(plain, folios=tuple(map(Folio, pfns)))).prog)
    (row,) = draw(report, Part(node=1), 64).rows
    assert (row.pfn, [cell.state.name for cell in row.cells]) == (
        pfns[2],
        ["OPTIMIZED", "OTHER", "OTHER", "OPTIMIZED"],
    )


def test_another_size_of_folios_is_left_out() -> None:
    folios = (Folio(GIB >> PAGE_SHIFT, 18), Folio(SOUND), Folio(DAMAGED, edits={5: REUSE_W}))
    report = verify(Image(Machine(node_size=3 * GIB, folios=folios)).prog)
    drawn = draw(report, Part(hstate=hstate_name(18)), 256)
    assert states(drawn) == {CellState.OPTIMIZED: 512, CellState.OTHER: 2 * 512}
    assert drawn.elsewhere == 1
    assert f"no folio of {hstate_name(18)}" in text(report, hstate=hstate_name(18))


def test_one_folio_can_be_shown(report: Report) -> None:
    for pfn, state in ((SOUND, CellState.OPTIMIZED), (UNOPTIMIZED + 100, CellState.UNOPTIMIZED)):
        (row,) = draw(report, Part(start=pfn, stop=pfn + 1), 64).rows
        assert (row.pfn, [cell.state for cell in row.cells]) == (pfn & -512, [state])


def test_rows_without_memory_are_left_out(report: Report) -> None:
    far = TIB >> PAGE_SHIFT
    sections = [
        SectionRange(range(start, start + SECTION_PAGES), 3) for start in (0, SECTION_PAGES, far)
    ]
    shown = text(replace(report, sections=sections, findings=[]))
    assert re.search(r"^ +\.\.\. +1023.\d GiB$", shown, re.MULTILINE)
    assert "blank, ...: no memmap" in shown
    assert "one cell = 2 MiB" in shown


def test_folios_are_shown_where_the_dump_does_not_have_the_sections(report: Report) -> None:
    drawn = draw(replace(report, sections=[], findings=[]), Part(), 64)
    assert cell(drawn, SOUND).state is CellState.OPTIMIZED
    assert states(drawn)[CellState.OTHER] == 0


def test_a_kernel_without_folios_has_a_map() -> None:
    report = verify(Image(Machine()).prog)
    assert states(draw(report, Part(), 64)) == {CellState.OTHER: 512}
    assert "no HugeTLB folio\none cell = 2 MiB\n" in text(report)


def test_a_kernel_without_memory_has_an_empty_map() -> None:
    empty = replace(verify(Image(Machine()).prog), sections=[])
    assert text(empty).startswith("no memmap and no folios were found")


@pytest.mark.parametrize(
    ("part", "reason"),
    (
        (Part(start=GIB), "no memory"),
        (Part(node=7), "node 7 has no HugeTLB folios"),
        (Part(node=0, stop=512), "no memory"),
        (Part(hstate="hugepages-\x1b[2J"), r"hugepages-\\x1b\[2J.*hugepages-2048kB"),
    ),
)
def test_what_is_not_there_is_said(report: Report, part: Part, reason: str) -> None:
    with pytest.raises(NoMap, match=reason):
        draw(report, part, 64)
