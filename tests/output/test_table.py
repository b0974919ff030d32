# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as people read it: it fits their terminal, and ends with a verdict."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.listing import COLUMNS, Listing
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.folios import folio_table
from drgn_vmemmap.output.report import View, render
from drgn_vmemmap.output.terminal import PLAIN
from drgn_vmemmap.output.text import size
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import RULES
from tests.support import VMCORES, verified
from tests.synthetic import pages
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, REUSE_W, Folio, Machine
from tests.synthetic.strategies import few, machines

COLOURED = PLAIN._replace(colour=True)


def table(report: Report, **view: object) -> str:
    return "".join(render(report, "table", View(**view)))  # type: ignore[arg-type]


def report_of(*folios: Folio, release: str = "6.12.0", **changes: object) -> Report:
    machine = Machine(line=LINES[release], folios=folios)
    return verify(Image(replace(machine, **changes)).prog)  # type: ignore[arg-type]


def rows_of(report: Report, width: int) -> list[str]:
    return list(folio_table(Listing(report.kernel, report.folios), width))


def test_folios_that_the_kernel_counts_and_that_were_not_found_are_missed() -> None:
    sound = report_of(Folio(FIRST_FOLIO))
    assert "were found" not in table(sound)
    (row,) = (each for each in sound.hstates if each.counts.folios)
    counters = row.hstate.counters._replace(nr_huge_pages=64)
    short = replace(row, hstate=row.hstate._replace(counters=counters))
    assert f"{row.hstate.name}: 1 of 64 folios were found" in table(replace(sound, hstates=[short]))


# Width.


@pytest.fixture(params=VMCORES, ids=lambda path: path.stem)
def report(request: pytest.FixtureRequest) -> Report:
    return verified(request.param)


def test_the_tables_of_a_recorded_kernel_fit_80_columns(report: Report) -> None:
    lines = table(report, folios=True).splitlines()
    tables = [line for line in lines if "  " in line]
    assert tables and max(map(len, tables)) <= 80


@few
@given(machines(broken=True), st.integers(80, 200))
def test_the_tables_of_any_machine_fit_the_terminal(machine: Machine, width: int) -> None:
    report = Image(machine).examine()
    style = PLAIN._replace(width=width)
    text = table(report, style=style).split("\n\n")
    hstates = [paragraph for paragraph in text if paragraph.startswith("hstate ")]
    assert all(len(line) <= width for table in hstates for line in table.splitlines())
    if len(report.folios):
        assert max(map(len, rows_of(report, width)[2:])) <= width + 1


def test_a_table_of_a_hundred_thousand_folios_fits_and_has_a_line_for_each() -> None:
    report = pages.many(100_000)
    count = 0
    for line in folio_table(Listing(report.kernel, report.folios), 80):
        count += 1
        assert len(line) <= 81
    assert 100_002 <= count <= 100_004


def test_a_wide_terminal_has_all_columns() -> None:
    report = report_of(Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, edits={5: REUSE_W}))
    heading, _, first, second = rows_of(report, 200)
    assert re.split(r"  +", heading.strip()) == [c.heading for c in COLUMNS if c.heading]
    assert first.split()[:4] == [hex(FIRST_FOLIO), "2048kB", "0", "free"]
    assert second.split()[-3:] == ["1-7", "1-4,6-7", "7"]


def test_what_all_folios_have_in_common_is_said_once_where_there_is_no_space() -> None:
    report = report_of(Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512))
    common, heading = rows_of(report, 80)[:2]
    assert common.startswith("each folio: ") and "mapped by pte" in common
    assert "mapped by" not in heading and "verdict" in heading and "not shown" not in common


def test_what_is_left_out_is_named() -> None:
    folios = [Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False)]
    common, left_out, heading = rows_of(report_of(*folios), 40)[:3]
    assert {"PFN", "verdict", "reuse frame"} <= set(re.split(r" {2,}", heading.strip()))
    assert "state free" in common
    assert {"freed", "flag", "layout"} <= set(re.split(r": |, |\n", left_out))


# Hstates.


def test_hstates_without_folios_share_a_line() -> None:
    text = table(report_of(Folio(FIRST_FOLIO)))
    assert "\nno folios: hugepages-1048576kB\n" in text
    assert text.count("hugepages-1048576kB") == 1


