# SPDX-License-Identifier: LGPL-2.1-or-later

"""Long work: shown on a terminal, silent on a pipe, ended by Ctrl-C with what was found so far."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence

import pytest

from drgn_vmemmap import api as examination
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import INCOMPLETE
from drgn_vmemmap.progress import Item, Progress, TerminalProgress
from tests.support import run, vmcore, vmemmap
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, GIB, SECTION_PAGES, Folio, Machine, Section

OFFLINE = {3: Section.OFFLINE, 6: Section.OFFLINE}
"""Between them, memory is in three ranges."""
PFNS = range(FIRST_FOLIO, FIRST_FOLIO + 512 * 800, 1024)
MACHINE = Machine(
    node_size=2 * GIB,
    folios=tuple(Folio(pfn) for pfn in PFNS if pfn // SECTION_PAGES not in OFFLINE),
    sections=OFFLINE,
)


class Impatient(Progress):
    """Work that the user ends after some items of one kind."""

    def __init__(self, what: str, items: int) -> None:
        self._what = what
        self._items = items

    def track(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        for number, item in enumerate(super().track(items, what)):
            if what == self._what and number == self._items:
                self.interrupted = True
                return
            yield item


@pytest.mark.parametrize(
    ("what", "items"),
    (("memmap", 0), ("memmap", 2), ("page tables", 0), ("tails", 1), ("vmemmap", 1), ("frames", 0)),
)
def test_what_was_found_until_the_user_ended_it_is_kept(what: str, items: int) -> None:
    report = examination.verify(Image(MACHINE).prog, progress=Impatient(what, items))
    assert report.interrupted and report.incomplete
    assert not report.broken
    assert len(report.folios) == report.totals.counts.folios <= len(MACHINE.folios)
    assert not any(finding.rule == "count-mismatch" for finding in report.findings)


def test_ctrl_c_ends_the_work_and_a_second_one_the_process() -> None:
    before = signal.getsignal(signal.SIGINT)
    with TerminalProgress() as progress:
        seen = []
        for item in progress.track(range(10), "numbers"):
            seen.append(item)
            if item == 3:
                os.kill(os.getpid(), signal.SIGINT)
        assert seen == [0, 1, 2, 3]
        assert progress.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_report_says_so_and_is_incomplete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prog = Image(MACHINE).prog
    report = examination.examine(prog, progress=Impatient("page tables", 0))
    monkeypatch.setattr(examination, "examine", lambda *_: report)
    assert command_line.run(["report"], prog) == INCOMPLETE
    assert "interrupted" in capsys.readouterr().out


# The bar.

SLOW = """
import time
from drgn_vmemmap.progress import TerminalProgress
with TerminalProgress() as progress:
    for _ in progress.track(range(15), "sections"):
        time.sleep(0.1)
"""


@pytest.mark.long
def test_work_of_more_than_a_second_shows_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("<4H", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", SLOW], stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait() == 0
    assert b"sections" in shown


@pytest.mark.long
def test_on_a_pipe_there_is_no_bar() -> None:
    done = run(sys.executable, "-c", SLOW)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_short_work_shows_nothing() -> None:
    done = vmemmap("-c", vmcore("head-reuse"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command", (("map",), ("verify", "--format", "ktap"), ("verify", "--format", "csv"))
)
def test_each_format_says_that_it_is_not_all(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prog = Image(MACHINE).prog
    report = examination.verify(prog, progress=Impatient("page tables", 0))
    monkeypatch.setattr(examination, "verify", lambda *_, **__: report)
    assert command_line.run(command, prog) == INCOMPLETE
    assert "interrupted" in "".join(capsys.readouterr())


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with TerminalProgress() as progress:
            os.kill(os.getpid(), signal.SIGINT)
            assert not progress.interrupted
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
