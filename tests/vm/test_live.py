# SPDX-License-Identifier: LGPL-2.1-or-later

"""A running guest, looked at from outside through QEMU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import drgn
import pytest

from drgn_vmemmap import examination
from drgn_vmemmap.live import steady
from drgn_vmemmap.rules import Severity
from vmcores.recipe import MissingError, boot, kernels, scenarios
from vmcores.recipe.guest import Guest

COMMAND = Path(sys.executable).parent / "drgn-vmemmap"


def vmemmap(*arguments: object) -> str:
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(*target: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(vmemmap(*target, "--folios", "--format", "json"))
    return document


@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_a_running_guest_gives_the_report_of_its_dump(line: str, tmp_path: Path) -> None:
    try:
        kernel = kernels.fetch(line)
    except MissingError as error:
        pytest.skip(f"{line}: {error}")
    with Guest(kernel, scenarios.named("basic"), tmp_path / "console.log") as guest:
        guest.wait_for("ready")
        live = report("--qemu", guest.debug_socket)
        vmemmap("--qemu", guest.debug_socket, "extract", tmp_path / "extract")
        guest.dump(tmp_path / "vmcore")
    assert live["totals"]["optimized"] == 64
    assert live["kernel"].pop("live") is True
    movement = live.pop("movement")
    assert (movement["moved"], movement["transient"]) == (0, 0)
    for vmcore in ("extract", "vmcore"):
        dumped = report("-c", tmp_path / vmcore)
        assert dumped["kernel"].pop("live") is False
        assert dumped.pop("movement") is None
        assert dumped == live


@pytest.mark.parametrize("line", ("6.18", "newest"))
def test_a_guest_that_never_stands_still_is_not_accused(
    line: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Pools grow and shrink, and folios are used, demoted, migrated, taken out of service."""
    try:
        guest = boot(line, "live", tmp_path)
    except MissingError as error:
        pytest.skip(f"{line}: {error}")
    with guest:
        prog = drgn.Program()
        prog.set_qemu_qmp(str(guest.debug_socket))
        take_look = examination.looks(prog)
        looks = folios = transient = 0
        longest, end = 0.0, time.monotonic() + 100
        while looks < 150 and time.monotonic() < end:
            report = steady(take_look)
            assert [find for find in report.findings if find.severity is Severity.ERROR] == []
            assert report.movement is not None
            looks += report.movement.looks
            folios += len(report.folios)
            transient += report.movement.transient
            longest = max(longest, report.movement.seconds / report.movement.looks)
        watch = ("watch", "--count", "2", "--format", "jsonl")
        watched = vmemmap("--qemu", guest.debug_socket, *watch)
        guest.qmp.execute("stop")
        stopped = report_of_stopped(guest, tmp_path)
    assert looks > 20
    assert {json.loads(line)["hstate"] for line in watched.splitlines()} >= {"hugepages-2048kB"}
    record_property(
        "note",
        f"{line}: {looks} looks at a guest that moves, {folios} folios seen, {transient} transient "
        f"findings, no error, longest look {longest:.1f} s; stopped: {stopped} folios as dumped",
    )


def report_of_stopped(guest: Guest, directory: Path) -> int:
    """A guest that is stopped gives the report of its dump; gives the number of its folios."""
    live = report("--qemu", guest.debug_socket)
    guest.dump(directory / "vmcore")
    dumped = report("-c", directory / "vmcore")
    for document in (live, dumped):
        del document["kernel"]["live"], document["movement"]
    assert live == dumped
    return int(live["totals"]["folios"])
