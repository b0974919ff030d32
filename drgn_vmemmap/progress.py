# SPDX-License-Identifier: LGPL-2.1-or-later

"""Work that takes long: shown while it is done, and ended where the user says so."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import TypeVar

Item = TypeVar("Item")


class Progress:
    """Work that nobody watches."""

    interrupted = False
    """Whether the user ended it: what was found is not all."""

    def track(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """
        Give items one by one, as long as the user does not end the work.

        :param items: What the work is done on.
        :param what: What it is, in a word or two.
        """
        for item in items:
            if self.interrupted:
                return
            yield item


SILENT = Progress()


class TerminalProgress(Progress):
    """
    Work at a terminal: what takes longer than a second shows a bar, and Ctrl-C ends it.

    The bar is tqdm's, where that is installed; a second Ctrl-C ends the process.
    """

    def __enter__(self) -> TerminalProgress:
        try:
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        except ValueError:
            self._handler = None  # not the main thread
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

    def _restore(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def track(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        if not sys.stderr.isatty():
            return super().track(items, what)
        try:
            from tqdm import tqdm
        except ImportError:
            return super().track(items, what)
        bar = tqdm(super().track(items, what), what, len(items), delay=1, leave=False)
        return iter(bar)
