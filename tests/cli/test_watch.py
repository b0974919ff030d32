# SPDX-License-Identifier: LGPL-2.1-or-later

"""Watching a live kernel from the command line, alone and while a command runs."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import drgn
import pytest

from drgn_vmemmap import api
from drgn_vmemmap.analysis import live
from drgn_vmemmap.analysis.live import Target
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.watch import Pass
from drgn_vmemmap.cli import child, command_line
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, FOUND_ERRORS, INCOMPLETE
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.recording import Recording
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.x86_64 import PHYSICAL_BITS
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.rules.rule import RULES
from tests.damage.edited import EditedKernel
from tests.support import ROOT, answer, open_vmcore, shared_vmcore, vmcore, vmemmap
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

WRITABLE = 1 << 1

SOON = 20
"""Seconds in which Ctrl-C ends everything, on a busy machine too; what it ends takes a minute."""
SLEEP_ON = "for step in $(seq 600); do sleep 0.1; done"
"""A minute's sleep. A shell sees a signal once a command has ended: none of these takes long."""

FOLIOS = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSES", (0.01,) * 7)


def image() -> Image:
    """A kernel that runs, as drgn sees it."""
    running = Image(Machine(folios=FOLIOS))
    running.live = True
    return running


def always() -> bool:
    return True


def still() -> Target:
    return Target(EditedKernel(Image(Machine(folios=FOLIOS)).prog).check, always)


def broken_in(passes: Iterable[bool]) -> Target:
    """A kernel in which a tail is writable, or not, pass by pass; at last as in the last one."""
    moving = EditedKernel(Image(Machine(folios=FOLIOS)).prog)
    pfn, states = moving.optimized[0], list(passes)
    sound = moving.entry(pfn, 3)

    def take_pass() -> Report:
        state = states.pop(0) if len(states) > 1 else states[0]
        moving.write_entry(pfn, 3, sound | WRITABLE if state else sound)
        return moving.check()

    return Target(take_pass, always)


def run(monkeypatch: pytest.MonkeyPatch, target: Target, *arguments: str) -> int:
    monkeypatch.setattr(api, "is_live", lambda prog: True)
    monkeypatch.setattr(api, "target", lambda *_: target)
    return command_line.execute(command_line.parse(["watch", *arguments]), None)


def shell(script: str) -> tuple[str, ...]:
    return ("--", "sh", "-c", script)


def test_watching_until_a_rule_is_broken_explains_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = broken_in((False, False, True))
    assert run(monkeypatch, target, "--interval", "0", "--until", "tail-writable") == FOUND_ERRORS
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 2 * 2
    assert "A stray write to a tail" in err and "2 passes" in err


def test_what_is_of_a_whole_pass_is_in_its_first_line_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--count", "2", "--interval", "0", "--until", "list-corrupt")
    run(monkeypatch, broken_in((True,)), *options)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(hstate, len(rest)) for _, hstate, *rest in lines[1:]] == [
        *[("2048kB", 6), ("1048576kB", 4)] * 2
    ]
    assert [line[-2:] for line in lines[1::2]] == [["0", "1"]] * 2


def test_a_rule_of_any_severity_can_be_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False))
    target = Target(EditedKernel(Image(Machine(folios=folios)).prog).check, always)
    assert run(monkeypatch, target, "--until", "unoptimized") == FOUND_ERRORS
    assert "info: unoptimized" in capsys.readouterr().err


def test_the_first_findings_of_a_rule_are_explained_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folios = tuple(Folio(FIRST_FOLIO + 512 * number, remapped=False) for number in range(30))
    target = Target(EditedKernel(Image(Machine(folios=folios)).prog).check, always)
    assert run(monkeypatch, target, "--until", "unoptimized") == FOUND_ERRORS
    err = capsys.readouterr().err
    assert "unoptimized, 30 times" in err and "and 27 more: verify --all shows them" in err
    assert len(err.splitlines()) < 20


