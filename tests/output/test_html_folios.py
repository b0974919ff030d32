# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios in the HTML report: their drawings, their table and their map."""

from __future__ import annotations

from collections import Counter

import pytest

from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.map_states import CellState
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.output.report.html.folios import findings_of
from drgn_vmemmap.output.report.html.map import Picture, draw_map
from drgn_vmemmap.rules.finding import Finding, Severity
from tests.output.page import Element, data_of, parsed, unpacked
from tests.synthetic import pages
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import FIRST_FOLIO, GIB, REUSE_W, Folio, Machine


@pytest.mark.parametrize(
    "release", [r for r, line in LINES.items() if line.layout is not Layout.NONE]
)
def test_each_layout_is_drawn_with_the_frames_of_the_dump(release: str) -> None:
    image = Image(
        Machine(
            line=LINES[release],
            folios=(Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False)),
        )
    )
    optimized, unoptimized = parsed(pages.page_of(image.prog)).all("figure")
    kept = KEPT[LINES[release].layout]
    for figure, pfn, reads in (
        (optimized, FIRST_FOLIO, ["RW"] * kept + ["RO"] * (8 - kept)),
        (unoptimized, FIRST_FOLIO + 512, ["RW"] * 8),
    ):
        assert [text.text for text in figure.all("text", "access")] == reads
        frames = {hex(frame) for frame in image.frames[pfn] if frame is not None}
        assert {text.text for text in figure.all("text", "pfn")} == frames
        address = image.machine.page_address(pfn)
        assert [text.text for text in figure.all("text", "address")] == [
            hex(address + index * 4096) for index in range(8)
        ]
        assert len(list(figure.all("path", "arrow"))) == 8
    assert LINES[release].layout.value in optimized.text
    reuse_frame = optimized.one("g", "reuse").one("text", "pfn").text
    assert reuse_frame == hex(image.frames[FIRST_FOLIO][-1] or 0)
    assert not list(optimized.all("g", "wrong"))


def test_the_vmemmap_pages_of_a_1_gib_folio_are_drawn_together() -> None:
    folio = Folio(GIB >> 12, order=18)
    image = Image(Machine(line=LINES["5.15.0"], node_size=3 * GIB, folios=(folio,)))
    figure = parsed(pages.page_of(image.prog)).one("figure")
    assert [text.text for text in figure.all("text", "index")] == ["0", "1", "2-4095"]
    assert "4096 vmemmap pages, 4094 freed: 16.0 MiB" in figure.text


def test_a_1_gib_folio_that_is_mapped_by_large_leaves_is_one_box() -> None:
    folio = Folio(GIB >> 12, order=18, remapped=False)
    image = Image(Machine(node_size=3 * GIB, folios=(folio,)))
    figure = parsed(pages.page_of(image.prog)).one("figure")
    assert figure.one("text", "index").text == "0-4095"
    frames = image.frames[folio.pfn]
    assert figure.one("text", "pfn").text == f"{frames[0]:#x}-{frames[-1]:#x}"


def test_what_is_too_much_for_a_drawing_is_left_out_and_said() -> None:
    folio = Folio(GIB >> 12, order=18, edits=dict.fromkeys(range(100, 4000, 2), REUSE_W))
    image = Image(Machine(node_size=3 * GIB, folios=(folio,)))
    figure = parsed(pages.page_of(image.prog)).one("figure")
    assert len(list(figure.all("text", "index"))) == 16
    assert "and 3,982 more vmemmap pages, not drawn" in figure.text


def test_what_is_wrong_is_marked_in_the_drawing(page: Element) -> None:
    (figure,) = (
        f for f in page.all("figure") if "inconsistent" in f.text and "hugepages-2048kB" in f.text
    )
    assert [g.one("text", "index").text for g in figure.all("g", "wrong")] == ["3"]
    (figure,) = (
        f for f in page.all("figure") if "inconsistent" in f.text and "1048576kB" in f.text
    )
    assert [g.one("text", "index").text for g in figure.all("g", "wrong")] == ["17", "300"]
    assert figure.one("text", "problem").text == "not present"


def test_the_table_and_the_scripts_data_have_each_folio(damaged: Image, page: Element) -> None:
    folios = damaged.examine().folios
    rows = list(page.one("table", id="table").one("tbody").all("tr"))
    assert [row.children[0].text for row in rows] == [hex(f.folio.pfn) for f in folios]
    assert [row.children[5].text for row in rows] == [f.judgement.verdict.value for f in folios]
    data = data_of(page)
    assert data["count"] == len(folios)
    assert unpacked(data["pfns"]) == [f.folio.pfn for f in folios]
    assert unpacked(data["reuse_frames"]) == [
        -1 if f.judgement.reuse_frame is None else f.judgement.reuse_frame for f in folios
    ]
    traits = [data["traits"][number] for number in unpacked(data["numbers"])]
    assert [t["pages"] for t in traits] == [1 << f.folio.order for f in folios]
    assert [t["freed"] for t in traits] == [f.judgement.freed for f in folios]


def test_errors_and_warnings_are_counted_for_each_folio(damaged: Image) -> None:
    report = damaged.examine()
    info = Finding("off-list", Severity.INFO, "is on no list", report.folios[0].folio.pfn)
    listing = Listing(report.kernel, report.folios)
    counts = findings_of(listing, [*report.findings, info])
    found = Counter(f.folio for f in report.findings if f.severity is not Severity.INFO)
    assert list(counts) == [found[pfn] for pfn in report.folios.folios.pfns]


def map_of(report: Report) -> Picture:
    return draw_map(report, Listing(report.kernel, report.folios))


def test_a_cell_of_the_map_is_a_folio(damaged: Image, page: Element) -> None:
    cells = [cell for cell in page.all("rect", "cell") if "data-pfn" in cell.attributes]
    # A 1 GiB folio is 8 rows of 64 cells.
    assert len(cells) == 100 + 64 + 3 * 512
    by_pfn = {int(cell.attributes["data-pfn"]): cell for cell in cells}
    broken = by_pfn[FIRST_FOLIO + 5 * 512]
    assert broken.attributes["class"] == "cell error"
    assert broken.one("title").text == (
        "PFN 0x8a00 to 0x8bff, 2 MiB: hugepages-2048kB, node 0, free, inconsistent, "
        "layout shared-tail, findings: 1"
    )
    unoptimized = by_pfn[FIRST_FOLIO + 95 * 512]
    assert unoptimized.attributes["class"] == "cell unoptimized"


def test_cells_that_would_be_too_many_are_put_together() -> None:
    picture = map_of(pages.many(20_000))
    # 20,000 folios are 313 rows of 64: cells of 8 folios make 40 of them.
    assert picture.span == 8 * 512
    assert len(picture.rows) == 40
    boxes = [box for row in picture.rows for box in row.boxes]
    assert sum(count for box in boxes for _, count in box.cell.traits) == 20_000
    states = Counter(box.cell.state for box in boxes)
    assert states[CellState.ERROR] == 2
    assert states[CellState.PARTLY] == 20
    assert [name for name, _ in picture.legend] == ["error", "optimized", "partly"]
    assert boxes[0].text == "PFN 0x8000 to 0x8fff, 16 MiB: 7 optimized, 1 unoptimized"


def test_rows_without_folios_are_left_out() -> None:
    report = pages.many(3)
    report.folios.folios.pfns[2] = 1 << 32
    first, second = map_of(report).rows
    assert (first.gap, second.gap) == (0, (1 << 32) - 0x10000)
    assert (list(first.nodes), list(second.nodes)) == ([0], [1])
