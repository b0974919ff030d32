# SPDX-License-Identifier: LGPL-2.1-or-later

"""The map on a screen: its size, its characters, and the command that prints it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from array import array
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import drgn
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.map import NoMap, Part
from drgn_vmemmap.analysis.map_states import CellState
from drgn_vmemmap.analysis.report import HstateReport, Report
from drgn_vmemmap.cli import arguments, command_line
from drgn_vmemmap.hugetlb.folio import FolioClass, Folios
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.output.terminal import Style
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.vmemmap.sections import SectionRange
from tests.output.maps import BLOCKS, COLOUR, LETTERS, SOUND, TIB, cell, draw, machine, text
from tests.support import COMMAND, answer, open_vmcore, vmcore, vmemmap
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import REUSE_W, SECTION_PAGES, Folio, Machine, hstate_name
from tests.synthetic.physical import PAGE_SHIFT
from tests.synthetic.strategies import few, machines


@pytest.fixture(scope="module")
def terabyte(report: Report) -> Report:
    """A host with 1 TiB: 500,000 folios, of which each sixteenth is not optimized, on 8 nodes."""
    memory = range(0, TIB >> PAGE_SHIFT, SECTION_PAGES)
    folios = Folios()
    pfns = range(1 << 20, (1 << 20) + 500_000 * 512, 512)
    for node in range(8):
        kind = folios.class_number(FolioClass(9, hstate_name(9), node, 2, None))
        side_by_side = pfns[node * 62_500 : (node + 1) * 62_500]
        folios.extend(side_by_side, array("I", [kind]) * len(side_by_side), 0)
    reports = FolioReports(folios)
    optimized = Judgement(
        Verdict.OPTIMIZED, Layout.HEAD_REUSE, "pte", None, ((1, 7),), ((1, 7),), 7
    )
    unoptimized = Judgement(Verdict.UNOPTIMIZED, Layout.NONE, "pte", None, (), (), 0)
    for number in range(16):
        reports.set(number, optimized if number else unoptimized)
    reports.judgements = reports.judgements[:16] * (len(pfns) // 16)
    (hstate,) = (known for known in report.hstates if known.hstate.order == 9)
    hstates = [HstateReport(hstate.hstate, 8)]
    hstates[0].counts.add(optimized, len(pfns))
    sections = [SectionRange(range(start, start + SECTION_PAGES), 3) for start in memory]
    return replace(report, folios=reports, hstates=hstates, sections=sections, findings=[])


@pytest.mark.long
@pytest.mark.parametrize(
    ("width", "style"),
    ((50, BLOCKS), (50, LETTERS), (81, LETTERS), (400, BLOCKS), (100_000, LETTERS)),
)
def test_a_terabyte_fits_one_screen(terabyte: Report, width: int, style: Style) -> None:
    lines = text(terabyte, style, width).splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= width


@pytest.mark.long
@few
@given(machines(broken=True), st.integers(80, 300))
def test_any_machine_fits_one_screen(machine: Machine, width: int) -> None:
    lines = text(Image(machine).examine(), BLOCKS, width).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width


def test_memory_in_many_pieces_fits_one_screen(report: Report) -> None:
    starts = range(0, TIB >> PAGE_SHIFT, 3 * SECTION_PAGES)
    sections = [SectionRange(range(start, start + SECTION_PAGES), 3) for start in starts]
    assert len(text(replace(report, sections=sections)).splitlines()) < 24


def test_a_terabyte_says_its_scale_and_its_shares(terabyte: Report) -> None:
    shown = text(terabyte, BLOCKS)
    assert "one cell = 2 GiB = 1024 folios of 2 MiB" in shown
    assert shown.count("▇") > 400
    assert all(re.search(rf"^ +({node}|\d,{node}) ", shown, re.MULTILINE) for node in range(8))


def test_damage_stands_out_among_folios_without_number(terabyte: Report) -> None:
    findings = [
        Finding("tail-writable", Severity.ERROR, "", folio=pfn)
        for pfn in terabyte.folios.folios.pfns[::16]
    ]
    shown = text(replace(terabyte, findings=findings))
    assert "error 31250" in shown and "O" not in shown.split("\n\n")[0]


@pytest.mark.parametrize("width", (0, 1, 29))
def test_a_screen_that_is_too_narrow_is_refused(report: Report, width: int) -> None:
    with pytest.raises(NoMap, match=f"a width of 34 or more, not {width}"):
        text(report, width=width)


def test_only_states_that_occur_are_in_the_legend(report: Report) -> None:
    legend = text(report, width=200).split("\n\n")[1].splitlines()[0]
    assert legend == (
        "! error   ? warning   O optimized   n not optimized   "
        "p not optimized, PMD-mapped   . no HugeTLB folio"
    )


def test_letters_are_ascii(report: Report) -> None:
    assert text(report).isascii()
    assert not text(report, BLOCKS).isascii()


def test_colour_changes_no_character(report: Report) -> None:
    coloured = text(report, COLOUR)
    assert re.sub("\33\\[[0-9;]*m", "", coloured) == text(report, BLOCKS)
    assert "\33[32m█\33[0m\33[1;97;41m!" in coloured


@pytest.mark.parametrize(
    ("encoding", "blocks"), (("utf-8", True), ("ascii", False), ("latin-1", False))
)
def test_blocks_are_for_terminals_that_have_them(
    encoding: str, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert Style.of(TextIOWrapper(BytesIO(), encoding)) == Style(blocks, False)


class Terminal(TextIOWrapper):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", (TextIOWrapper, Terminal))
@pytest.mark.parametrize(("columns", "width"), (("200", 200), ("40", 80)))
def test_pipes_and_terminals_are_as_wide_as_the_user_says(
    stream: type[TextIOWrapper], columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert Style.of(stream(BytesIO(), "utf-8")).width == width


@pytest.mark.parametrize(
    ("variables", "has_colour"),
    (
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ),
)
def test_colour_is_for_terminals(
    variables: dict[str, str], has_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    shown = text(Image(machine()).examine(), Style.of(Terminal(BytesIO(), "utf-8")), 60)
    assert ("\33[" in shown) == has_colour
    assert "█" in shown


def test_a_terminal_gets_colour() -> None:
    known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = {**known, "TERM": "xterm", "PYTHONUTF8": "1"}
    terminal, theirs = pty.openpty()
    with os.fdopen(terminal, "rb", 0) as ours:
        command = (COMMAND, "-c", vmcore("head-reuse"), "map", "--width", "60")
        done = subprocess.run(
            command, stdout=theirs, env=environment, check=False, stderr=subprocess.PIPE
        )
        os.close(theirs)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = b"".join(_until_closed(ours)).decode()
    assert "\33[" in shown and "█" in shown


def _until_closed(terminal: object) -> Iterable[bytes]:
    """What is left to read of a terminal that nobody writes to any more."""
    while True:
        try:
            yield os.read(terminal.fileno(), 65536)  # type: ignore[attr-defined]
        except OSError:
            return


def test_a_recorded_kernel_is_shown() -> None:
    done = answer("map", "--node", 1, "--ascii", prog=open_vmcore("two-nodes-1GiB"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("   1  0x1")
    assert "OOOO" in done.stdout and done.stdout.isascii()


@pytest.mark.parametrize(
    ("damage", "code"), (({"edits": {5: REUSE_W}}, 1), ({"head_in_dump": False}, 3), ({}, 0))
)
def test_the_exit_code_says_what_was_found(
    damage: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image(Machine(folios=(Folio(SOUND, **damage),)))
    assert command_line.run(["map", "--width", "80"], image.prog) == code
    shown = capsys.readouterr().out
    assert ("findings, which 'verify' explains" in shown) == bool(code)


@pytest.fixture(scope="module")
def two_nodes() -> drgn.Program:
    return open_vmcore("two-nodes-1GiB")


def test_the_same_part_can_be_named_in_many_ways(
    two_nodes: drgn.Program, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown_of(start: str, stop: str) -> str:
        assert command_line.run(["map", "--from", start, "--to", stop], two_nodes) == 0
        return capsys.readouterr().out

    shown = {
        shown_of(start, stop)
        for start, stop in (
            ("64M", "80M"),
            ("0x4000000", "0x5000000"),
            ("65536k", "pfn:0x5000"),
            ("pfn:16384", "83886080"),
        )
    }
    (only,) = shown
    assert "0x4000000  ████··▒▒\n" in only


@pytest.mark.parametrize(
    ("text", "number"), (("1k", 0), ("4K", 1), ("3m", 768), ("4G", 1 << 20), ("1T", 1 << 28))
)
def test_a_place_is_in_bytes_or_a_larger_unit(text: str, number: int) -> None:
    assert arguments.pfn(text) == number


def test_the_width_is_that_of_the_terminal_if_none_is_given(
    two_nodes: drgn.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = answer("map", prog=two_nodes).stdout
    monkeypatch.setenv("COLUMNS", "100")
    shown = answer("map", prog=two_nodes).stdout
    assert shown == answer("map", "--width", 100, prog=two_nodes).stdout != usual


def test_a_file_has_blocks_and_no_colour(tmp_path: Path) -> None:
    two_nodes = vmcore("two-nodes-1GiB")
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = vmemmap("-c", two_nodes, "map", "-o", tmp_path / "map", env=environment)
    assert (done.returncode, done.stdout) == (0, "")
    shown = answer("map", prog=open_vmcore(two_nodes)).stdout
    assert (tmp_path / "map").read_text(encoding="utf-8") == shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (
        (("--from", "2G", "--to", "1G"), "--from is not below --to"),
        (("--from", "1T"), "no memory"),
        (("--from", "nowhere"), "'nowhere' is not a place in memory"),
        (("--to", "G"), "'G' is not a place in memory"),
        (("--to", "-1"), "not a place in memory"),
        (("--from", "pfn:0x10000000000"), "not a place in memory"),
        (("--node", "5"), "node 5 has no HugeTLB folios"),
        (("--hstate", "hugepages-4kB"), "no hstate 'hugepages-4kB'"),
        (("--width", "9"), "or more, not 9"),
    ),
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    arguments: tuple[str, ...],
    reason: str,
    two_nodes: drgn.Program,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command_line.run(["map", *arguments], two_nodes) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert reason in line


def test_every_line_of_kernels_has_its_map() -> None:
    for line in LINES.values():
        has_hvo = line.layout is not Layout.NONE
        report = verify(Image(Machine(line=line, folios=(Folio(SOUND, remapped=has_hvo),))).prog)
        expected = CellState.OPTIMIZED if has_hvo else CellState.LEAF
        assert cell(draw(report, Part(), 64), SOUND).state is expected
