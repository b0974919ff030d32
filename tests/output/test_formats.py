# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report in the formats that machines read."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families

from drgn_vmemmap import examine, verify
from drgn_vmemmap.analysis.document import FOLIO_FIELDS, document
from drgn_vmemmap.analysis.report import Report, Selection
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE
from drgn_vmemmap.cli.report import FORMATS
from drgn_vmemmap.errors import printable
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.output.report import View
from drgn_vmemmap.output.report import render as pieces
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.rules.rule import RULES
from tests.support import VMCORES, open_vmcore, verified
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine, Section
from tests.synthetic.pages import many
from tests.synthetic.strategies import few, machines

SCHEMA_FILE = files("drgn_vmemmap").joinpath("report.schema.json")
SCHEMA = json.loads(SCHEMA_FILE.read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LISTED = tuple(name for name in FORMATS if name not in ("prometheus", "html"))
"""The formats that write each folio when they come to it."""
EVERYTHING = View(folios=True, details=True, all_findings=True)

HOSTILE_RELEASE = '\xff\x1b"\\'
HOSTILE = '{huge"pages}\\\n\x1b[31m'


def render(report: Report, format_name: str, view: View) -> str:
    """The text of a report, its pieces put together."""
    return "".join(pieces(report, format_name, view))


@pytest.fixture(params=VMCORES, ids=lambda path: path.stem)
def report(request: pytest.FixtureRequest) -> Report:
    return verified(request.param)


class HostileImage(Image):
    """Of a kernel whose release is of no character set."""

    @property
    def vmcoreinfo(self) -> str:
        return super().vmcoreinfo.replace("OSRELEASE=", f"OSRELEASE={HOSTILE_RELEASE}")


def hostile_report(name: str = HOSTILE) -> Report:
    """Of such a kernel, whose hstate has a name of any kind, and counts that are wrong."""
    image = HostileImage(Machine(folios=(Folio(FIRST_FOLIO),), orders=(9,)))
    members, hstate = image.types.structs["hstate"].members, image.physical(image.hstates[9])
    image.memory.write(hstate + members["name"].offset, name.encode().ljust(32, b"\0"))
    image.memory.write(hstate + members["nr_huge_pages"].offset, (2).to_bytes(8, "little"))
    report = verify(image.prog)
    assert report.hstates[0].hstate.name == printable(name)
    return report


def validate(complete: dict[str, Any]) -> None:
    VALIDATOR.validate(complete)


# JSON.


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_report_of_a_recorded_kernel_is_as_the_schema_says(report: Report) -> None:
    validate(document(report, folios=True))
    validate(document(report, folios=False))


@few
@given(machines(broken=True))
def test_the_report_of_a_broken_machine_is_as_the_schema_says(machine: Machine) -> None:
    validate(document(verify(Image(machine).prog), folios=True))


def test_the_schema_names_nothing_twice() -> None:
    assert json.dumps(SCHEMA, indent=1) == SCHEMA_FILE.read_text().rstrip()


def test_the_schema_knows_each_rule_and_no_other() -> None:
    rules = SCHEMA["properties"]["findings"]["items"]["properties"]["rule"]["enum"]
    assert sorted(rules) == sorted(RULES)


def closed(schema: Any) -> Any:
    """A schema that allows no fields but those that it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if schema.get("type") == "object" else {}
    return {**{key: closed(value) for key, value in schema.items()}, **more}


def test_the_schema_names_each_field(report: Report) -> None:
    complete = document(report, folios=True)
    jsonschema.validate(complete, closed(SCHEMA), cls=jsonschema.Draft202012Validator)


def test_a_report_that_is_not_as_the_schema_says_is_refused(report: Report) -> None:
    complete = document(report, folios=True)
    complete["folios"][0]["verdict"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        validate(complete)


@pytest.mark.parametrize("with_folios", (True, False))
def test_json_made_piece_by_piece_is_the_document(report: Report, with_folios: bool) -> None:
    text = render(report, "json", View(folios=with_folios))
    assert text == json.dumps(document(report, with_folios), indent=1) + "\n"


def test_a_report_gives_its_document_to_scripts(report: Report) -> None:
    assert report.to_dict() == json.loads(render(report, "json", View(folios=True)))
    assert report.to_dict(folios=False) == json.loads(render(report, "json", View()))


def test_json_of_no_folio_is_the_document() -> None:
    report = verify(Image(Machine()).prog)
    text = render(report, "json", EVERYTHING)
    assert text == json.dumps(document(report, folios=True), indent=1) + "\n"


@pytest.mark.parametrize("format_name", LISTED)
def test_a_list_is_written_folio_by_folio(report: Report, format_name: str) -> None:
    view = View(folios=True)
    written = list(pieces(report, format_name, view))
    assert len(written) > len(report.folios)


@pytest.mark.long
@pytest.mark.parametrize("format_name", LISTED)
def test_a_long_list_takes_little_memory_to_write(format_name: str) -> None:
    """A number for each folio, whatever the text of a folio takes."""
    count = 20_000
    report = many(count)
    report.findings = []
    render(many(1), format_name, View(folios=True))  # imports take memory, too
    tracemalloc.start()
    length = sum(map(len, pieces(report, format_name, View(folios=True))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length > 50 * count
    assert peak < 16 * count


# JSON Lines and CSV.


def test_json_lines_put_together_are_the_json(report: Report) -> None:
    complete = document(report, folios=True)
    lines = [json.loads(line) for line in render(report, "jsonl", EVERYTHING).splitlines()]
    parts: dict[str, list[Any]] = {"report": [], "folio": [], "finding": []}
    for line in lines:
        parts[line.pop("type")].append(line)
    (result,) = parts["report"]
    assert {**result, "folios": parts["folio"], "findings": parts["finding"]} == complete


def test_csv_has_a_row_a_folio_with_the_fields_of_json(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(render(report, "csv", EVERYTHING))))
    assert [
        {name: written(name, value) for name, value in folio.items()} for folio in folios(report)
    ] == rows


def test_csv_of_a_verification_has_a_row_a_finding_with_the_fields_of_json(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(render(report, "csv", View(details=True)))))
    findings = document(report, folios=False)["findings"]
    assert [
        {name: "" if value is None else str(value) for name, value in finding.items()}
        for finding in findings
    ] == [{**row, "folio": str(int(row["folio"], 16)) if row["folio"] else ""} for row in rows]


def folios(report: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(report, folios=True)["folios"]
    assert all(tuple(folio) == FOLIO_FIELDS for folio in found)
    return found


def written(name: str, value: object) -> str:
    if value is None:
        return ""
    if name in ("pfn", "reuse_frame") and isinstance(value, int):
        return hex(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


# Prometheus.


def metrics(report: Report) -> dict[str, dict[tuple[str, ...], float]]:
    """Values of each metric by its labels' values, as the official client reads them."""
    families = text_string_to_metric_families(render(report, "prometheus", EVERYTHING))
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in families
    }


