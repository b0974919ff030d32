# SPDX-License-Identifier: LGPL-2.1-or-later

"""The process of a command line: its streams, its signals, its garbage and its end."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

# After how many new objects the garbage collector runs. Python's default is some hundreds.
_GARBAGE_THRESHOLD = 50_000


@contextlib.contextmanager
def little_garbage_collection() -> Iterator[None]:
    """
    Collect garbage seldom, as most of a command's objects live until its end; and not at the end of
    the process, when Python would look at all objects several times.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def end(code: int) -> NoReturn:
    """
    End this process at once.

    Python would free all objects one by one first: a tenth of the time that a short command takes.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def let_interrupts_end_this_process() -> None:
    """
    Let Ctrl-C end this process at once: there is no result yet.

    drgn does not see it while it waits for QEMU. Where it loads plugins, it prints a traceback and
    goes on.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def let_interrupts_raise() -> None:
    """Let Ctrl-C raise an exception, which a command says in one line."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def see_how_children_end() -> None:
    """
    Undo that this process was started with SIGCHLD ignored.

    How a child ends would be lost, and to wait for the one that reads a dump would take for ever.
    """
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def occupy_standard_streams() -> None:
    """
    Open the standard streams that are closed.

    No file that is opened later, such as the dump, takes their place. Input is empty, messages
    go nowhere, and writing a result fails, which is reported.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def buffer_standard_output() -> None:
    """
    Undo ``python -u`` and ``PYTHONUNBUFFERED`` for standard output.

    Without a buffer, Python loses what one write does not take, as on a disk that becomes full,
    and says nothing.
    """
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors, closefd=False)
