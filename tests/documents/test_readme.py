# SPDX-License-Identifier: LGPL-2.1-or-later

"""What README.md states in tables and numbers is what the tool and its tests have."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from drgn_vmemmap import requirements
from drgn_vmemmap.cli import exit_codes
from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.parser import parser
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import ZONE, Layout
from tests.documents.readme import README, layout_of, table
from tests.support import ROOT, VMCORES, recorded, run
from tests.synthetic.kernels import LINES
from tests.vm.test_kernels import LINES as BOOTED

COMMANDS = subparsers(parser())

REUSED = {
    "the folio's own first frame": 0,
    "the folio's own second frame": 1,
    "one that the zone keeps for all folios of an order": ZONE,
    "none": ZONE,
}
"""The vmemmap page whose frame the others map, in the table's words."""

SYNTHETIC = {
    line.release: line.layout.value for line in LINES.values() if line.release[0].isdigit()
}
"""The layouts of the synthetic kernels that have a version, by release."""

RECORDED = {
    report["kernel"]["release"]: report["kernel"]["hvo"]["layout"]
    for report in (recorded(path.stem) for path in VMCORES)
}
"""The layouts of the recorded kernels, by release."""


def test_each_layout_has_its_picture() -> None:
    pictures = {
        name: (frames.replace(" ", ""), access.replace(" ", ""), REUSED[reused])
        for name, _, frames, access, reused in table("layout")
    }
    assert pictures == {
        layout.value: (layout.frames, layout.access, layout.reuse_from)
        for layout in Layout
        if layout is not Layout.UNKNOWN
    }


@pytest.mark.parametrize(
    ("release", "layout"),
    [pair for pair in (*SYNTHETIC.items(), *RECORDED.items()) if pair[1] != "none"],
)
def test_a_kernel_has_the_layout_of_its_release(release: str, layout: str) -> None:
    assert layout_of(release) == layout


def test_the_first_kernel_with_a_layout_is_the_first_that_is_read() -> None:
    (oldest,) = re.findall(r"kernels from (v[\d.]+)\s+on", README)
    assert f"| {oldest} to " in README.partition("\n| layout |")[2].split("\n")[2]


def test_no_real_kernel_of_the_tests_has_the_tail_reuse_layout() -> None:
    assert "- `tail-reuse` is tested on synthetic kernels only.\n" in README
    booted = {layout_of(line) for line in BOOTED if SYNTHETIC.get(f"{line}.0") != "none"}
    assert "tail-reuse" not in booted | {*RECORDED.values()}


def test_each_verdict_is_listed() -> None:
    assert [name for name, _ in table("verdict")] == [verdict.value for verdict in Verdict]


def test_each_exit_code_is_listed() -> None:
    codes = (exit_codes.DONE, exit_codes.FOUND_ERRORS, exit_codes.CANNOT, exit_codes.INCOMPLETE)
    assert [int(code) for code, _ in table("exit code")] == [*codes]


def formats_of(command: str) -> tuple[str, ...]:
    (action,) = (a for a in COMMANDS[command]._actions if "--format" in a.option_strings)
    return tuple(action.choices or ())


def test_each_format_is_named() -> None:
    sentence = "writes JSON, JSON Lines, CSV, Prometheus metrics, HTML, and KTAP for `verify`."
    assert f"`--format` {sentence}" in README
    of_report, of_verify = map(formats_of, ("report", "verify"))
    assert of_report == ("table", "json", "jsonl", "csv", "prometheus", "html")
    assert of_verify == (*of_report, "ktap")


def test_the_oldest_python_and_drgn_are_those_that_are_required() -> None:
    python, drgn = (".".join(map(str, each)) for each in (requirements.PYTHON, requirements.DRGN))
    assert f"It needs Python {python} and drgn {drgn} or later" in " ".join(README.split())


def test_the_optional_libraries_are_those_of_the_package() -> None:
    sentence = re.search(r"Optional libraries: ([^.]*)\.", README)
    assert sentence is not None
    named = {part.split()[0] for part in sentence[1].split(", ")}
    extras = ("extract", "html", "completion", "progress")
    required = importlib.metadata.requires("drgn-vmemmap") or ()
    optional = (r for r in required if re.search(f"extra == ['\"]({'|'.join(extras)})['\"]", r))
    assert named == {re.split(r"[^\w]", requirement)[0] for requirement in optional}


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+) ", README, re.MULTILINE))
def test_make_sets_up_the_environment_itself(target: str) -> None:
    done = run("make", "--dry-run", "VENV=build/no-venv", target, cwd=ROOT, check=True)
    assert "-m venv build/no-venv" in done.stdout
    assert "build/no-venv/bin/pip install" in done.stdout
