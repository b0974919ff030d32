# SPDX-License-Identifier: LGPL-2.1-or-later

"""The small scripts say what the recorded report says."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import drgn
import pytest

from tests import support
from tests.damage.partial import PartialDump
from tests.support import DRGN, ROOT, open_vmcore, recorded
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Machine

SCRIPTS = sorted((ROOT / "contrib").glob("*.py"))

NAMES = ("head-reuse", "shared-tail")


def start(vmcore: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    target = ("-q", "--no-default-symbols", "-c", support.vmcore(vmcore))
    return support.run(DRGN, *target, ROOT / "contrib" / script, *arguments)


def run(vmcore: str, script: str, *arguments: str) -> str:
    """Run a script in this process; gives its output."""
    out, err = StringIO(), StringIO()
    given = mock.patch.object(sys, "argv", [script, *arguments])
    with given, redirect_stdout(out), redirect_stderr(err):
        code = run_on(open_vmcore(vmcore), script)
    assert (code, err.getvalue()) == (0, "")
    return out.getvalue()


def run_on(prog: drgn.Program, script: str) -> object:
    """Run a script on a program in this process; gives the exit code."""
    drgn.set_default_prog(prog)
    try:
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / "contrib" / script))
    finally:
        drgn.set_default_prog(None)
    return exit_.value.code


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_says_when_to_use_it_and_is_listed(script: Path) -> None:
    text = script.read_text()
    assert f"drgn -c vmcore contrib/{script.name}" in text
    assert script.name in (ROOT / "contrib" / "README.md").read_text()
    assert len(text.splitlines()) <= 72


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_cannot_be_analysed_is_refused_in_one_line(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "0x2000"])
    without_hugetlb = Image(Machine())
    del without_hugetlb.variables["hstates"], without_hugetlb.variables["hugetlb_max_hstate"]
    process = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    for prog, reason in (without_hugetlb.prog, "without HugeTLB"), (process, "not a Linux kernel"):
        assert run_on(prog, script.name) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("drgn-vmemmap: ") and said.err.count("\n") == 1
        assert reason in said.err


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_is_not_all_is_said_to_be_so(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), hex(FIRST_FOLIO)])
    dump = PartialDump("6.12.0")
    dump.memory.missing = set(dump.heads)
    assert run_on(dump.program(), script.name) == 3
    said = capsys.readouterr()
    assert "is in no HugeTLB folio" not in said.out and "no shared tails" not in said.out
    assert said.err.startswith("drgn-vmemmap: incomplete: ") and said.err.count("\n") == 1


@pytest.mark.parametrize("vmcore", NAMES)
def test_the_entries_of_a_folio_are_those_of_its_layout(vmcore: str) -> None:
    folio = next(each for each in recorded(vmcore)["folios"] if each["verdict"] == "optimized")
    first, *lines = run(vmcore, "folio_entries.py", hex(folio["pfn"])).splitlines()
    assert first == f"folio {folio['pfn']:#x}: optimized, layout {folio['layout']}"
    assert len(lines) == 8
    assert " W--G " in lines[0]
    for line in lines[1:]:
        assert " ---G " in line and line.endswith(f"frame {folio['reuse_frame']:#x}")


@pytest.mark.parametrize("arguments", [(), ("zz",)])
def test_a_folio_without_a_pfn_is_asked_for(arguments: tuple[str, ...]) -> None:
    done = start("head-reuse", "folio_entries.py", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    asked = "drgn-vmemmap: give the PFN of any page of the folio, such as 0x2000\n"
    assert done.stderr == asked


def test_a_pfn_of_no_folio_is_said_to_be_of_none() -> None:
    assert run("head-reuse", "folio_entries.py", "0x1") == "PFN 0x1 is in no HugeTLB folio\n"


def test_a_zones_tails_are_used_by_all_optimized_folios() -> None:
    found = recorded("shared-tail")
    frame = next(each["reuse_frame"] for each in found["folios"] if each["reuse_frame"])
    count = found["totals"]["optimized"]
    lines = run("shared-tail", "shared_tails.py")
    assert lines == f"frame {frame:#x}: {count} folios, content right\n"
    assert run("head-reuse", "shared_tails.py") == "no shared tails: layout head-reuse\n"


def zeros(address: int, count: int, offset: int, physical: bool) -> bytes:
    return bytes(count)


def nothing(address: int, count: int, offset: int, physical: bool) -> bytes:
    raise drgn.FaultError("not there", address)


@pytest.mark.parametrize("memory, content", [(zeros, "wrong"), (nothing, "not in the dump")])
def test_tails_that_are_damaged_or_missing_are_not_called_right(
    memory: Callable[[int, int, int, bool], bytes],
    content: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = recorded("shared-tail")
    frame = next(each["reuse_frame"] for each in found["folios"] if each["reuse_frame"])
    prog = open_vmcore("shared-tail")
    prog.add_memory_segment(frame << 12, 4096, memory, True)
    assert run_on(prog, "shared_tails.py") == 0
    count = found["totals"]["optimized"]
    assert capsys.readouterr().out == f"frame {frame:#x}: {count} folios, content {content}\n"


@pytest.mark.parametrize("vmcore", [*NAMES, "two-nodes-1GiB"])
def test_every_freed_frame_is_reported_or_said_to_be_unknown(vmcore: str) -> None:
    found = recorded(vmcore)
    # HVO also gave the heads of 2 MiB folios other frames.
    optimized = [each for each in found["folios"] if each["verdict"] == "optimized"]
    heads = sum(each["order"] == 9 for each in optimized)
    lines = run(vmcore, "freed_frames.py").splitlines()
    assert sum(int(line.split()[0]) for line in lines) == found["totals"]["freed"] + heads
    # A recorded vmcore holds few of the struct pages that would show it.
    assert any("frames unknown: struct pages are not in the dump" in line for line in lines)
    assert any("frames in use again" in line for line in lines)


def test_nothing_became_of_frames_where_none_was_freed() -> None:
    assert recorded("hvo-off")["totals"]["freed"] == 0
    assert run("hvo-off", "freed_frames.py") == ""


@pytest.mark.long
@pytest.mark.parametrize("vmcore", NAMES)
def test_folios_in_use_have_an_owner_or_none_in_the_dump(vmcore: str) -> None:
    active = [each for each in recorded(vmcore)["folios"] if each["state"] == "active"]
    verdicts = Counter(each["verdict"] for each in active)
    found: Counter[str] = Counter()
    done = start(vmcore, "folio_owners.py")
    assert (done.returncode, done.stderr) == (0, "")
    for line in done.stdout.splitlines():
        # A recorded vmcore holds what report and verify read, and no inodes.
        assert line.endswith("whose inode or processes are not in the dump")
        count, _, verdict, *_ = line.split()
        found[verdict.rstrip(":")] += int(count)
    assert found == verdicts
