# SPDX-License-Identifier: LGPL-2.1-or-later

"""The record of a line of a log as the kernel wrote it."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class Joined(NamedTuple):
    """Consecutive lines of a text as one."""

    text: str
    """Printable; words are apart by one space."""
    starts: tuple[int, ...] = (0,)
    """Where in it each of the lines begins."""

    def around(self, start: int, end: int) -> str:
        """The lines that a part of the text is in."""
        first = self.starts[max(0, bisect_right(self.starts, start) - 1)]
        after = bisect_right(self.starts, end - 1)
        return self.text[first : self.starts[after] if after < len(self.starts) else None].strip()


class Line(NamedTuple):
    """A line as the kernel wrote it."""

    forms: tuple[Joined, ...]
    """
    The line; if mailers may have wrapped it, joined as if at spaces, and as if within words.
    """
    caller: str | None = None
    """The host, and the task (``T71``) or processor (``C0``), that wrote it, if the log says so."""