def test_watching_ends_after_as_many_passes_as_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--interval", "0", "--count", "3", "--format", "jsonl")
    assert run(monkeypatch, still(), *options) == DONE
    out, err = capsys.readouterr()
    assert [json.loads(line)["incomplete"] for line in out.splitlines()] == [False] * 3 * 2
    assert err == "3 passes: 0 folios moved, 0 transient findings, 0 findings\n"


def test_watching_without_a_rule_or_a_command_judges_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, broken_in((True,)), "--count", "1") == DONE
    assert "A stray write to a tail" in capsys.readouterr().err


def test_what_was_not_recognised_of_the_kernel_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = Image(Machine(folios=FOLIOS))
    del unknown.variables["hugetlb_optimize_vmemmap_key"]
    target = Target(EditedKernel(unknown.prog).check, always)
    assert run(monkeypatch, target, "--interval", "0", "--count", "2") == DONE
    assert capsys.readouterr().err.count("not recognised: HVO's layout") == 1


def test_a_pass_makes_all_checks(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["watch", "--interval", "0", "--count", "1", "--format", "ktap"]
    assert command_line.run(words, image().prog) == DONE
    out = capsys.readouterr().out
    assert out.count("\nok ") == len(RULES) and "# SKIP" not in out


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_ctrl_c_or_sigterm_ends_it_with_the_rules_and_a_summary(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passes = iter((1, 2, 3))

    def interrupt() -> bool:
        if next(passes) == 3:
            os.kill(os.getpid(), number)
        return True

    words = ("--interval", "0", "--format", "ktap")
    assert run(monkeypatch, still()._replace(is_there=interrupt), *words) == DONE
    out, err = capsys.readouterr()
    assert out.startswith("KTAP version 1\n") and err.endswith(" 0 findings\n")


@pytest.mark.parametrize(
    ("words", "seconds"),
    (((), 2), (shell("true"), 0), (("--interval", "7", *shell("true")), 7)),
)
def test_passes_follow_each_other_after_two_seconds_or_at_once_while_a_command_runs(
    words: tuple[str, ...], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    intervals = []

    def watch(target: Target, interval: float, *_: object) -> Iterator[Pass]:
        intervals.append(interval)
        return iter(())

    monkeypatch.setattr("drgn_vmemmap.analysis.watch.watch", watch)
    assert run(monkeypatch, still(), *words) == DONE
    assert intervals == [seconds]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (
        (("--until", "nonsense"), "there is no rule 'nonsense'"),
        (("--extract", "/nowhere/at/all"), "not a directory"),
        (("--", "/no/such/command"), "/no/such/command: No such file"),
    ),
)
def test_a_wrong_request_gets_one_line(
    arguments: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, still(), *arguments) == CANNOT
    err = capsys.readouterr().err
    assert reason in err and len(err.splitlines()) == 1


def test_a_command_belongs_to_watch_and_must_be_there() -> None:
    for words in (("watch", "--"), ("verify", "--", "true"), ("--", "true")):
        done = answer("-c", vmcore("head-reuse"), *words)
        assert (done.returncode, done.stdout) == (CANNOT, "")
        assert len(done.stderr.splitlines()) == 1 and "--" in done.stderr


def test_a_dump_is_not_watched() -> None:
    words = ("watch", "--", "touch", "/no/such/file")
    done = answer(*words, prog=open_vmcore("head-reuse"))
    assert (done.returncode, done.stdout) == (CANNOT, "")
    assert "needs a live kernel" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_socket_that_is_none_gets_one_line(tmp_path: Path) -> None:
    for address in (tmp_path / "nothing", ROOT / "README.md"):
        done = vmemmap("--qemu", address, "watch", "--count", "1")
        assert (done.returncode, done.stdout) == (CANNOT, "")
        assert len(done.stderr.splitlines()) == 1


# While a command runs.


@pytest.mark.parametrize("code", (0, 3, 77))
def test_the_exit_code_of_the_command_is_handed_on(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, still(), *shell(f"exit {code}")) == code


def test_a_command_that_a_signal_ends_has_the_exit_code_of_a_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(monkeypatch, still(), *shell("kill -9 $$")) == 128 + 9


def test_passes_are_taken_while_the_command_runs_and_once_more(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "echo begins; sleep 0.5; echo ends; exit 5"
    assert run(monkeypatch, still(), "--format", "jsonl", *shell(script)) == 5
    out, err = capfd.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) >= 3 * 2
    assert err.startswith("begins\n") and "ends\n" in err


def test_a_command_that_is_over_at_once_is_followed_by_one_pass(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, still(), "--interval", "3600", *shell("exit 4")) == 4
    # It may end before the first pass or during it.
    assert capfd.readouterr().err.startswith(("1 pass: ", "2 passes: "))


def test_something_broken_is_exit_code_1_whatever_the_command_says(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    target = broken_in((False, False, *(True for _ in range(8)), False))
    assert run(monkeypatch, target, "--format", "jsonl", *shell("sleep 0.5")) == FOUND_ERRORS
    out, err = capfd.readouterr()
    broken = [json.loads(line)["broken"] for line in out.splitlines()]
    assert [] in broken and ["tail-writable"] in broken
    assert err.count("A stray write to a tail") == 1


def test_rules_are_tests_of_all_passes_together(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    target = broken_in((False, False, *(True for _ in range(8)), False))
    assert run(monkeypatch, target, "--format", "ktap", *shell("sleep 0.5")) == FOUND_ERRORS
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "KTAP version 1"
    assert any(line.startswith("not ok") and "tail-writable" in line for line in lines)
    assert any(line.startswith("ok") and "head-read-only" in line for line in lines)


@contextlib.contextmanager
def without_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let standard output be a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", output)
        yield


@pytest.mark.long
@pytest.mark.parametrize("format_name", ("table", "jsonl", "ktap"))
def test_a_command_runs_to_its_end_whether_or_not_the_passes_are_read(
    format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--interval", "0.05", "--format", format_name, *shell("sleep 0.2; exit 7"))
    with without_reader(monkeypatch):
        assert run(monkeypatch, still(), *words) == 7
        assert run(monkeypatch, broken_in((False, True)), *words) == FOUND_ERRORS


@pytest.mark.parametrize("format_name", ("table", "ktap"))
def test_a_command_runs_to_its_end_though_the_disk_is_full(
    format_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ended = tmp_path / "ended"
    words = ("--interval", "0.05", "--format", format_name, *shell(f"sleep 0.2; touch {ended}"))
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        assert run(monkeypatch, still(), *words) == CANNOT
    assert ended.exists() and "No space left on device" in capfd.readouterr().err


def test_passes_that_nobody_reads_end_where_there_is_no_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with without_reader(monkeypatch):
        assert run(monkeypatch, still(), "--interval", "0") == DONE


def test_watching_until_a_rule_is_broken_ends_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = time.monotonic()
    target = broken_in((True,))
    code = run(monkeypatch, target, "--until", "tail-writable", *shell("sleep 60; true"))
    assert code == FOUND_ERRORS
    assert time.monotonic() - start < 30


def running_again(name: str, edited: EditedKernel) -> drgn.Program:
    """A recorded kernel with edited memory, as if it ran."""
    recorded = open_vmcore(name)
    prog = drgn.Program(recorded.platform)
    prog.set_linux_kernel_custom(recorded["VMCOREINFO"].string_(), True)

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return edited.memory.read(address, count)
        except MissingMemory as error:
            raise drgn.FaultError(str(error), address) from None

    prog.add_memory_segment(0, 1 << PHYSICAL_BITS, read, True)
    return prog


@pytest.mark.long
def test_the_first_broken_moment_is_left_as_a_vmcore(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edited = EditedKernel(shared_vmcore("head-reuse"))
    pfn = edited.optimized[0]
    edited.write_entry(pfn, 3, edited.entry(pfn, 3) | WRITABLE)
    words = ["watch", "--extract", str(tmp_path), "--format", "jsonl", *shell("true")]
    assert command_line.run(words, running_again("head-reuse", edited)) == FOUND_ERRORS
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("vmcore-tail-writable-")
    assert f"written: {path}" in capfd.readouterr().err
    report = api.verify(open_vmcore(path))
    errors = [f for f in report.findings if f.severity is Severity.ERROR]
    assert [(f.rule, f.folio, f.index) for f in errors] == [("tail-writable", pfn, 3)]


@pytest.mark.long
def test_what_is_not_in_the_vmcore_of_a_broken_moment_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edited = EditedKernel(shared_vmcore("head-reuse"))
    broken, overwritten = edited.optimized[:2]
    edited.write_entry(broken, 3, edited.entry(broken, 3) | WRITABLE)
    edited.write_entry(overwritten, 3, int.from_bytes(b"a secret", "little"))
    words = ["watch", "--extract", str(tmp_path), "--until", "tail-writable"]
    assert command_line.run(words, running_again("head-reuse", edited)) == FOUND_ERRORS
    (path,) = tmp_path.iterdir()
    said = capfd.readouterr().err
    assert "withheld: 8 bytes of frame " in said and f"written: {path}" in said


@pytest.mark.long
@pytest.mark.parametrize("compress", (False, True), ids=("elf", "compressed"))
def test_what_only_the_last_pass_saw_is_not_found_in_its_vmcore(
    tmp_path: Path, compress: bool
) -> None:
    """Memory that changed while it was read shows what was never there at one moment."""
    edited = EditedKernel(shared_vmcore("head-reuse"))
    lasting, passing = edited.optimized[:2]
    for pfn in lasting, passing:
        edited.write_entry(pfn, 3, edited.entry(pfn, 3) | WRITABLE)
    recording = Recording(running_again("head-reuse", edited))
    findings = recording.analyse().findings
    confirmed = [finding for finding in findings if finding.folio != passing]
    recording.write(str(tmp_path / "vmcore"), compress, confirmed)
    report = api.verify(open_vmcore(tmp_path / "vmcore"))
    errors = [f for f in report.findings if f.severity is Severity.ERROR]
    assert [(f.rule, f.folio, f.index) for f in errors] == [("tail-writable", lasting, 3)]
    done = answer(prog=open_vmcore(tmp_path / "vmcore"))
    assert "written while it ran" in done.stdout


@pytest.mark.long
def test_of_a_rule_that_is_broken_in_many_places_each_is_found_in_the_vmcore(
    tmp_path: Path,
) -> None:
    edited = EditedKernel(shared_vmcore("head-reuse"))
    for pfn in edited.optimized[:60]:
        edited.write_entry(pfn, 3, edited.entry(pfn, 3) | WRITABLE)
    recording = Recording(running_again("head-reuse", edited))
    recording.write(str(tmp_path / "vmcore"), True, recording.analyse().findings)
    report = api.verify(open_vmcore(tmp_path / "vmcore"))
    assert len([f for f in report.findings if f.rule == "tail-writable"]) == 60


def test_a_vmcore_that_could_not_be_written_is_refused_before_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ran = tmp_path / "ran"
    words = ["watch", "--extract", str(tmp_path), "--", "touch", str(ran)]
    assert command_line.run(words, image().prog) == CANNOT
    assert "needs kdumpling" in capfd.readouterr().err
    assert not ran.exists()


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """Hypothesis is called where garbage is collected, and loses what a signal raises just then."""
    gc.disable()
    yield
    gc.enable()


def interrupted(script: str, prog: Any, tmp_path: Path, *options: str) -> tuple[int, float]:
    """
    Watch a kernel while a command runs that interrupts us.

    :return: The exit code, and the seconds from the signal to the end.
    """
    sent = tmp_path / "sent"
    words = ["watch", *options, *shell(script.format(f"date +%s.%N > {sent}; kill -INT $PPID"))]
    code = command_line.run(words, prog)
    return code, time.time() - float(sent.read_text())


def test_ctrl_c_is_seen_between_passes_and_handed_to_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "trap 'echo interrupted; exit 9' INT; sleep 0.5; {}; " + SLEEP_ON
    code, seconds = interrupted(script, image().prog, tmp_path, "--interval", "3600")
    assert code == 9 and seconds < SOON
    err = capfd.readouterr().err
    assert "interrupted\n" in err and "1 pass:" in err


@pytest.mark.long
def test_ctrl_c_is_seen_in_the_middle_of_a_pass(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    running = image()
    started = time.monotonic()
    read = running.memory.read

    def slow(address: int, size: int) -> bytes:
        # After half a second, a pass would take a minute.
        if time.monotonic() - started > 0.5:
            time.sleep(0.1)
        return read(address, size)

    running.memory.read = slow  # type: ignore[method-assign]
    script = "trap 'exit 130' INT; sleep 1; {}; " + SLEEP_ON
    code, seconds = interrupted(script, running.prog, tmp_path)
    assert code == 128 + signal.SIGINT and seconds < SOON


@pytest.mark.long
def test_a_command_that_ignores_ctrl_c_is_killed_by_the_second_one(tmp_path: Path) -> None:
    def interrupt_again() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    again = threading.Timer(1.0, interrupt_again)
    again.start()
    script = "trap '' INT; sleep 0.3; {}; while :; do sleep 0.1; done"
    code, _ = interrupted(script, image().prog, tmp_path)
    assert code == INCOMPLETE


@pytest.mark.long
def test_a_command_that_ignores_sigterm_is_ended_once_a_rule_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child, "_PATIENCE", 0.5)
    target, start = broken_in((False,) * 20 + (True,)), time.monotonic()
    script = f"trap '' TERM; {SLEEP_ON}"
    assert run(monkeypatch, target, "--until", "tail-writable", *shell(script)) == FOUND_ERRORS
    assert time.monotonic() - start < SOON


@pytest.mark.long
@pytest.mark.parametrize("name", ("TERM", "HUP", "QUIT"))
def test_what_is_to_end_us_ends_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"trap 'exit 9' {name}; sleep 0.3; kill -{name} $PPID; {SLEEP_ON}"
    assert run(monkeypatch, still(), *shell(script)) == 9


def test_ctrl_c_ends_a_command_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"trap 'exit 9' INT; (sleep 0.3; kill -INT $PPID)& kill -STOP $$; {SLEEP_ON}"
    assert run(monkeypatch, still(), *shell(script)) == 9


def test_the_command_ends_where_the_kernel_goes_away(
    capfd: pytest.CaptureFixture[str],
) -> None:
    running = image()
    started, read = time.monotonic(), running.memory.read

    def leaving(address: int, size: int) -> bytes:
        if time.monotonic() - started > 0.5:
            raise ProcessLookupError(3, "No such process")
        return read(address, size)

    running.memory.read = leaving  # type: ignore[method-assign]
    code = command_line.run(["watch", *shell("sleep 60")], running.prog)
    assert code == INCOMPLETE and time.monotonic() - started < 30
    assert "went away" in capfd.readouterr().err


def test_facts_are_read_afresh_in_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(*arguments: Any) -> Kernel:
        kernel = discover(*arguments)
        seen.append(kernel)
        return kernel

    monkeypatch.setattr(api, "discover", counted)
    assert command_line.run(["watch", "--interval", "0", "--count", "3"], image().prog) == DONE
    assert len(seen) >= 3 * 2  # each pass is confirmed by another one
