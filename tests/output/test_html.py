# SPDX-License-Identifier: LGPL-2.1-or-later

"""The HTML report, as far as it can be seen without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given

from drgn_vmemmap import __version__, examine, verify
from drgn_vmemmap.analysis.report import Selection, Stability
from drgn_vmemmap.hugetlb.hstate import Counters
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.origin import Origin
from drgn_vmemmap.output.report import View, html
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import RULES
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.special import DEVICE, SpecialVmemmap
from tests.output.page import VMCORE, Element, cells_of, data_of, parsed, unpacked
from tests.support import BareDrgn, answer, open_vmcore, run
from tests.synthetic import pages
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, REUSE_W, Folio, Machine
from tests.synthetic.strategies import few, machines


@pytest.fixture(scope="module")
def sound() -> Element:
    return parsed(pages.page_of(Image(Machine(folios=(Folio(FIRST_FOLIO),))).prog))


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


@pytest.mark.long
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


def test_a_narrowed_report_says_so_and_has_the_counters_of_its_node() -> None:
    report = examine(open_vmcore("two-nodes-1GiB"), Selection(node=0))
    narrowed = parsed("".join(html.render(report, View())))
    summary = narrowed.one("section", id="summary")
    assert "Narrowed. Only folios on node 0" in summary.text
    # Page tables are shared with folios of other nodes.
    assert "net saving" not in summary.text.lower()
    rows = [cells_of(row)[:6] for row in summary.one("table").all("tr")]
    assert ["hugepages-2048kB", "0", "23", "13", "0", "23"] in rows
    report = examine(
        open_vmcore("two-nodes-1GiB"), Selection(hstate="hugepages-2048kB", pfn=0x2E05)
    )
    narrowed = parsed("".join(html.render(report, View())))
    assert "1048576kB" not in narrowed.one("section", id="summary").text


@pytest.mark.parametrize("name", ("page", "sound"))
def test_headings_span_the_columns_that_there_are(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Unusual verdicts have a column where there are such folios."""
    table = request.getfixturevalue(name).one("section", id="summary").one("table")
    widths = {
        sum(int(cell.attributes.get("colspan", "1")) for cell in row.children)
        for row in table.all("tr")
    }
    assert len(widths) == 1


def test_a_counter_that_is_not_known_is_no_number() -> None:
    report = verify(Image(Machine(folios=(Folio(FIRST_FOLIO),))).prog)
    for each in report.hstates:
        each.hstate = each.hstate._replace(counters=Counters(1, None, None))
    page = parsed("".join(html.render(report, View())))
    rows = [cells_of(row)[:5] for row in page.one("section", id="summary").one("table").all("tr")]
    assert ["hugepages-2048kB", "0", "1", "?", "?"] in rows


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
    report.sections = [SectionRange(special.pfns, 3) for special in report.special]
    page = parsed("".join(html.render(report, View())))
    rows = [cells_of(row) for row in page.one("section", id="summary").all("tr")]
    assert ["device-dax", "memory of a device", "768 MiB", "4 MiB"] in rows
    cells = [c for c in page.all("rect", "device") if "cell" in c.attributes["class"]]
    assert len(cells) == (0x20000 + 0x10000) // 512
    assert cells[-1].one("title").text == "PFN 0x8fe00 to 0x8ffff, 2 MiB: memory of a device"


def test_a_live_kernel_and_an_end_before_the_end_are_reported() -> None:
    report = Image(Machine()).examine()
    report.stability = Stability(seconds=1.25, passes=2, moved=3, transient=1)
    report.interrupted = True
    summary = parsed("".join(html.render(report, View()))).one("section", id="summary").text
    assert "Interrupted. The report is incomplete." in summary
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


@pytest.mark.long
@few
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


@pytest.mark.long
def test_fifty_thousand_folios_are_a_page_of_a_megabyte() -> None:
    report = pages.many(50_000, broken_each=2_500)
    started = time.process_time()
    text = "".join(html.render(report, View()))
    # It takes a second; a machine under load has its time.
    assert time.process_time() - started < 15
    assert len(text) < 1_300_000
    page = parsed(text)
    assert "The first 500 of 50,000 folios" in page.one("p", id="status").text
    assert len(list(page.one("table", id="table").one("tbody").all("tr"))) == 500
    assert "Where: the first 100 of 200" in page.one("section", id="findings").text
    assert "16 folios of 2 MiB" in page.one("p", id="map-scale").text
    assert len(list(page.all("rect", "cell"))) <= 64 * 64
    data = data_of(page)
    assert unpacked(data["pfns"])[-1] == FIRST_FOLIO + 49_999 * 512
    assert len(unpacked(data["numbers"])) == 50_000


def test_the_command_writes_the_page_also_from_the_bundle(bundle: Path, tmp_path: Path) -> None:
    installed, bundled = tmp_path / "installed", tmp_path / "bundled"
    done = answer("--format", "html", "-o", installed, prog=open_vmcore(VMCORE))
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
