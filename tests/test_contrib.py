# SPDX-License-Identifier: LGPL-2.1-or-later

"""The small scripts say what the recorded report says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "contrib").glob("*.py"))
DRGN = Path(sys.executable).parent / "drgn"

VMCORES = ("head-reuse", "shared-tail")


def run(vmcore: str, script: str, *arguments: str) -> str:
    path = ROOT / "vmcores" / f"{vmcore}.vmcore"
    target = ("-q", "--no-default-symbols", "-c", str(path))
    command = [str(DRGN), *target, str(ROOT / "contrib" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def report(vmcore: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "vmcores" / f"{vmcore}.json").read_text())
    return document


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_says_when_to_use_it_and_is_listed(script: Path) -> None:
    text = script.read_text()
    assert f"drgn -c vmcore contrib/{script.name}" in text
    assert script.name in (ROOT / "contrib" / "README.md").read_text()
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("vmcore", VMCORES)
def test_the_entries_of_a_folio_are_those_of_its_layout(vmcore: str) -> None:
    folio = next(each for each in report(vmcore)["folios"] if each["verdict"] == "optimized")
    first, *lines = run(vmcore, "folio_entries.py", hex(folio["pfn"])).splitlines()
    assert first == f"folio {folio['pfn']:#x}: optimized, layout {folio['layout']}"
    assert len(lines) == 8
    assert " W--G " in lines[0]
    for line in lines[1:]:
        assert " ---G " in line and line.endswith(f"frame {folio['reuse_frame']:#x}")


def test_a_zones_tails_are_used_by_all_optimized_folios() -> None:
    found = report("shared-tail")
    frame = next(each["reuse_frame"] for each in found["folios"] if each["reuse_frame"])
    count = found["totals"]["optimized"]
    lines = run("shared-tail", "shared_tails.py")
    assert lines == f"frame {frame:#x}: {count} folios, content right\n"
    assert run("head-reuse", "shared_tails.py") == "no zone keeps tails: layout head-reuse\n"


@pytest.mark.parametrize("vmcore", VMCORES)
def test_what_cannot_be_told_of_freed_frames_is_said(vmcore: str) -> None:
    lines = run(vmcore, "freed_frames.py").splitlines()
    counts = [int(line.split()[0]) for line in lines]
    assert sum(counts) >= report(vmcore)["totals"]["freed"]
    assert any("not to be told" in line for line in lines)


@pytest.mark.parametrize("vmcore", VMCORES)
def test_folios_in_use_have_an_owner_or_none_in_the_dump(vmcore: str) -> None:
    active = [each for each in report(vmcore)["folios"] if each["state"] == "active"]
    lines = run(vmcore, "folio_owners.py").splitlines()
    assert sum(int(line.split()[0]) for line in lines) == len(active)
    # A recorded vmcore holds what report and verify read, and no inodes.
    assert all(line.endswith("an inode that is not in the dump") for line in lines)
