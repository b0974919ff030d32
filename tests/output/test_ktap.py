# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules as tests in KTAP, read by parsers that others keep."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from tap.line import Bail, Plan, Result  # type: ignore[import-untyped]
from tap.parser import Parser  # type: ignore[import-untyped]

from drgn_vmemmap import examine, verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.cli.command_line import run
from drgn_vmemmap.output.report import View, render
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.rules.rule import RULES
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, REUSE_W, Folio, Machine, Vpage
from tests.synthetic.strategies import few, machines

WITHOUT_HVO = "5.10.0"


def ktap(report: Report, every: bool = False) -> str:
    return "".join(render(report, "ktap", View(details=True, all_findings=every)))


def results(text: str) -> dict[str, Result]:
    """The tests by their names, as a TAP parser reads them."""
    lines = list(Parser().parse_text(text.replace("KTAP version 1", "TAP version 13")))
    (plan,) = (line for line in lines if isinstance(line, Plan))
    found = [line for line in lines if isinstance(line, Result)]
    assert not any(isinstance(line, Bail) for line in lines)
    assert plan.expected_tests == len(found)
    assert [result.number for result in found] == list(range(1, len(found) + 1))
    return {result.description.strip(): result for result in found}


def report_of(*folios: Folio, release: str = "7.2.0") -> Report:
    return verify(Image(Machine(line=LINES[release], folios=folios)).prog)


def test_each_rule_is_a_test() -> None:
    found = results(ktap(report_of(Folio(FIRST_FOLIO))))
    assert list(found) == list(RULES)
    assert all(result.ok and not result.skip for result in found.values())


def test_a_rule_with_an_error_fails_and_names_the_place_before_its_result() -> None:
    report = report_of(Folio(FIRST_FOLIO, edits={5: REUSE_W}))
    lines = ktap(report).splitlines()
    found = results(ktap(report))
    assert [rule for rule, result in found.items() if not result.ok] == ["tail-writable"]
    result = next(index for index, line in enumerate(lines) if line.startswith("not ok"))
    assert lines[result] == "not ok 2 tail-writable # 1 error"
    assert lines[result - 1].startswith(
        f"# tail-writable: error: folio {FIRST_FOLIO:#x}, vmemmap page 5: "
    )


def test_what_is_not_in_the_dump_is_no_success() -> None:
    found = results(ktap(report_of(Folio(FIRST_FOLIO, head_in_dump=False))))
    assert [rule for rule, result in found.items() if not result.ok] == ["unreadable"]
    assert "ERROR" in found["unreadable"].directive.text


def test_what_does_not_apply_is_skipped() -> None:
    found = results(ktap(report_of(Folio(FIRST_FOLIO, remapped=False), release=WITHOUT_HVO)))
    skipped = {rule for rule, result in found.items() if result.skip}
    assert {"tail-writable", "flag-mismatch"} <= skipped
    assert not {"not-present", "list-corrupt", "frame-freed"} & skipped
    assert all(result.ok for result in found.values())


def test_what_was_not_checked_is_skipped() -> None:
    report = examine(Image(Machine(folios=(Folio(FIRST_FOLIO),))).prog)
    found = results(ktap(report))
    assert {rule for rule, result in found.items() if result.skip} == {
        rule.name for rule in RULES.values() if rule.verify_only
    }


def test_what_is_worth_knowing_is_no_failure() -> None:
    report = report_of(Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False))
    result = results(ktap(report))["unoptimized"]
    assert result.ok and "unoptimized # 1 note" in ktap(report)


def test_many_findings_are_cut_short_unless_all_are_wanted() -> None:
    folios = [Folio(FIRST_FOLIO + 512 * n, edits={5: REUSE_W}) for n in range(12)]
    report = report_of(*folios)
    assert "# tail-writable: and 2 more: verify --all writes them" in ktap(report)
    assert ktap(report, every=True).count("# tail-writable: error") == 12


@pytest.mark.long
@few
@given(machines(broken=True))
def test_whatever_is_broken_the_results_are_those_of_the_findings(machine: Machine) -> None:
    report = verify(Image(machine).prog)
    broken = {f.rule for f in report.findings if f.severity is Severity.ERROR}
    incomplete = {"unreadable"} if report.incomplete else set()
    found = results(ktap(report))
    assert {rule for rule, result in found.items() if not result.ok} == broken | incomplete


def test_verify_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    image = Image(Machine(folios=(Folio(FIRST_FOLIO, edits={5: REUSE_W}),)))
    assert run(["verify", "--format", "ktap"], image.prog) == 1
    assert not results(capsys.readouterr().out)["tail-writable"].ok


# The kernel's own parser.


@pytest.fixture(scope="module")
def kunit_parser() -> Iterator[ModuleType]:
    """``kunit_parser`` of a kernel tree that $KERNEL_TREE names."""
    tree = os.environ.get("KERNEL_TREE")
    if not tree:
        pytest.skip("KERNEL_TREE does not name a kernel tree: its own parser is not tried")
    directory = Path(tree, "tools", "testing", "kunit")
    sys.path.insert(0, str(directory))
    spec = importlib.util.spec_from_file_location("kunit_parser", directory / "kunit_parser.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kunit_parser"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(directory))


@pytest.mark.parametrize("edits", ({}, {5: REUSE_W}))
def test_the_kernels_own_parser_reads_it(kunit_parser: ModuleType, edits: dict[int, Vpage]) -> None:
    text = ktap(report_of(Folio(FIRST_FOLIO, edits=edits)))
    parameters = inspect.signature(kunit_parser.parse_run_tests).parameters
    printer = [importlib.import_module("kunit_printer").stdout] if len(parameters) > 1 else []
    test = kunit_parser.parse_run_tests(text.splitlines(), *printer)
    assert [subtest.name for subtest in test.subtests] == list(RULES)
    assert (test.counts.failed, test.counts.errors) == (len(edits), 0)
    assert test.counts.passed == len(RULES) - len(edits)
