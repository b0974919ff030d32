# SPDX-License-Identifier: LGPL-2.1-or-later

"""A command that runs while a kernel is watched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

# How long a command may take to end when it is asked to, in seconds.
_PATIENCE = 5.0


class NoChild:
    """No command: nothing ends by itself."""

    def is_over(self) -> bool:
        """Whether it has ended."""
        return False

    def send(self, number: int) -> None:
        """Send it a signal that is to end it."""

    def wait(self) -> int:
        """Wait for its end; return its exit code, as a shell has it."""
        return 0

    def stop(self) -> None:
        """End it, and wait for its end."""


class Child(NoChild):
    """
    A command that runs.

    It has a process group of its own: Ctrl-C reaches it through us, once, and with it all
    processes that it started. Its output goes to standard error, apart from results.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """
        :raises OSError: if it cannot be started.
        """
        # A process group in the background must not read from the terminal.
        stdin = subprocess.DEVNULL if sys.stdin.isatty() else None
        self._process = subprocess.Popen(words, stdin=stdin, stdout=2, preexec_fn=os.setpgrp)

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def send(self, number: int) -> None:
        if not self.is_over():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
                # It may have been stopped, as when it asked the terminal for something.
                os.killpg(self._process.pid, signal.SIGCONT)

    def wait(self) -> int:
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        self.send(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()


@contextlib.contextmanager
def running(words: Sequence[str] | None) -> Iterator[NoChild]:
    """
    Run a command, and wait for its end; where watching fails, end it.

    :param words: The command, if there is one.
    :raises OSError: if it cannot be started.
    """
    child = Child(words) if words else NoChild()
    try:
        yield child
    except BaseException:
        child.stop()
        raise
    child.wait()