def test_a_kernel_without_hstates_has_none() -> None:
    assert "\nno hstates\n" in table(verify(Image(Machine(orders=())).prog))


def test_a_verdict_that_no_folio_has_takes_no_column() -> None:
    assert "inconsistent" not in table(report_of(Folio(FIRST_FOLIO)))
    broken = table(report_of(Folio(FIRST_FOLIO, edits={5: REUSE_W})))
    assert re.search(r"folios +inconsistent\n", broken)


# Whether new folios are optimized.


@pytest.mark.parametrize(
    ("enabled", "said"),
    (
        (True, "switched on: new folios are optimized"),
        (False, "switched off now: new folios are not optimized"),
    ),
)
def test_the_switch_is_said_to_be_about_new_folios(enabled: bool, said: str) -> None:
    text = table(report_of(Folio(FIRST_FOLIO), enabled=enabled))
    assert f"HVO layout head-reuse; {said}\n" in text


@pytest.mark.parametrize(
    ("count", "shown"),
    (
        (1023, "1023 B"),
        (7 << 9, "3.5 KiB"),
        ((1 << 30) - 4096, "1.0 GiB"),
        (3 << 40, "3 TiB"),
        (5 << 50, "5120 TiB"),
    ),
)
def test_a_size_has_the_largest_unit_of_which_it_is_one_or_more(count: int, shown: str) -> None:
    assert size(count) == shown


# The verdict.


def last_line(report: Report) -> str:
    return table(report, details=True).splitlines()[-1]


def test_a_finding_is_shown_with_its_meaning_its_place_and_what_should_be_there() -> None:
    report = report_of(Folio(FIRST_FOLIO, edits={5: REUSE_W}))
    (finding,) = report.findings
    heading, where, details = table(report, details=True).split("\n\n")[-2].splitlines()
    assert heading == f"error: tail-writable, 1 time. {RULES['tail-writable'].meaning}"
    assert where == f"  folio {FIRST_FOLIO:#x}, vmemmap page 5: {finding.message}"
    address, entry, expected = details.strip().split("; ")
    assert address == f"address {finding.address:#x}"
    assert entry == f"entry {finding.entry:#018x} at physical {finding.entry_address:#x}"
    assert expected == f"should be: {finding.expected}" and "read-only" in expected


def test_the_first_findings_of_a_rule_are_shown_unless_all_are_wanted() -> None:
    report = report_of(*(Folio(FIRST_FOLIO + 512 * n, edits={5: REUSE_W}) for n in range(12)))
    first = table(report, details=True)
    assert "and 9 more: verify --all shows them" in first
    assert first.count(report.findings[0].message) == 3
    every = table(report, details=True, all_findings=True)
    assert "--all" not in every and every.count(report.findings[0].message) == 12


def test_verify_ends_with_how_much_was_checked_and_that_nothing_is_broken() -> None:
    checked = f"1 folio, 4,096 vmemmap pages, {len(RULES)} rules"
    assert last_line(report_of(Folio(FIRST_FOLIO))) == f"{checked}: nothing is broken"


def test_verify_ends_with_what_is_broken() -> None:
    broken = report_of(Folio(FIRST_FOLIO, edits={5: REUSE_W}))
    assert last_line(broken).endswith(" rules: broken (1 error)")


def test_an_incomplete_analysis_does_not_end_with_nothing_is_broken() -> None:
    incomplete = report_of(Folio(FIRST_FOLIO, head_in_dump=False))
    assert last_line(incomplete).endswith(": incomplete; nothing is known to be broken")


def test_a_report_has_no_verdict() -> None:
    assert "rules: " not in table(report_of(Folio(FIRST_FOLIO)))


# Colour.


def test_red_is_for_errors_alone() -> None:
    report = report_of(Folio(FIRST_FOLIO))
    red = re.compile("\33\\[[0-9;]*31m")
    for severity in Severity:
        report.findings = [Finding("tail-writable", severity, "is writable", FIRST_FOLIO)]
        text = table(report, details=True, style=COLOURED)
        assert bool(red.search(text)) == (severity is Severity.ERROR)
        assert "\33[" in text


def test_colour_changes_no_character() -> None:
    report = report_of(Folio(FIRST_FOLIO, edits={5: REUSE_W}))
    coloured = table(report, details=True, folios=True, style=COLOURED)
    assert re.sub("\33\\[[0-9;]*m", "", coloured) == table(report, details=True, folios=True)
