# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kernels that change: what one pass sees is not yet found, and what changes is reported."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import count, cycle, islice
from typing import Callable

import drgn
import pytest

from drgn_vmemmap import api as examination
from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.live import GONE, Target, confirm
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.watch import Tally, watch
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import DONE, FOUND_ERRORS, INCOMPLETE
from drgn_vmemmap.extract.recorder import Recorder
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.output import watch as lines
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.progress import Progress
from drgn_vmemmap.rules.rule import (
    COUNT_MISMATCH,
    FRAME_ALIASED,
    FRAME_FREED,
    OFF_LIST,
    ORPHAN_REMAP,
    Rule,
)
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedKernel
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE

WRITABLE = 1 << 1
ACCESSED = 1 << 5


FOLIOS = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512))


def kernel() -> EditedKernel:
    return EditedKernel(Image(Machine(folios=FOLIOS)).prog)


def live() -> Image:
    """A kernel that runs, as drgn sees it."""
    image = Image(Machine(folios=FOLIOS))
    image.live = True
    return image


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made: none is waited for."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def always() -> bool:
    return True


def passes_over(moving: EditedKernel, broken: Iterable[bool]) -> Target:
    """A kernel in which a tail is writable, or not, pass by pass."""
    pfn, states = moving.optimized[0], iter(broken)
    sound = moving.entry(pfn, 3)

    def take_pass() -> Report:
        moving.write_entry(pfn, 3, sound | WRITABLE if next(states) else sound)
        return moving.check()

    return Target(take_pass, always)


def still() -> Target:
    return Target(kernel().check, always)


def rules(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings if finding.severity.value != "info"]


# Two passes before an accusation.


@pytest.mark.parametrize(
    ("broken", "passes", "found", "transient"),
    (
        ((False, False), 2, [], 0),
        ((True, False), 2, [], 1),
        ((False, True), 2, [], 1),
        ((True, True, False), 3, [], 1),
        ((True,) * 7 + (False,), 8, [], 1),
        ((True,) * 8, 8, ["tail-writable"], 0),
    ),
)
def test_what_all_passes_see_is_found_and_nothing_else(
    broken: tuple[bool, ...], passes: int, found: list[str], transient: int
) -> None:
    report = confirm(passes_over(kernel(), broken))
    assert rules(report) == found
    assert report.stability is not None
    assert (report.stability.passes, report.stability.transient) == (passes, transient)


def test_a_fault_is_seen_by_eight_passes_in_six_seconds(pauses: list[float]) -> None:
    report = confirm(passes_over(kernel(), (True,) * 8))
    assert report.stability is not None and report.stability.passes == 8
    assert 6 <= sum(pauses) < 7


def test_folios_that_changed_between_two_passes_have_moved() -> None:
    report = confirm(passes_over(kernel(), (True, False)))
    assert report.stability is not None and report.stability.moved == 1


def test_a_pass_over_what_does_not_move_reports_no_movement() -> None:
    assert examination.verify(Image(Machine()).prog).stability is None


def test_a_fault_is_the_same_whatever_the_processor_notes_in_its_entry() -> None:
    moving = kernel()
    pfn = moving.optimized[0]
    entry = moving.entry(pfn, 3) | WRITABLE
    notes = cycle((0, 1 << 5, 1 << 6, 3 << 5))

    def take_pass() -> Report:
        moving.write_entry(pfn, 3, entry & ~(3 << 5) | next(notes))
        return moving.check()

    assert rules(confirm(Target(take_pass, always))) == ["tail-writable"]


