# SPDX-License-Identifier: LGPL-2.1-or-later

"""The HTML report, as far as it can be seen without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from drgn_vmemmap import __version__, examine, verify
from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.map_states import State
from drgn_vmemmap.analysis.report import Report, Stability
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.origin import Origin
from drgn_vmemmap.output.report import View, html
from drgn_vmemmap.output.report.html.folios import findings_of
from drgn_vmemmap.output.report.html.map import Picture, draw_map
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import RULES
from drgn_vmemmap.vmemmap.sections import Section
from drgn_vmemmap.vmemmap.special import DEVICE, SpecialVmemmap
from tests.support import BareDrgn, run, vmcore, vmemmap
from tests.synthetic import pages
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import FIRST_FOLIO, GIB, REUSE_W, Folio, Machine
from tests.synthetic.strategies import machines

VMCORE = vmcore("two-nodes-1GiB")
VOID = {"meta", "input", "br"}


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    content: list[str | Element] = field(default_factory=list, repr=False)

    def all(self, tag: str = "", class_: str = "", **attributes: str) -> Iterator[Element]:
        """Elements within this one, in order."""
        for child in self.children:
            if (
                tag in ("", child.tag)
                and (not class_ or class_ in child.attributes.get("class", "").split())
                and attributes.items() <= child.attributes.items()
            ):
                yield child
            yield from child.all(tag, class_, **attributes)

    def one(self, tag: str = "", class_: str = "", **attributes: str) -> Element:
        (found,) = self.all(tag, class_, **attributes)
        return found

    @property
    def children(self) -> list[Element]:
        return [part for part in self.content if isinstance(part, Element)]

    @property
    def source(self) -> str:
        """Its text as it stands."""
        return "".join(part if isinstance(part, str) else part.source for part in self.content)

    @property
    def text(self) -> str:
        """Its text as it is read."""
        return " ".join(self.source.split())


class Parser(HTMLParser):
    """Builds the elements of a page, and sees that each is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def parsed(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root]
    return parser.root


def cells_of(row: Element) -> list[str]:
    return [cell.text for cell in row.children]


def data_of(page: Element) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(page.one("script", id="data").source)
    return data


@pytest.fixture(scope="module")
def damaged() -> Image:
    return pages.damaged("7.2.0")


@pytest.fixture(scope="module")
def page(damaged: Image) -> Element:
    return parsed(pages.page_of(damaged.prog))


# Structure.


def test_the_page_is_html_whose_references_lead_somewhere(page: Element) -> None:
    ids = Counter(element.attributes["id"] for element in page.all() if "id" in element.attributes)
    assert set(ids.values()) == {1}
    for element in page.all():
        for name in ("aria-labelledby", "aria-describedby", "for"):
            for reference in element.attributes.get(name, "").split():
                assert reference in ids
        target = element.attributes.get("href", "#main")
        assert target == "#main" or target[1:] in ids
    assert page.one("html").attributes["lang"] == "en"
    assert len(list(page.all("h1"))) == 1


