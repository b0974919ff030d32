# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Dumps that can crash their reader are read in a child process.

libkdumpfile maps a dump. Where damage leads it from a page of the file to one beyond its end, the
kernel ends the process by SIGBUS, which is no exception.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from drgn_vmemmap.cli.exit_codes import CANNOT, fail

_CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

_PASSED_ON = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}


def continue_in_child(paths: Iterable[str]) -> None:
    """
    Continue in a child process if libkdumpfile will read some of these files.

    The parent never returns: it ends as its child does, or says in one line that this crashed.
    """
    from drgn_vmemmap.target.dump_file import is_kdump

    dumps = [path for path in paths if is_kdump(path)]
    if not dumps:
        return
    awaited = {signal.SIGCHLD, *_PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    parent = os.getpid()
    child = os.fork()
    if child:
        _end_like(_status(child, awaited), dumps)
    _end_with(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """
    Let the kernel end this process when its parent ends.

    SIGKILL, as a time limit sends it, reaches the parent alone, which cannot pass it on.
    """
    with contextlib.suppress(ImportError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(CANNOT)


def _status(child: int, awaited: set[signal.Signals]) -> int:
    """How a child ended, as :func:`os.waitpid()` says it."""
    while True:
        received = signal.sigwaitinfo(awaited)
        if received.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
        elif received.si_code <= 0:
            # Sent by a process to this one alone; a terminal sends its signals to both.
            os.kill(child, received.si_signo)


def _end_like(status: int, dumps: Sequence[str]) -> NoReturn:
    """End this process as its child ended."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number = signal.Signals(os.WTERMSIG(status))
    if number in _CRASHES:
        code = fail(CANNOT, f"{_damage(dumps)} ({number.name})")
        sys.stderr.flush()
        os._exit(code)
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    # The first process of a container is not ended by signals that it sends to itself.
    os._exit(128 + number)


def _damage(dumps: Sequence[str]) -> str:
    """What is wrong: a dump is cut off, or one of them is damaged."""
    from drgn_vmemmap.target.program import what_is_cut_off

    for path in dumps:
        reason = what_is_cut_off(path)
        if reason is not None:
            return f"{path} cannot be read: it {reason}"
    return f"{' or '.join(dumps)} cannot be read: it is damaged"