def test_metrics_are_the_totals(report: Report) -> None:
    found, totals = metrics(report), document(report, folios=False)["totals"]
    assert sum(found["drgn_vmemmap_freed_bytes"].values()) == totals["freed_bytes"]
    assert found["drgn_vmemmap_net_saved_bytes"][()] == totals["net_saved_bytes"]
    for verdict in ("optimized", "unoptimized", "inconsistent", "unreadable"):
        folios = found["drgn_vmemmap_folios"].items()
        assert sum(value for labels, value in folios if labels[-1] == verdict) == totals[verdict]


def test_metrics_of_a_narrowed_report_say_so_and_have_no_savings_of_others() -> None:
    found = metrics(examine(open_vmcore("two-nodes-1GiB"), Selection(node=0)))
    assert list(found["drgn_vmemmap_info"]) == [("6.12.117+deb13-cloud-amd64", "head-reuse", "0")]
    assert found["drgn_vmemmap_still_possible_bytes"][()] == 3 * 7 * PAGE_SIZE
    of_all = ("page_table_bytes", "shared_tail_bytes", "net_saved_bytes")
    assert not {f"drgn_vmemmap_{name}" for name in of_all} & found.keys()


def test_a_rule_that_holds_everywhere_is_a_zero(report: Report) -> None:
    findings = metrics(report)["drgn_vmemmap_findings"]
    assert {rule for rule, _ in findings} == set(RULES)
    assert findings["tail-content", "error"] == 0
    assert findings["unoptimized", "info"] == report.totals.counts[Verdict.UNOPTIMIZED]


def test_of_rules_that_only_verify_runs_a_report_claims_nothing() -> None:
    found = metrics(Image(Machine(folios=(Folio(FIRST_FOLIO),))).examine())
    rules = {rule for rule, _ in found["drgn_vmemmap_findings"]}
    assert rules == {rule.name for rule in RULES.values() if not rule.verify_only}
    assert RULES["frame-freed"].verify_only and RULES["tail-content"].verify_only


