# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reports of other versions, hosts and programs are compared in what they share."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from drgn_vmemmap.analysis.comparable import comparable
from drgn_vmemmap.analysis.difference import Difference, difference
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.output.difference import render
from tests.support import answer, open_vmcore, report_file

REPORT: dict[str, Any] = json.loads(report_file("head-reuse").read_text())
FINDING = {"rule": "tail-writable", "severity": "error"}


def edited(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    report = deepcopy(REPORT)
    edit(report)
    return report


def compared(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Compared in both orders."""
    before, after = comparable(one, "A"), comparable(other, "B")
    return [difference(before, after), difference(after, before)]


def text(found: Difference) -> str:
    return "".join(render(found, "table"))


@pytest.mark.parametrize("name", ("mapped_by", "flag_optimized", "read_only", "node"))
def test_a_field_that_one_version_does_not_write_is_no_difference(name: str) -> None:
    other = edited(lambda report: [folio.pop(name) for folio in report["folios"]])
    for found in compared(REPORT, other):
        assert not found.differs and found.complete


@pytest.mark.parametrize("name", ("page_tables", "net_saved_bytes"))
def test_a_total_that_one_version_does_not_write_is_no_difference(name: str) -> None:
    for found in compared(REPORT, edited(lambda report: report["totals"].pop(name))):
        assert not found.differs and found.complete
        assert name not in found.totals


def test_a_rule_that_one_version_may_not_have_is_not_compared() -> None:
    new = {**FINDING, "rule": "of-a-later-version"}
    one = edited(lambda report: report["findings"].append(new))
    for found in compared(REPORT, one):
        assert not found.differs and not found.complete
        assert "not compared: of-a-later-version" in text(found)
    two = edited(lambda report: report["findings"].extend((new, new)))
    for found in compared(one, two):
        assert found.differs
        assert sorted(found.rules["of-a-later-version"]) == [1, 2]


def test_a_rule_that_one_report_did_not_check_is_not_compared() -> None:
    part = {"message": "x", "unchecked": ["tail-writable", "tail-content"]}
    one = edited(lambda report: report.update(unrecognised=[part], incomplete=True))
    two = edited(lambda report: report["findings"].append(FINDING))
    for found in compared(one, two):
        assert not found.differs and not found.complete
        assert found.unknown_rules == ["tail-writable"]
    for found in compared(REPORT, two):
        assert found.differs and found.unknown_rules == []


def test_a_report_that_calls_itself_incomplete_is() -> None:
    def without_a_folio(report: dict[str, Any]) -> None:
        report["incomplete"] = True
        report["folios"].pop()

    for found in compared(REPORT, edited(without_a_folio)):
        assert not found.differs and not found.complete
        assert len(found.unknown) == 1


@pytest.mark.parametrize("verdict", ("optimized", "unoptimized"))
def test_a_folio_that_a_report_of_one_verdict_does_not_list_did_not_go(verdict: str) -> None:
    def narrow(report: dict[str, Any]) -> None:
        report["selection"]["verdict"] = verdict
        report["folios"] = [each for each in report["folios"] if each["verdict"] == verdict]

    narrowed = edited(narrow)
    assert 0 < len(narrowed["folios"]) < len(REPORT["folios"])
    for found in compared(REPORT, narrowed):
        assert not found.differs and not found.complete
        assert sum(found.outside) == len(REPORT["folios"]) - len(narrowed["folios"])
    for found in compared(narrowed, narrowed):
        assert not found.differs and found.complete
    fewer = deepcopy(narrowed)
    fewer["folios"].pop()
    for found in compared(narrowed, fewer):
        assert found.changes == [] and not found.complete


def test_differences_of_two_hosts_are_not_changes_within_one_boot() -> None:
    one = edited(lambda report: report["target"].update(host="one"))
    other = edited(lambda report: report["target"].update(host="other\x1b[2J"))
    found, _ = compared(one, other)
    assert "two hosts, one and other\\x1b[2J: differences are not changes" in text(found)
    assert all("two hosts" not in text(found) for found in compared(one, REPORT))


def test_a_base_that_is_not_known_is_of_no_other_boot() -> None:
    other = edited(lambda report: report["kernel"].update(vmemmap_base=None))
    assert not any(found.two_boots for found in compared(REPORT, other))
    with pytest.raises(CannotAnalyse, match="'vmemmap_base' is of another type"):
        comparable(edited(lambda report: report["kernel"].update(vmemmap_base=1)), "A")


@pytest.mark.parametrize("charset", ("utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"))
def test_a_report_in_another_charset_is_read(charset: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(json.dumps(REPORT).encode(charset))
    done = answer("diff", path, report_file("head-reuse"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "no difference\n", "")


@pytest.mark.parametrize("digits", (22, 5000, 1_000_000))
def test_a_number_that_no_report_has_takes_no_time(digits: int, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"schema_version": 1, "folios": [' + "9" * digits + "]}")
    done = answer("diff", path, report_file("head-reuse"))
    assert done.returncode == 2
    assert done.stderr.endswith(f"a number of {digits:,} digits is none of 64 bits\n")


def test_a_report_in_json_lines_gets_an_advice(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    command = ("report", "--folios", "--format", "jsonl", "-o", path)
    assert answer(*command, prog=open_vmcore("head-reuse")).returncode == 0
    done = answer("diff", path, report_file("head-reuse"))
    assert done.returncode == 2
    assert done.stderr.endswith("is JSON Lines: write it with --folios --format json\n")