def test_the_page_needs_nothing_but_itself(page: Element) -> None:
    for element in page.all():
        assert element.tag not in ("link", "img", "iframe", "object", "base", "form")
        assert not {"src", "style", "onclick", "onload"} & set(element.attributes)
        assert element.attributes.get("href", "#").startswith("#")
    for text in (page.one("style").source, *(e.source for e in page.all("script"))):
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\((?!#)", text)


def test_the_page_lets_nothing_run_but_its_own_script(page: Element) -> None:
    (meta,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.split(maxsplit=1) for part in meta.attributes["content"].split("; "))
    (script,) = (e for e in page.all("script") if "type" not in e.attributes)
    for name, text in (
        ("script-src", script.source),
        ("style-src", page.one("style").source),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"


def test_the_summary_has_the_reports_numbers(damaged: Image, page: Element) -> None:
    report = damaged.examine()
    groups = page.one("dl", "figures").all("div")
    figures = {group.one("dt").text: group.one("dd").text for group in groups}
    assert figures["folios"] == "167"
    assert figures["inconsistent"] == str(report.totals.counts[Verdict.INCONSISTENT])
    summary = page.one("section", id="summary").text
    assert "Linux 7.2.0, dump, 4-level paging" in page.one("header").text
    assert "layout shared-tail" in page.one("header").text
    assert "Incomplete." in summary
    rows = [cells_of(row) for row in page.one("section", id="summary").one("table").all("tr")]
    assert ["hugepages-2048kB", "all", "164", "163", "0", "164"] in [row[:6] for row in rows]
    assert ["", "1", "64", "64", "0", "64", "64", "0", "0", "0", "448", "1.8 MiB"] in rows


def test_findings_are_shown_with_what_they_mean(damaged: Image, page: Element) -> None:
    articles = list(page.one("section", id="findings").all("article"))
    severities = [article.attributes["class"] for article in articles]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    (article,) = (a for a in articles if "tail-writable" in a.text)
    assert RULES["tail-writable"].meaning in article.text
    folio = FIRST_FOLIO + 5 * 512
    assert hex(damaged.entry(folio, 3)) in article.text
    assert hex(damaged.entry_address(folio, 3)) in article.text
    assert "should be: frame" in article.text
    assert list(article.all("a", **{"data-search": hex(folio)}))


def test_a_sound_kernel_has_no_findings() -> None:
    image = Image(Machine(folios=(Folio(FIRST_FOLIO),)))
    found = parsed(pages.page_of(image.prog)).one("section", id="findings")
    assert found.one("p").text == "No findings."
    assert not list(found.all("article"))


def test_a_machine_without_folios_has_an_empty_page() -> None:
    empty = parsed(pages.page_of(Image(Machine()).prog))
    assert not list(empty.all("figure"))
    assert not list(empty.all("rect"))
    assert empty.one("p", id="status").text == "0 folios."


def test_special_vmemmap_is_named_and_drawn() -> None:
    report = Image(Machine(folios=(Folio(FIRST_FOLIO),))).examine()
    report.special = [
        SpecialVmemmap(DEVICE, range(0x40000, 0x60000), 1000),
        SpecialVmemmap(DEVICE, range(0x80000, 0x90000), 24),
    ]
    report.sections = [Section(special.pfns, 3) for special in report.special]
    page = parsed("".join(html.render(report, View())))
    rows = [cells_of(row) for row in page.one("section", id="summary").all("tr")]
    assert ["device-dax", "compound pages of a device's memory", "768 MiB", "4 MiB"] in rows
    cells = [c for c in page.all("rect", "device") if "cell" in c.attributes["class"]]
    assert len(cells) == (0x20000 + 0x10000) // 512
    assert cells[-1].one("title").text == "PFN 0x8fe00 to 0x8ffff, 2 MiB: device DAX"


def test_a_live_kernel_and_an_end_before_the_end_are_reported() -> None:
    report = Image(Machine()).examine()
    report.stability = Stability(seconds=1.25, passes=2, moved=3, transient=1)
    report.interrupted = True
    summary = parsed("".join(html.render(report, View()))).one("section", id="summary").text
    assert "Interrupted. This is not all." in summary
    assert "2 passes over this kernel in 1.2 s: 3 folios moved, 1 transient finding." in summary


@pytest.mark.parametrize(
    ("folio", "verified", "kind", "text"),
    (
        (Folio(FIRST_FOLIO), True, "sound", "nothing is broken"),
        (Folio(FIRST_FOLIO), False, "unverified", "not verified: 'verify' checks all rules"),
        (Folio(FIRST_FOLIO, edits={3: REUSE_W}), False, "broken", "broken (1 error)"),
        (
            Folio(FIRST_FOLIO, head_in_dump=False),
            True,
            "incomplete",
            "incomplete; nothing is known to be broken",
        ),
    ),
)
def test_the_verdict_stands_beside_the_title(
    folio: Folio, verified: bool, kind: str, text: str
) -> None:
    prog = Image(Machine(folios=(folio,))).prog
    report = (verify if verified else examine)(prog)
    title = parsed("".join(html.render(report, View()))).one("h1")
    assert title.one("span").attributes["class"] == f"conclusion {kind}"
    assert title.one("span").text == text


def test_the_page_names_the_dump() -> None:
    origin = Origin("/var/crash/vmcore", "db-17", datetime(2026, 11, 23, tzinfo=timezone.utc))
    report = replace(Image(Machine()).examine(), origin=origin)
    page = parsed("".join(html.render(report, View())))
    named = "/var/crash/vmcore, host db-17, crashed 2026-11-23 00:00:00 UTC"
    assert page.one("header").one("strong").text == named
    assert page.one("title").text == "HugeTLB vmemmap of db-17"


def test_what_is_merely_worth_knowing_is_closed(page: Element) -> None:
    for article in page.one("section", id="findings").all("article"):
        is_open = "open" in article.one("details").attributes
        assert is_open == (article.attributes["class"] != "info")


# The drawings.


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


# The table, and the folios that the script unpacks.


def unpacked(steps: list[int]) -> list[int]:
    value, column = 0, []
    for step, times in zip(steps[::2], steps[1::2]):
        for _ in range(times):
            value += step
            column.append(value)
    return column


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


# The map.


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
    assert states[State.ERROR] == 2
    assert states[State.PARTLY] == 20
    assert [name for name, _ in picture.legend] == ["error", "optimized", "partly"]
    assert boxes[0].text == "PFN 0x8000 to 0x8fff, 16 MiB: 7 optimized, 1 unoptimized"


def test_rows_without_folios_are_left_out() -> None:
    report = pages.many(3)
    report.folios.folios.pfns[2] = 1 << 32
    first, second = map_of(report).rows
    assert (first.gap, second.gap) == (0, (1 << 32) - 0x10000)
    assert (list(first.nodes), list(second.nodes)) == ([0], [1])


# What a dump can do.


def test_what_a_dump_says_is_text_wherever_it_stands() -> None:
    image = pages.hostile()
    text = pages.page_of(image.prog)
    hostile = parsed(text)
    assert not list(hostile.all("img"))
    assert len(list(hostile.all("script"))) == 2
    assert pages.HOSTILE in hostile.one("table", id="table").text
    assert pages.HOSTILE in hostile.one("section", id="summary").text
    assert pages.HOSTILE in hostile.one("figure").text
    assert pages.HOSTILE in next(hostile.one("section", id="map").all("title")).text
    assert {trait["hstate"] for trait in data_of(hostile)["traits"]} == {pages.HOSTILE}
    assert "<img" not in text


@settings(max_examples=25)
@given(machines(broken=True))
def test_whatever_is_broken_there_is_a_page(machine: Machine) -> None:
    image = Image(machine)
    found = parsed(pages.page_of(image.prog))
    rows = found.one("table", id="table").one("tbody").all("tr")
    assert len(list(rows)) == len(image.examine().folios)


def test_an_attribute_cannot_be_left() -> None:
    report = pages.hostile().examine()
    message = '\'"><b x="'
    report.findings = [
        Finding("tail-writable", Severity.ERROR, message, report.folios[0].folio.pfn)
    ]
    broken = parsed("".join(html.render(report, View())))
    assert not list(broken.all("b"))
    assert message in broken.one("section", id="findings").text


def test_half_a_million_folios_are_a_page_of_some_megabytes() -> None:
    report = pages.many(500_000)
    started = time.process_time()
    text = "".join(html.render(report, View()))
    # It takes a few seconds; a machine under load has its time.
    assert time.process_time() - started < 60
    assert len(text) < 10_000_000
    page = parsed(text)
    assert "The first 500 of 500,000 folios" in page.one("p", id="status").text
    assert len(list(page.one("table", id="table").one("tbody").all("tr"))) == 500
    assert "Where: the first 100 of 500" in page.one("section", id="findings").text
    assert "128 folios of 2 MiB" in page.one("p", id="map-scale").text
    assert len(list(page.all("rect", "cell"))) <= 64 * 64
    data = data_of(page)
    assert unpacked(data["pfns"])[-1] == FIRST_FOLIO + 499_999 * 512
    assert len(unpacked(data["numbers"])) == 500_000


# Entry points.


def test_the_command_writes_the_page_also_from_the_bundle(bundle: Path, tmp_path: Path) -> None:
    installed, bundled = tmp_path / "installed", tmp_path / "bundled"
    done = vmemmap("-c", VMCORE, "--format", "html", "-o", installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run(sys.executable, bundle, "-c", VMCORE, "--format", "html", "-o", bundled)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert bundled.read_bytes() == installed.read_bytes()
    page = parsed(installed.read_text())
    assert page.one("footer").text == f"drgn-vmemmap {__version__}"
    assert len(list(page.all("figure"))) == 3


def test_without_the_template_library_one_line_says_so(
    bundle: Path, bare_drgn: BareDrgn, tmp_path: Path
) -> None:
    done = bare_drgn.run("-c", VMCORE, bundle, "--format", "html", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("drgn-vmemmap: ")
    assert "Jinja2" in line
    assert "pip install jinja2" in line
