# SPDX-License-Identifier: LGPL-2.1-or-later

"""The progress of work that takes long: shown while it is done, and ended when the user says so."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Callable, TypeVar

Item = TypeVar("Item")
Self = TypeVar("Self", bound="InterruptibleProgress")
# How soon an interrupt is seen while nothing is done, in seconds.
_STEP = 0.1


class Progress:
    """Progress that is not shown, of work that nobody interrupts."""

    interrupted = False
    """Whether the user ended the work: its result is incomplete."""

    def track(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """
        Yield items one by one, until the user ends the work.

        :param items: What the work is done on.
        :param what: What they are, in a word or two.
        """
        for item in items:
            if self.interrupted:
                return
            yield item

    @contextlib.contextmanager
    def abortable(self) -> Iterator[None]:
        """A context whose work an interrupt aborts at once, wherever it is; it has no result."""
        yield

    def pause(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """
        Do nothing for some time, or until the user ends the work.

        :param is_over: Asked again and again; the pause ends once it returns true.
        """
        steps = math.ceil(seconds / _STEP)
        for _ in range(steps):
            if self.interrupted or is_over():
                return
            time.sleep(seconds / steps)


SILENT = Progress()


class Interrupted(KeyboardInterrupt):
    """The user ended work that is abortable."""


class InterruptibleProgress(Progress):
    """
    The progress of work that Ctrl-C ends.

    A second Ctrl-C ends the process.
    """

    def __init__(
        self,
        signals: Sequence[int] = (signal.SIGINT,),
        forward: Callable[[int], None] = lambda number: None,
    ) -> None:
        """
        :param signals: Numbers of the signals that end the work.
        :param forward: Called with the number of the one that came.
        """
        self._signals = signals
        self._forward = forward
        self._handlers: dict[int, Any] = {}
        self._aborts = False

    def __enter__(self: Self) -> Self:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in self._signals:
                # Ignored signals stay ignored, as under nohup; a handler that is not Python's
                # could not be restored.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _interrupt(self, signal_number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self._restore()
        self._forward(signal_number)
        if self._aborts:
            raise Interrupted

    @contextlib.contextmanager
    def abortable(self) -> Iterator[None]:
        with contextlib.suppress(Interrupted):
            self._aborts = True
            try:
                yield
            finally:
                self._aborts = False

    def _restore(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())


class TerminalProgress(InterruptibleProgress):
    """
    The progress of work at a terminal: what takes longer than a second shows a bar.

    The bar is tqdm's, where that is installed.
    """

    def track(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        if not sys.stderr.isatty():
            return super().track(items, what)
        try:
            from tqdm import tqdm
        except ImportError:
            return super().track(items, what)
        bar = tqdm(super().track(items, what), what, len(items), delay=1, leave=False)
        return iter(bar)