@pytest.mark.parametrize(
    ("rule", "is_same"),
    ((FRAME_FREED, True), (FRAME_ALIASED, True), (ORPHAN_REMAP, True), (COUNT_MISMATCH, False)),
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_fault_whose_message_names_what_changes_is_the_same_by_its_entry(
    rule: Rule, is_same: bool
) -> None:
    report, sizes = kernel().check(), count()

    def take_pass() -> Report:
        message = f"in a free block of order {next(sizes)}"
        return replace(report, findings=[rule.finding(message, FIRST_FOLIO, address=1)])

    assert rules(confirm(Target(take_pass, always))) == [rule.name] * is_same


def test_notes_of_the_last_pass_are_kept() -> None:
    report, passes = kernel().check(), count()

    def take_pass() -> Report:
        return replace(report, findings=[OFF_LIST.finding("on no list", next(passes))])

    assert [finding.folio for finding in confirm(Target(take_pass, always)).findings] == [1]


def test_a_lasting_fault_is_found_while_all_else_moves() -> None:
    moving = kernel()
    broken, other = moving.optimized
    moving.write_entry(broken, 3, moving.entry(broken, 3) | WRITABLE)
    sound = [moving.entry(other, index) for index in range(8)]
    passes = count()

    def take_pass() -> Report:
        number = next(passes)
        for index, entry in enumerate(sound):
            moving.write_entry(other, index, entry ^ (WRITABLE if index == number % 8 else 0))
        return moving.check()

    report = confirm(Target(take_pass, always))
    assert [(f.folio, f.index) for f in report.findings] == [(broken, 3)]
    assert report.stability is not None and report.stability.moved == 1
    assert report.stability.transient == 8


def test_faults_of_other_folios_are_other_faults() -> None:
    moving = kernel()
    sound = {pfn: moving.entry(pfn, 3) for pfn in moving.optimized}
    broken = cycle(moving.optimized)

    def take_pass() -> Report:
        now = next(broken)
        for pfn, entry in sound.items():
            moving.write_entry(pfn, 3, entry | (WRITABLE if pfn == now else 0))
        return moving.check()

    report = confirm(Target(take_pass, always))
    assert rules(report) == []
    assert report.stability is not None and report.stability.transient == 2


def test_passes_are_not_made_in_step_with_what_moves(pauses: list[float]) -> None:
    confirm(passes_over(kernel(), (True,) * 8))
    assert pauses[0] == 0.1 and sum(pauses) > 5


def test_a_list_that_changes_after_the_memmap_was_read_is_followed_again() -> None:
    image = live()
    read, kernel = image.memory.read, discover(image.prog)
    lru = kernel.page.offset("lru")
    first, second = (kernel.geometry.address(pfn) + lru for pfn in (FIRST_FOLIO, FIRST_FOLIO + 512))
    frame = Walker(ProgramMemory(image.prog), kernel.paging).entry(first).frame
    assert frame is not None
    place, met = (frame << 12) + first % 4096, list[int]()

    def torn(address: int, size: int) -> bytes:
        """The first time, the first folio leads to itself, not to the second."""
        data = read(address, size)
        if address <= place < address + size and not met:
            met.append(address)
            start = place - address
            assert data[start : start + 8] == second.to_bytes(8, "little")
            return data[:start] + first.to_bytes(8, "little") + data[start + 8 :]
        return data

    image.memory.read = torn  # type: ignore[method-assign]
    report = analyse(Snapshot(kernel, ProgramMemory(image.prog)))
    assert met and report.findings == []
    del met[:]
    report = analyse(Snapshot(replace(kernel, live=False), ProgramMemory(image.prog)))
    assert {finding.rule for finding in report.findings} == {"list-corrupt"}


def test_folios_on_a_list_that_is_followed_again_are_known_to_be_on_it() -> None:
    image = live()
    read, kernel = image.memory.read, discover(image.prog)
    lru, walker = kernel.page.offset("lru"), Walker(ProgramMemory(image.prog), kernel.paging)
    old: dict[int, bytes] = {}
    for folio in FOLIOS:
        address = kernel.geometry.address(folio.pfn) + lru
        frame = walker.entry(address).frame
        assert frame is not None
        old[(frame << PAGE_SHIFT) + address % PAGE_SIZE] = bytes(8)

    def torn(address: int, size: int) -> bytes:
        """The first time, no folio leads to the next one."""
        data = bytearray(read(address, size))
        for place in [each for each in old if address <= each < address + size]:
            data[place - address : place - address + 8] = old.pop(place)
        return bytes(data)

    image.memory.read = torn  # type: ignore[method-assign]
    report = analyse(Snapshot(kernel, ProgramMemory(image.prog)))
    assert not old
    assert {folio.state for folio, _ in report.folios} == {State.FREE}
    assert report.findings == []


@pytest.mark.parametrize("where", ("in a circle", "to a folio of another order"))
def test_a_list_of_a_running_kernel_that_leads_astray_each_time_is_found(where: str) -> None:
    gigantic = Folio(GIB >> PAGE_SHIFT, 18, state=State.OFF_LIST)
    image = Image(Machine(node_size=3 * GIB, folios=(*FOLIOS, gigantic)))
    image.live = True
    head = image.list_head(9, 0)
    first, last = FOLIOS[0].pfn, FOLIOS[-1].pfn
    if where == "in a circle":
        image.memmap.link(last, image.lru(first), image.lru(last - 512))
    else:
        image.memmap.link(last, image.lru(gigantic.pfn), image.lru(last - 512))
        image.memmap.link(gigantic.pfn, head, image.lru(last))
    report = analyse(Snapshot(discover(image.prog), ProgramMemory(image.prog)))
    assert "list-corrupt" in {finding.rule for finding in report.findings}


# What goes away.


@pytest.fixture(
    params=(
        ProcessLookupError(errno.ESRCH, "No such process"),
        Exception("QMP connection closed unexpectedly"),
    ),
    ids=("process", "connection"),
)
def leaving(request: pytest.FixtureRequest) -> Callable[[int], drgn.Program]:
    """Makes a guest that ends after so many reads of its memory."""

    def leaving(reads: int) -> drgn.Program:
        image = live()
        read, number = image.memory.read, count()

        def read_as_long_as_it_is_there(address: int, size: int) -> bytes:
            if next(number) >= reads:
                raise request.param
            return read(address, size)

        image.memory.read = read_as_long_as_it_is_there  # type: ignore[method-assign]
        return image.prog

    return leaving


def reads_of(*arguments: str) -> int:
    """How often a command reads memory."""
    image = live()
    read, number = image.memory.read, count()

    def counted(address: int, size: int) -> bytes:
        next(number)
        return read(address, size)

    image.memory.read = counted  # type: ignore[method-assign]
    assert command_line.run(arguments, image.prog) == DONE
    return next(number)


def test_what_is_left_of_a_kernel_after_a_reset_is_not_accused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another kernel overwrote a part of it, and has its own trampoline where the first had its."""
    image = live()
    image.types.declare("real_mode_header", trampoline_pgd="unsigned int")
    table = image.add_variable("trampoline", "unsigned long [512]", bytes(PAGE_SIZE))
    last = image.physical(table) + PAGE_SIZE - 8
    header = image.types.structs["real_mode_header"].pack(trampoline_pgd=image.physical(table))
    place = image.add_variable("header", "struct real_mode_header", header)
    image.add_variable("real_mode_header", "struct real_mode_header *", place)
    root = discover(image.prog).paging.root
    entry = image.memory.read_u64(root + PAGE_SIZE - 8)
    image.memory.write_u64(last, entry)
    image.memmap.link(FOLIOS[0].pfn, 0xDEAD000000000100, 0xDEAD000000000122)
    assert command_line.run(["verify"], image.prog) == FOUND_ERRORS
    # The processor marks what it uses.
    image.memory.write_u64(last, entry ^ ACCESSED)
    assert command_line.run(["verify"], image.prog) == FOUND_ERRORS
    read = image.memory.read

    def read_after_a_reset(address: int, size: int) -> bytes:
        if address == image.physical(image.variables["hstates"][1]):
            image.memory.write_u64(last, entry ^ PAGE_SIZE)
        return read(address, size)

    image.memory.read = read_after_a_reset  # type: ignore[method-assign]
    capsys.readouterr()
    assert command_line.run(["verify"], image.prog) == INCOMPLETE
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1) and "the guest was reset" in err


@pytest.mark.parametrize("command", ("report", "verify"))
@pytest.mark.parametrize("part", (0.0, 0.01, 0.1, 0.3))
def test_a_guest_that_ends_in_the_first_pass_gets_one_line(
    command: str,
    part: float,
    leaving: Callable[[int], drgn.Program],
    capsys: pytest.CaptureFixture[str],
) -> None:
    prog = leaving(int(part * reads_of(command)))
    capsys.readouterr()
    assert command_line.run((command,), prog) == INCOMPLETE
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "the target went away" in err or "cannot be read any more" in err


@pytest.mark.parametrize("command", ("report", "verify"))
@pytest.mark.parametrize("part", (0.7, 0.99))
def test_a_guest_that_ends_in_the_second_pass_leaves_the_first_one(
    command: str,
    part: float,
    leaving: Callable[[int], drgn.Program],
    capsys: pytest.CaptureFixture[str],
) -> None:
    reads = reads_of(command)
    capsys.readouterr()
    assert command_line.run((command, "--format", "json"), leaving(int(part * reads))) == INCOMPLETE
    document = json.loads(capsys.readouterr().out)
    assert document["totals"]["optimized"] == 2
    (finding,) = document["findings"]
    assert (finding["rule"], finding["message"]) == ("unreadable", GONE.message)
    assert document["movement"]["looks"] == 1


def test_watching_a_guest_that_ends_ends_with_a_summary(
    leaving: Callable[[int], drgn.Program], capsys: pytest.CaptureFixture[str]
) -> None:
    reads = reads_of("watch", "--count", "2", "--interval", "0")
    capsys.readouterr()
    prog = leaving(int(0.9 * reads))
    assert command_line.run(("watch", "--interval", "0"), prog) == INCOMPLETE
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 2 * 2  # two hstates, and what was seen of the second pass
    summary, reason = err.splitlines()
    assert summary.startswith("2 passes: ") and "the target went away" in reason


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = cycle((1e9, 0.0, 2e9, -1e9))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    passes = list(watch(still(), 0.05, 3, Progress()))
    for each in passes:
        assert each.report.stability is not None
        assert 0 <= each.report.stability.seconds < 60
        assert all(line.endswith("\n") for line in lines.table(each).splitlines(keepends=True))
        assert all(len(line) <= 80 for line in (lines.HEADING + lines.table(each)).splitlines())


# Recording.


def test_a_recording_of_what_moves_is_of_one_piece() -> None:
    moving = kernel()
    recorder = Recorder(moving.memory)
    address = moving.frame(moving.optimized[0], 0) << 12
    before = recorder.read(address + 64, 128)
    moving.memory.write(address + 64, 0x1234)
    moving.memory.write(address + 512, 0x5678)
    after = recorder.read(address, 4096)
    assert after[64:192] == before
    assert after[512:514] == b"\x78\x56"


# Watching.


def test_the_first_pass_is_not_a_change_and_the_next_ones_are() -> None:
    moving = kernel()
    states = (False, False, *(True for _ in range(8)))
    first, second = watch(passes_over(moving, states), 0, 2, Progress())
    name = "hugepages-2048kB"
    assert first.changed[name] == (0, 0, 0)
    assert second.changed[name] == (0, -1, 0)
    assert rules(second.report) == ["tail-writable"]
    assert "1 (-1)" in lines.table(second)


def test_watching_ends_when_the_user_has_had_enough() -> None:
    progress = Progress()
    passes = watch(still(), 3600, None, progress)
    next(passes)
    progress.interrupted = True
    assert [*passes] == []


def test_a_pass_that_the_user_interrupts_is_left_out() -> None:
    progress = Progress()

    def take_pass() -> Report:
        progress.interrupted = True
        return kernel().check()

    assert [*watch(Target(take_pass, always), 0, None, progress)] == []


def test_the_pauses_between_passes_end_when_the_user_has_had_enough(pauses: list[float]) -> None:
    progress = Progress()

    def take_pass() -> Report:
        progress.interrupted = len(pauses) > 2
        return broken.check()

    broken = kernel()
    pfn = broken.optimized[0]
    broken.write_entry(pfn, 3, broken.entry(pfn, 3) | WRITABLE)
    report = confirm(Target(take_pass, always), progress)
    assert report.interrupted and sum(pauses) < 1


def test_one_more_pass_sees_what_was_left() -> None:
    over = iter((False, False, True))
    assert len([*watch(still(), 0, None, Progress(), lambda: next(over))]) == 3


def test_a_tally_has_the_findings_of_all_passes_once() -> None:
    broken = ((False,) * 2, (True,) * 8, (True,) * 8, (False,) * 2)
    tally = Tally()
    states = [state for pass_ in broken for state in pass_]
    firsts = [tally.add(p) for p in watch(passes_over(kernel(), states), 0, 4, Progress())]
    assert firsts == [False, True, False, False]
    report = tally.report()
    assert report is not None and rules(report) == ["tail-writable"]
    assert [finding.rule for finding in tally.broken] == ["tail-writable"]
    assert (tally.passes, tally.findings) == (4, 2)


def test_a_tally_until_a_rule_is_broken_knows_only_this_one() -> None:
    tally = Tally("head-read-only")
    (pass_,) = watch(passes_over(kernel(), (True,) * 8), 0, 1, Progress())
    assert not tally.add(pass_) and tally.broken == []


def test_watching_goes_on_without_a_count() -> None:
    endless = watch(still(), 0, None, Progress())
    assert len(list(islice(endless, 3))) == 3


def test_machines_read_a_line_a_hstate() -> None:
    (pass_,) = watch(still(), 0, 1, Progress())
    documents = [json.loads(line) for line in lines.jsonl(pass_).splitlines()]
    assert [document["hstate"] for document in documents] == [*pass_.counted]
    assert documents[0]["optimized"] == 2 and documents[0]["looks"] == 2


def test_of_a_second_pass_that_the_user_interrupts_the_first_one_is_left() -> None:
    passes = count()

    def take_pass() -> Report:
        return replace(broken.check(), interrupted=next(passes) > 0)

    broken = kernel()
    pfn = broken.optimized[0]
    broken.write_entry(pfn, 3, broken.entry(pfn, 3) | WRITABLE)
    report = confirm(Target(take_pass, always))
    assert report.interrupted and rules(report) == []


def test_a_first_pass_that_the_user_interrupts_is_the_last_one(pauses: list[float]) -> None:
    report = confirm(Target(lambda: replace(kernel().check(), interrupted=True), always))
    assert report.interrupted and pauses == []
