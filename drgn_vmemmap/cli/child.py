# SPDX-License-Identifier: LGPL-2.1-or-later

"""A command that runs while a kernel is watched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

# How long a command may take to end when it is asked to, in seconds.
_PATIENCE = 5.0


class NoChild:
    """No command: nothing ends by itself."""

    def is_over(self) -> bool:
        """Whether it has ended."""
        return False

    def send(self, number: int) -> None:
        """Send it a signal."""

    def wait(self) -> int:
        """Wait for its end; return its exit code, as a shell has it."""
        return 0

    def __enter__(self) -> NoChild:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it where watching has failed, and wait for its end."""


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

    def wait(self) -> int:
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception is None:
            self.wait()
            return
        self.send(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()
