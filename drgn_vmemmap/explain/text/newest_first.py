# SPDX-License-Identifier: LGPL-2.1-or-later

"""Logs whose newest line is the first one, as ``journalctl -r`` and collectors give them."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The time that the kernel gave a line, and that of a logger.
_TIMES = (
    re.compile(r"\[ {0,12}(\d{1,12}\.\d{6})\]"),
    re.compile(r"((?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)"),
)

# The first characters of a text show in which order its lines are.
_SAMPLE = 1 << 15
_LEAST = 3
_SHARE = 0.9
_TIMED_SHARE = 0.5


def oldest_first(text: str) -> str:
    """
    The text with its oldest line first, if the times of nearly all of its lines descend.

    Logs that follow each other, the newest one first, stay as they are: the kernel's times ascend
    within each, while a logger's, which often are the same in all lines of one, descend. In a log
    of several hosts, the kernels' times ascend about as often as they descend.
    """
    sample = [line for line in text[:_SAMPLE].split("\n") if line.strip()]
    for pattern in _TIMES:
        falling, rising = _changes(sample, pattern)
        if falling >= _LEAST and falling >= (falling + rising) * _SHARE:
            return "\n".join(_reversed(text.rstrip("\n").split("\n"), pattern))
        if rising > 2 * falling:
            return text
    return text


def _changes(lines: list[str], pattern: re.Pattern[str]) -> tuple[int, int]:
    """How often a line's time is before, and after, that of the line above it."""
    matches = [match for match in map(pattern.search, lines) if match]
    if len(matches) < len(lines) * _TIMED_SHARE:
        return 0, 0
    times: list[str] = [match[1].zfill(32) for match in matches]
    falling = sum(time > next_ for time, next_ in zip(times, times[1:]))
    rising = sum(time < next_ for time, next_ in zip(times, times[1:]))
    return falling, rising


def _reversed(lines: list[str], pattern: re.Pattern[str]) -> Iterator[str]:
    """The lines from the last time to the first one, each with the lines below it."""
    starts = [number for number, line in enumerate(lines) if pattern.search(line)]
    yield from lines[: starts[0]]
    for first, end in zip(reversed(starts), [len(lines), *reversed(starts)]):
        yield from lines[first:end]
