# SPDX-License-Identifier: LGPL-2.1-or-later

"""Looking at what moves: once seen is not yet found, and what changes is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Callable

import pytest

from drgn_vmemmap import cli, examination
from drgn_vmemmap.live import GONE, Target, steady
from drgn_vmemmap.progress import Work
from drgn_vmemmap.render import watch as lines
from drgn_vmemmap.report import Report
from drgn_vmemmap.watch import watch
from tests.edited import EditedKernel
from tests.image import Image
from tests.model import FIRST_FOLIO, Folio, Machine

ROOT = Path(__file__).parent.parent
WRITABLE = 1 << 1
AT_ONCE = (0,) * 7


def kernel() -> EditedKernel:
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512))
    return EditedKernel(Image(Machine(folios=folios)).prog)


def always() -> bool:
    return True


def looks_at(moving: EditedKernel, broken: Iterable[bool]) -> Target:
    """A kernel in which a tail is writable, or not, look by look."""
    pfn, states = moving.optimized[0], iter(broken)
    sound = moving.entry(pfn, 3)

    def take_look() -> Report:
        moving.write_entry(pfn, 3, sound | WRITABLE if next(states) else sound)
        return moving.check()

    return Target(take_look, always)


def still() -> Target:
    return Target(kernel().check, always)


def rules(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings if finding.severity.value != "info"]


# Two looks before an accusation.


@pytest.mark.parametrize(
    ("broken", "looks", "found", "transient"),
    (
        ((False, False), 2, [], 0),
        ((True, False), 2, [], 1),
        ((False, True), 2, [], 1),
        ((True, True, False), 3, [], 1),
        ((True,) * 7 + (False,), 8, [], 1),
        ((True,) * 8, 8, ["tail-writable"], 0),
    ),
)
def test_what_all_looks_see_is_found_and_nothing_else(
    broken: tuple[bool, ...], looks: int, found: list[str], transient: int
) -> None:
    report = steady(looks_at(kernel(), broken), pauses=AT_ONCE)
    assert rules(report) == found
    assert report.movement is not None
    assert (report.movement.looks, report.movement.transient) == (looks, transient)


def test_folios_that_changed_between_two_looks_have_moved() -> None:
    report = steady(looks_at(kernel(), (True, False)), pauses=AT_ONCE)
    assert report.movement is not None and report.movement.moved == 1


def test_a_look_at_what_does_not_move_tells_of_no_movement() -> None:
    assert examination.verify(Image(Machine()).prog).movement is None


# Watching.


def test_the_first_look_is_not_a_change_and_the_next_ones_are() -> None:
    moving = kernel()
    states = (False, False, *(True for _ in range(8)))
    first, second = watch(looks_at(moving, states), 0, 2, Work())
    name = "hugepages-2048kB"
    assert first.changed[name] == (0, 0, 0)
    assert second.changed[name] == (0, -1, 0)
    assert rules(second.report) == ["tail-writable"]
    assert "1 (-1)" in lines.table(second)


def test_watching_ends_when_the_user_has_had_enough() -> None:
    class Enough(Work):
        interrupted = True

    assert len(list(watch(still(), 3600, None, Enough()))) == 1


def test_watching_goes_on_without_a_count() -> None:
    endless = watch(still(), 0, None, Work())
    assert len(list(islice(endless, 3))) == 3


def test_machines_read_a_line_a_hstate() -> None:
    (look,) = watch(still(), 0, 1, Work())
    documents = [json.loads(line) for line in lines.jsonl(look).splitlines()]
    assert [document["hstate"] for document in documents] == [*look.counted]
    assert documents[0]["optimized"] == 2 and documents[0]["looks"] == 2


# The command.


def run(monkeypatch: pytest.MonkeyPatch, target: Target, *arguments: str) -> int:
    monkeypatch.setattr(examination, "is_live", lambda prog: True)
    monkeypatch.setattr(examination, "target", lambda *_: target)
    options = cli.parse(["watch", "--interval", "0", *arguments])
    return cli.execute(options, None)


def test_watching_until_a_rule_is_broken_explains_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = (False, False, *(True for _ in range(9)))
    code = run(monkeypatch, looks_at(kernel(), states), "--until", "tail-writable")
    out, err = capsys.readouterr()
    assert code == cli.FOUND_ERRORS
    assert len(out.splitlines()) == 1 + 2 * 2
    assert "A stray write to a tail" in err and "2 looks" in err


def test_watching_ends_after_as_many_looks_as_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, still(), "--count", "3", "--format", "jsonl") == cli.DONE
    out, err = capsys.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) == 3 * 2
    assert err == "3 looks: 0 folios moved, 0 transient findings, 0 findings\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (
        (("--until", "nonsense"), "no rule 'nonsense'"),
        (("--extract", "/nowhere/at/all"), "no directory"),
    ),
)
def test_a_wrong_request_gets_one_line(
    arguments: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, still(), *arguments) == cli.CANNOT
    err = capsys.readouterr().err
    assert reason in err and len(err.splitlines()) == 1


def vmemmap(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "drgn-vmemmap", *map(str, arguments)]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def test_a_dump_is_not_watched() -> None:
    done = vmemmap("-c", ROOT / "vmcores" / "head-reuse.vmcore", "watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a live kernel" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_socket_that_is_none_gets_one_line(tmp_path: Path) -> None:
    for address in (tmp_path / "nothing", ROOT / "README.md"):
        done = vmemmap("--qemu", address, "watch", "--count", "1")
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
