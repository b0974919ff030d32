# SPDX-License-Identifier: LGPL-2.1-or-later

"""The map: what is where in memory is seen where it is, on any screen."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap import verify
from drgn_vmemmap.analysis import map as model
from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.map import Cell, Map, NoMap, Part
from drgn_vmemmap.analysis.map_states import State
from drgn_vmemmap.analysis.report import HstateReport, Report
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.hugetlb.folio import FolioClass, Folios
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.output.map import render
from drgn_vmemmap.output.terminal import Style
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.vmemmap.sections import Section
from drgn_vmemmap.vmemmap.special import DEVICE, SpecialVmemmap
from tests.support import COMMAND, vmcore, vmemmap
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import GIB, REUSE_W, SECTION_PAGES, Damage, Folio, Machine, hstate_name
from tests.synthetic.physical import PAGE_SHIFT
from tests.synthetic.strategies import machines

TIB = 1 << 40
BLOCKS, LETTERS, COLOUR = Style(True, False), Style(False, False), Style(True, True)

SOUND, DAMAGED, UNOPTIMIZED, LEAF, HIDDEN = (Machine().folio_pfn(n) for n in (0, 1, 2, 64, 128))
"""Folios of a machine: optimized, with an error, unoptimized, mapped by a leaf, unreadable."""


def machine(**changes: object) -> Machine:
    folios = (
        Folio(SOUND),
        Folio(DAMAGED, edits={5: REUSE_W}),
        Folio(UNOPTIMIZED, remapped=False),
        Folio(LEAF, remapped=False),
        Folio(HIDDEN),
    )
    damage = {HIDDEN >> 15: Damage.MISSING}
    return replace(Machine(folios=folios, damage=damage), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report() -> Report:
    return verify(Image(machine()).prog)


def draw(report: Report, part: Part, columns: int, rows: int = 17) -> Map:
    listing = Listing(report.kernel, report.folios)
    return model.draw(report, listing, part, columns, rows)


def cell(drawn: Map, pfn: int) -> Cell:
    """The cell that a PFN is in."""
    for row in drawn.rows:
        number = (pfn - row.pfn) // drawn.span
        if 0 <= number < len(row.cells):
            return row.cells[number]
    raise AssertionError(f"PFN {pfn:#x} is not on the map")


def states(drawn: Map) -> Counter[State]:
    return Counter(cell.state for row in drawn.rows for cell in row.cells)


def text(report: Report, style: Style = LETTERS, width: int = 80, **part: object) -> str:
    return render(report, Part(**part), width, style)  # type: ignore[arg-type]


# What a cell shows.


def test_each_folio_shows_what_it_is(report: Report) -> None:
    drawn = draw(report, Part(), 64)
    assert drawn.span == 512
    assert {pfn: cell(drawn, pfn).state for pfn in (SOUND, DAMAGED, UNOPTIMIZED, LEAF, HIDDEN)} == {
        SOUND: State.OPTIMIZED,
        DAMAGED: State.ERROR,
        UNOPTIMIZED: State.UNOPTIMIZED,
        LEAF: State.LEAF,
        HIDDEN: State.WARNING,
    }
    assert states(drawn)[State.OTHER] == 512 - 5


def test_a_cell_of_many_folios_shows_how_many_are_optimized() -> None:
    folios = tuple(Folio(Machine().folio_pfn(n), remapped=n < 6) for n in range(16))
    report = verify(Image(Machine(folios=folios)).prog)
    drawn = draw(report, Part(), 16, rows=4)
    assert drawn.span == 8 * 512
    shown = cell(drawn, folios[0].pfn)
    assert (shown.state, shown.optimized, shown.filled) == (State.PARTLY, 6 / 8, 1.0)
    assert sorted(count for _, count in shown.traits) == [2, 6]
    assert cell(drawn, folios[8].pfn).state is State.UNOPTIMIZED


@pytest.mark.parametrize(
    ("severity", "state"),
    (
        (Severity.ERROR, State.ERROR),
        (Severity.WARNING, State.WARNING),
        (Severity.INFO, State.OPTIMIZED),
    ),
)
def test_what_is_worse_wins_in_a_cell(severity: Severity, state: State) -> None:
    sound = verify(Image(Machine(folios=(Folio(SOUND),))).prog)
    finding = Finding("tail-content", severity, "", folio=SOUND)
    drawn = draw(replace(sound, findings=[finding]), Part(), 16, rows=2)
    assert cell(drawn, SOUND).state is state


def test_vmemmap_that_is_no_folios_shows_what_is_wrong_with_it(report: Report) -> None:
    address = report.kernel.geometry.address(0x4000)
    finding = Finding("orphan-remap", Severity.ERROR, "", address=address)
    drawn = draw(replace(report, findings=[finding]), Part(), 64)
    assert states(drawn)[State.ERROR] == 1
    assert cell(drawn, 0x4000).state is State.ERROR


def test_a_finding_that_has_no_place_is_counted(report: Report) -> None:
    nowhere = [
        Finding("count-mismatch", Severity.WARNING, ""),
        Finding("list-corrupt", Severity.ERROR, "", address=1 << 63),
        Finding("list-corrupt", Severity.ERROR, "", address=(1 << 64) - 8),
    ]
    drawn = draw(replace(report, findings=nowhere), Part(), 64)
    assert (drawn.elsewhere, drawn.places) == (3, {})
    assert "without a place here 3" in text(replace(report, findings=nowhere))
    assert "finding" not in text(replace(report, findings=[]))


def test_device_memory_and_holes_are_distinguished_from_memory(report: Report) -> None:
    sections = [Section(range(n * SECTION_PAGES, (n + 1) * SECTION_PAGES), 3) for n in (0, 2, 3)]
    device = SpecialVmemmap(DEVICE, sections[2].pfns, 0)
    drawn = draw(replace(report, sections=sections, special=[device]), Part(), 512)
    assert cell(drawn, sections[0].pfns[-1]).state is State.OTHER
    assert cell(drawn, sections[2].pfns[-1]).state is State.DEVICE
    assert cell(drawn, sections[0].pfns.stop + 8 * 512).state is State.HOLE


def test_a_large_folio_covers_many_cells() -> None:
    folios = (Folio(GIB >> PAGE_SHIFT, 18), Folio(SOUND))
    report = verify(Image(Machine(node_size=3 * GIB, folios=folios)).prog)
    drawn = draw(report, Part(), 256)
    assert states(drawn) == {State.OPTIMIZED: 513, State.OTHER: 3 * 512 - 513}
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
    assert states(drawn) == {State.OPTIMIZED: 512, State.OTHER: 2 * 512}
    assert drawn.elsewhere == 1
    assert f"no folio of {hstate_name(18)}" in text(report, hstate=hstate_name(18))


def test_one_folio_can_be_shown(report: Report) -> None:
    for pfn, state in ((SOUND, State.OPTIMIZED), (UNOPTIMIZED + 100, State.UNOPTIMIZED)):
        (row,) = draw(report, Part(start=pfn, stop=pfn + 1), 64).rows
        assert (row.pfn, [cell.state for cell in row.cells]) == (pfn & -512, [state])


def test_rows_without_memory_are_left_out(report: Report) -> None:
    far = TIB >> PAGE_SHIFT
    sections = [
        Section(range(start, start + SECTION_PAGES), 3) for start in (0, SECTION_PAGES, far)
    ]
    shown = text(replace(report, sections=sections, findings=[]))
    assert re.search(r"^ +\.\.\. +1023.\d GiB$", shown, re.MULTILINE)
    assert "blank, ...: no memmap" in shown
    assert "one cell = 2 MiB" in shown


def test_folios_are_shown_where_the_dump_does_not_have_the_sections(report: Report) -> None:
    drawn = draw(replace(report, sections=[], findings=[]), Part(), 64)
    assert cell(drawn, SOUND).state is State.OPTIMIZED
    assert states(drawn)[State.OTHER] == 0


def test_a_kernel_without_folios_has_a_map() -> None:
    report = verify(Image(Machine()).prog)
    assert states(draw(report, Part(), 64)) == {State.OTHER: 512}
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


# A screen.


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
    for number in range(len(pfns)):
        reports.set(number, optimized if number % 16 else unoptimized)
    (hstate,) = (known for known in report.hstates if known.hstate.order == 9)
    hstates = [HstateReport(hstate.hstate, 8)]
    hstates[0].counts.add(optimized, len(pfns))
    sections = [Section(range(start, start + SECTION_PAGES), 3) for start in memory]
    return replace(report, folios=reports, hstates=hstates, sections=sections, findings=[])


@pytest.mark.parametrize("width", (50, 80, 81, 132, 400, 100_000))
def test_a_terabyte_fits_one_screen(terabyte: Report, width: int) -> None:
    for style in (BLOCKS, LETTERS):
        lines = text(terabyte, style, width).splitlines()
        assert len(lines) < 24
        assert max(map(len, lines)) <= width


@given(machines(broken=True), st.integers(80, 300))
def test_any_machine_fits_one_screen(machine: Machine, width: int) -> None:
    lines = text(Image(machine).examine(), BLOCKS, width).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width


def test_memory_in_many_pieces_fits_one_screen(report: Report) -> None:
    starts = range(0, TIB >> PAGE_SHIFT, 3 * SECTION_PAGES)
    sections = [Section(range(start, start + SECTION_PAGES), 3) for start in starts]
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
    with pytest.raises(NoMap, match=f"at least 34 wide, not {width}"):
        text(report, width=width)


def test_only_states_that_occur_are_in_the_legend(report: Report) -> None:
    legend = text(report, width=200).split("\n\n")[1].splitlines()[0]
    assert legend == (
        "! error   ? warning   O optimized   n not optimized   "
        "p not optimized, PMD-mapped   . no HugeTLB folio"
    )


# Characters.


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
def test_blocks_are_for_terminals_that_have_them(encoding: str, blocks: bool) -> None:
    assert Style.of(TextIOWrapper(BytesIO(), encoding)) == Style(blocks, False)


@pytest.mark.parametrize(
    ("variables", "has_colour"), (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False))
)
def test_colour_is_for_terminals(variables: dict[str, str], has_colour: bool) -> None:
    known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = {**known, "TERM": "xterm", "PYTHONUTF8": "1", **variables}
    terminal, theirs = pty.openpty()
    with os.fdopen(terminal, "rb", 0) as ours:
        command = (COMMAND, "-c", vmcore("head-reuse"), "map", "--width", "60")
        done = subprocess.run(
            command, stdout=theirs, env=environment, check=False, stderr=subprocess.PIPE
        )
        os.close(theirs)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = b"".join(_until_closed(ours)).decode()
    assert ("\33[" in shown) == has_colour
    assert "█" in shown


def _until_closed(terminal: object) -> Iterable[bytes]:
    """What is left to read of a terminal that nobody writes to any more."""
    while True:
        try:
            yield os.read(terminal.fileno(), 65536)  # type: ignore[attr-defined]
        except OSError:
            return


# The command.


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONUTF8": "1", **environment}
    two_nodes = vmcore("two-nodes-1GiB")
    return vmemmap("-c", two_nodes, "map", *arguments, env=known)


def test_a_recorded_kernel_is_shown() -> None:
    done = run("--node", 1, "--ascii")
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


def test_the_same_part_can_be_named_in_many_ways() -> None:
    shown = {
        run("--from", start, "--to", stop).stdout
        for start, stop in (
            ("64M", "80M"),
            ("0x4000000", "0x5000000"),
            ("65536k", "pfn:0x5000"),
            ("pfn:16384", "83886080"),
        )
    }
    (only,) = shown
    assert "0x4000000  ████··▒▒\n" in only


def test_the_width_is_that_of_the_terminal_if_none_is_given() -> None:
    assert run(COLUMNS="100").stdout == run("--width", 100).stdout != run().stdout


def test_a_file_has_blocks_and_no_colour(tmp_path: Path) -> None:
    done = run("-o", tmp_path / "map", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "map").read_text(encoding="utf-8") == run().stdout


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
        (("--width", "9"), "wide, not 9"),
    ),
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    arguments: tuple[str, ...], reason: str
) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert reason in line


def test_every_line_of_kernels_has_its_map() -> None:
    for line in LINES.values():
        has_hvo = line.layout is not Layout.NONE
        report = verify(Image(Machine(line=line, folios=(Folio(SOUND, remapped=has_hvo),))).prog)
        expected = State.OPTIMIZED if has_hvo else State.LEAF
        assert cell(draw(report, Part(), 64), SOUND).state is expected
