# SPDX-License-Identifier: LGPL-2.1-or-later

"""Logs that the kernel stored in pstore: in parts, the end of the log as the first part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_PART = re.compile(
    r"^(?P<kind>[A-Z][a-z]{2,12})#(?P<count>\d{1,10})[ \t]Part(?P<part>\d{1,10})[ \t]{0,8}\r?$",
    re.MULTILINE,
)

# Quote marks and spaces before each line where parts were quoted or indented.
_QUOTED_PART = re.compile(
    r"^(?P<quote>[ \t>|]{1,64})[A-Z][a-z]{2,12}#\d{1,10}[ \t]Part\d", re.MULTILINE
)

# Each line in pstore begins with its level.
_LINE_START = re.compile(r"\s*<\d{1,3}>")


class _Part(NamedTuple):
    """A part of a log from pstore."""

    boot: int
    stored: int
    """How often the kernel had stored its log when it stored this one."""
    order: int
    """Ascending in time: the kernel stores the end of its log as part 1."""
    text: str


def pstore_in_order(text: str) -> str:
    """Put the parts of logs from pstore in order; a part may end within a line."""
    quoted = _QUOTED_PART.search(text)
    if quoted:
        text = re.sub("^" + re.escape(quoted["quote"]), "", text, flags=re.MULTILINE)
    marks = list(_PART.finditer(text))
    if len(marks) < 2:
        return text
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    parts = [
        _Part(boot, int(mark["count"]), -int(mark["part"]), text[mark.end() : end].strip("\r\n"))
        for boot, mark, end in zip(_boots(marks), marks, ends)
    ]
    parts.sort(key=lambda part: part[:3])
    return text[: marks[0].start()] + "".join(_joined(parts))


def _boots(marks: Iterable[re.Match[str]]) -> Iterator[int]:
    """The boot that stored each part, by a number: each boot counts how often it stores its log."""
    boot = 0
    kinds: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for mark in marks:
        kind, count, part = mark["kind"], mark["count"], mark["part"]
        if (count, part) in seen or kinds.get(count, kind) != kind:
            boot += 1
            kinds.clear()
            seen.clear()
        kinds[count] = kind
        seen.add((count, part))
        yield boot


def _joined(parts: list[_Part]) -> Iterator[str]:
    for part, later in zip(parts, [*parts[1:], None]):
        yield part.text
        is_cut = later is not None and later[:2] == part[:2]
        if later is None or not is_cut or _LINE_START.match(later.text):
            yield "\n"