def test_of_rules_that_a_kernel_does_not_let_it_check_a_verification_claims_nothing() -> None:
    image = Image(Machine(folios=(Folio(FIRST_FOLIO),)))
    del image.variables["hugetlb_optimize_vmemmap_key"]
    report = verify(image.prog)
    found = metrics(report)
    assert report.unchecked and found["drgn_vmemmap_incomplete"][()] == 1
    rules = {rule for rule, _ in found["drgn_vmemmap_findings"]}
    assert rules == RULES.keys() - report.unchecked.keys()


@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_what_vmemmap_of_a_device_saves_is_a_metric_of_its_own(release: str) -> None:
    machine = Machine(line=LINES[release], sections={7: Section.DEVICE})
    report = Image(machine).examine()
    (special,) = report.special
    assert special.freed > 0
    found = metrics(report)["drgn_vmemmap_other_freed_bytes"]
    assert found.pop((special.kind,)) == special.freed * PAGE_SIZE
    assert set(found.values()) == {0}


def test_a_part_of_the_folios_is_a_list_of_them(report: Report) -> None:
    assert report.folios[1:3] == [*report.folios][1:3]
    assert report.folios.folios[-2:] == [folio for folio, _ in report.folios][-2:]


def test_what_the_kernel_counts_is_a_metric(report: Report) -> None:
    found = metrics(report)["drgn_vmemmap_hstate_counters"]
    for hstate in document(report, folios=False)["hstates"]:
        for name in ("nr_huge_pages", "free_huge_pages", "surplus_huge_pages"):
            assert found[hstate["name"], name] == hstate[name]


def test_a_switch_that_is_not_in_the_dump_is_no_metric() -> None:
    report = verify(Image(Machine()).prog)
    hvo = report.kernel.hvo._replace(enabled=None)
    unknown = replace(report, kernel=replace(report.kernel, hvo=hvo))
    without, known = (render(each, "prometheus", EVERYTHING) for each in (unknown, report))
    assert "drgn_vmemmap_enabled" in known
    assert "drgn_vmemmap_enabled" not in without


def test_each_metric_has_help_and_a_type_and_is_a_gauge(report: Report) -> None:
    families = list(text_string_to_metric_families(render(report, "prometheus", EVERYTHING)))
    assert families
    assert all(family.type == "gauge" and family.documentation for family in families)
    assert all(family.name.startswith("drgn_vmemmap_") for family in families)


# Names that a dump made up.


def values(text: str) -> Iterator[str]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield from sample.labels.values()


def test_what_a_terminal_cannot_write_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    prog = Image(Machine(folios=(Folio(FIRST_FOLIO),))).prog
    assert command_line.run(["--format", "html"], prog) == CANNOT
    assert capsys.readouterr().err == (
        "drgn-vmemmap: ascii cannot encode this result: write it with -o FILE\n"
    )
    assert command_line.run(["--format", "json"], prog) == DONE


@pytest.mark.parametrize("view", (EVERYTHING, View(details=True)), ids=("folios", "findings"))
def test_csv_has_text_as_it_is_and_no_formula(view: View) -> None:
    for name, begin in ((HOSTILE, ""), ("=1+1", "'"), ("+1", "'"), ("-1", "'"), ("@sum", "'")):
        rows = csv.DictReader(io.StringIO(render(hostile_report(name), "csv", view)))
        written = [row["hstate"] if view.folios else row["message"] for row in rows]
        assert any(text.startswith(begin + printable(name)) for text in written), written


def test_a_hostile_name_stays_a_value_in_every_format() -> None:
    report = hostile_report()
    name = report.hstates[0].hstate.name
    for format_name in FORMATS:
        text = render(report, format_name, EVERYTHING)
        assert text.isascii() or format_name == "html"
        assert "\x1b" not in text
    labels = set(values(render(report, "prometheus", EVERYTHING)))
    assert {name, report.kernel.release} <= labels
    (row,) = csv.DictReader(io.StringIO(render(report, "csv", EVERYTHING)))
    assert row["hstate"] == name
    assert name in render(report, "table", EVERYTHING)
    assert json.loads(render(report, "json", EVERYTHING))["folios"][0]["hstate"] == name
