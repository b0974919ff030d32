# SPDX-License-Identifier: LGPL-2.1-or-later

"""Running guests, examined from outside through QEMU."""

from __future__ import annotations

import gc
import json
import subprocess
from pathlib import Path
from typing import Any, Callable

import drgn
import pytest

from drgn_vmemmap import api as examination
from drgn_vmemmap import discover
from drgn_vmemmap.analysis.live import confirm
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE, WRITABLE
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.target.memory import ProgramMemory
from tests import support
from tests.support import COMMAND
from vmcores.recipe import MissingError, boot, kernels, scenarios
from vmcores.recipe.guest import Guest

REPORTS = 24
"""Of a guest that moves; each takes two passes or more."""

BOUND = 60
"""Seconds that a pass over a few hundred folios takes at most, however busy this machine is."""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return support.vmemmap(*arguments, timeout=600)


def vmemmap(*arguments: object) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(*target: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(vmemmap(*target, "--folios", "--format", "json"))
    # Which dump it is differs between a guest and its dumps.
    del document["target"]
    return document


def test_a_running_guest_gives_the_report_of_its_dump(tmp_path: Path) -> None:
    kernel = kernels.fetch("newest")
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


def test_a_guest_that_is_reset_is_not_accused_of_what_is_left_of_its_kernel(
    tmp_path: Path,
) -> None:
    kernel = kernels.fetch("newest")
    with Guest(kernel, scenarios.named("basic"), tmp_path / "console.log") as guest:
        guest.wait_for("ready")
        guest.qmp.execute("set-action", reboot="reset")
        with watching(guest) as process:
            assert process.stdout and json.loads(process.stdout.readline())["folios"] >= 0
            guest.qmp.execute("system_reset")
            _, errors = process.communicate(timeout=300)
    # The summary, and why it ended.
    _, reason = errors.splitlines()
    assert process.returncode == 3 and "the guest was reset" in reason


@pytest.mark.parametrize("line", ("6.18", "newest"))
def test_a_guest_that_never_stands_still(
    line: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Pools grow and shrink, and folios are used, demoted, migrated, taken out of service."""
    try:
        guest = boot(line, "live", tmp_path)
    except MissingError as error:
        pytest.skip(f"{line}: {error}")
    with guest:
        note = is_not_accused(guest)
        let_go()
        watched = vmemmap(*on(guest), "watch", "--count", "2", "--format", "jsonl")
        assert len({json.loads(line)["time"] for line in watched.splitlines()}) == 2
        stopped = gives_the_report_of_its_dump_when_stopped(guest, tmp_path)
        make_writable(guest, kept(guest), 3)
        let_go()
        is_accused(guest, kept(guest), tmp_path)
        leaves_what_was_seen_when_it_ends(guest)
    record_property("note", f"{line}: {note}; stopped: {stopped} folios as in its dump")


def on(guest: Guest) -> tuple[object, ...]:
    return ("--qemu", guest.debug_socket)


def let_go() -> None:
    """Let go of programs, which have cycles in them: QEMU speaks to one client at a time."""
    gc.collect()


def kept(guest: Guest) -> int:
    """PFN of the folio that stays where it is."""
    (pfn,) = guest.words()["kept"]
    return int(pfn)


def is_not_accused(guest: Guest) -> str:
    """Takes many passes; finds much that is transient, and no error; returns its tale."""
    before = guest.wait_for("alive")["alive"]
    prog = drgn.Program()
    prog.set_qemu_qmp(str(guest.debug_socket))
    target = examination.target(prog)
    passes = folios = moved = transient = 0
    longest = 0.0
    for _ in range(REPORTS):
        report = confirm(target)
        assert [find for find in report.findings if find.severity is Severity.ERROR] == []
        assert report.stability is not None
        passes += report.stability.passes
        folios += len(report.folios)
        moved += report.stability.moved
        transient += report.stability.transient
        longest = max(longest, report.stability.seconds / report.stability.passes)
    assert longest < BOUND
    assert passes >= 2 * REPORTS and moved > REPORTS and transient
    assert len({*guest.words()["alive"]} - {*before}) > 1
    return (
        f"{passes} passes while it moved, {folios} folios, {moved} that came, went or changed, "
        f"{transient} transient findings, no error, longest pass {longest:.1f} s"
    )


def gives_the_report_of_its_dump_when_stopped(guest: Guest, directory: Path) -> int:
    """Whatever it was doing, both show it, with all checks; returns the number of its folios."""
    guest.qmp.execute("stop")
    guest.dump(directory / "vmcore")
    live, dumped = (verified(*target) for target in (on(guest), ("-c", directory / "vmcore")))
    guest.qmp.execute("cont")
    assert live["kernel"].pop("live") is True
    assert dumped["kernel"].pop("live") is False
    movement = live.pop("movement")
    assert (movement["moved"], movement["transient"], dumped.pop("movement")) == (0, 0, None)
    assert live == dumped
    return int(live["totals"]["folios"])


def verified(*target: object) -> dict[str, Any]:
    done = run(*target, "verify", "--format", "json")
    assert done.returncode in (0, 1, 3), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    del document["target"]
    return document


def make_writable(guest: Guest, pfn: int, index: int) -> None:
    """Have a debugger write to the entry of a folio's vmemmap page, through the direct map."""
    prog = drgn.Program()
    prog.set_qemu_qmp(str(guest.debug_socket))
    kernel = discover(prog)
    walker = Walker(ProgramMemory(prog), kernel.paging)
    entry = walker.entry(kernel.geometry.address(pfn) + index * PAGE_SIZE)
    assert entry.raw and kernel.direct_map and not entry.raw & WRITABLE
    with guest.debugger() as debugger:
        address = kernel.direct_map + entry.raw_address
        debugger.write(address, (entry.raw | WRITABLE).to_bytes(8, "little"))


def is_accused(guest: Guest, pfn: int, directory: Path) -> None:
    """A folio that is broken is found while all others move, and written as it is then."""
    arguments = ("--interval", "0", "--until", "tail-writable", "--extract", directory)
    done = run(*on(guest), "watch", *arguments)
    assert done.returncode == 1, done.stderr
    assert "A stray write to a tail" in done.stderr
    (extract,) = directory.glob("vmcore-tail-writable-*")
    found = [
        (finding["folio"], finding["index"])
        for finding in verified("-c", extract)["findings"]
        if finding["rule"] == "tail-writable"
    ]
    assert (pfn, 3) in found


def leaves_what_was_seen_when_it_ends(guest: Guest) -> None:
    """Watching ends with a summary, one line that says why, and its exit code."""
    with watching(guest) as process:
        assert process.stdout
        first = json.loads(process.stdout.readline())
        guest.qmp.execute("quit")
        rest, errors = process.communicate(timeout=300)
    assert first["folios"] >= 0 and all(map(json.loads, rest.splitlines()))
    # What was broken is explained first.
    *_, summary, reason = errors.splitlines()
    assert "passes: " in summary or summary.startswith("1 pass: ")
    assert process.returncode == 3 and reason.startswith("drgn-vmemmap: the ")


def watching(guest: Guest) -> subprocess.Popen[str]:
    command = (COMMAND, *on(guest), "watch", "--interval", "0", "--format", "jsonl")
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
