# SPDX-License-Identifier: LGPL-2.1-or-later

"""Runs a command on damaged input, and checks what an answer must be, whatever the input is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import drgn
import drgn.cli  # before a child of this process does

from drgn_vmemmap.cli import command_line, launcher

SECONDS = 20
"""Processor time that one input may take; a sound one takes 0.2 seconds at most."""

BYTES = 1 << 30
"""Memory that one input may take."""

# Growth of the input, and how many times its cost may grow by then.
_TIMES, _COST = 4, 10
_SMALL = 0.1

_CODES = {
    "verify": {0, 1, 2, 3},
    "map": {0, 1, 2, 3},
    "diff": {0, 1, 2, 3},
}
"""Exit codes of commands; those of others are 0, 2 and 3."""


class Failure(Exception):
    """An answer that no input may lead to."""


class Answer(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: bytes
    err: bytes


_parsed = cache(command_line.parse)
"""Building the parser takes longer than most commands."""


def check(answer: Answer, command: str) -> None:
    """
    :raises Failure: if this is no answer of a command.
    """
    err = answer.err.decode()
    text = answer.out.decode() + err
    # Damaged facts of a kernel may ask for more memory than there is; nothing after them may.
    if any(words in err for words in ("internal error", "Traceback", "this needs more memory")):
        raise Failure(err)
    if answer.code not in _CODES.get(command, {0, 2, 3}):
        raise Failure(f"{command} ended with {answer.code}")
    unprintable = {char for line in text.split("\n") for char in line if not char.isprintable()}
    if unprintable:
        raise Failure(f"{sorted(unprintable)} is written to the terminal")
    if answer.code == 2 and (answer.out or len(err.splitlines()) != 1):
        raise Failure(f"more than one line says why {command} cannot be done:\n{text}")


def _check_json(text: bytes) -> None:
    def refuse(word: str) -> None:
        raise Failure(f"{word} is no JSON")

    json.loads(text, parse_constant=refuse)


def run(*words: str, prog: drgn.Program | None = None, stdin: bytes = b"") -> None:
    """
    Run a command in this process.

    :param words: The command and its arguments.
    :raises Failure: if its answer is none.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    text = io.TextIOWrapper(io.BytesIO(stdin))
    with limited(), mock.patch.multiple(sys, stdin=text, stdout=out, stderr=err):
        code = command_line.execute(_parsed(words), prog)
    results = []
    for stream in (out, err):
        stream.flush()
        results.append(stream.buffer.getvalue())
    check(Answer(code, *results), words[0])
    if "json" in words and results[0]:
        _check_json(results[0])


def run_in_child(*words: str) -> None:
    """
    Run the shell's entry point in a child of this process, which may crash.

    :param words: Words of the command line; the command is the last.
    :raises Failure: if its answer is none, or it crashes.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _be_command(words, out.fileno(), err.fileno())
        code = _wait(child)
        out.seek(0)
        err.seek(0)
        answer = Answer(code, out.read(), err.read())
    if code < 0:
        raise Failure(f"{' '.join(words)}: {signal.Signals(-code).name}")
    check(answer, words[-1])


def _be_command(words: Sequence[str], out: int, err: int) -> None:
    """Become the command; the process ends with it."""
    code: object = -1
    try:
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        limit_memory()
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["drgn-vmemmap", *words]
        try:
            code = launcher.run()
        except SystemExit as exit_:
            code = exit_.code
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 1)


def _wait(child: int) -> int:
    """The exit code of a child; negative for the signal that ended it."""
    deadline = time.monotonic() + 3 * SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """
    Limit time and memory.

    :raises Failure: if what is done takes more.
    """
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    start, before = time.process_time(), _most_memory()
    yield
    seconds, taken = time.process_time() - start, _most_memory() - before
    if seconds > SECONDS:
        raise Failure(f"it takes {seconds:.1f} seconds")
    if taken > BYTES:
        raise Failure(f"it takes {taken:,} bytes")


def _most_memory() -> int:
    """The most memory that this process had since that is counted, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def limit_memory() -> None:
    """Limit what this process takes from now on."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * BYTES, resource.RLIM_INFINITY))


def check_growth(work: Callable[[int], object]) -> None:
    """
    :param work: Does some work, given how many times more than usual.
    :raises Failure: if its time grows much faster than that.
    """
    costs: list[tuple[float, float]] = []
    for _ in range(3):
        costs.append((_seconds(work, 1), _seconds(work, _TIMES)))
        one, more = map(min, zip(*costs))
        if more <= one * _COST + _SMALL:
            return
    raise Failure(f"{_TIMES} times as much takes {more / one:.1f} times as long: {more:.3f} s")


def _seconds(work: Callable[[int], object], times: int) -> float:
    start = time.process_time()
    work(times)
    return time.process_time() - start
