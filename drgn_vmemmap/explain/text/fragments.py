# SPDX-License-Identifier: LGPL-2.1-or-later

"""Records that were stored in pieces, or in another order than the kernel's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drgn_vmemmap.explain.text.order import oldest_first

_FRAGMENT = re.compile(
    r"(?P<head>\d{1,4},\d{1,20},\d{1,20},[-c+](?:,[^;\s,]{1,128})*?),"
    r"ncfrag=(?P<offset>\d{1,10})/\d{1,10};"
)

_CONTAINER = re.compile(r"[ \t]*\d{4}-\S{1,40} (?:stdout|stderr) (?P<tag>[FP]) ")

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


def in_order(text: str) -> str:
    """The text with lines, fragments of netconsole and containers, and parts of pstore in order."""
    return _pstore_in_order(_netconsole_joined(_containers_joined(oldest_first(text))))


def _containers_joined(text: str) -> str:
    """Join the lines that a container runtime cut: ``P`` marks all parts but the last one."""
    if " P " not in text:
        return text
    return "".join(_container_pieces(text.split("\n"))).removesuffix("\n")


def _container_pieces(lines: Iterable[str]) -> Iterator[str]:
    is_cut = False
    for line in lines:
        record = _CONTAINER.match(line)
        if is_cut and record is None:
            yield "\n"
        start = record.end() if is_cut and record else 0
        is_cut = record is not None and record["tag"] == "P"
        yield line[start:].rstrip("\r") if is_cut else f"{line[start:]}\n"


def _netconsole_joined(text: str) -> str:
    """
    Join the fragments of each long record, where the first of them stands.

    Follows ``send_fragmented_body()`` of ``drivers/net/netconsole.c``.
    """
    if "ncfrag=" not in text:
        return text
    records: dict[str, dict[int, str]] = {}
    pieces: list[tuple[str, str]] = []
    end = 0
    matches = list(_FRAGMENT.finditer(text))
    for number, match in enumerate(matches):
        pieces.append((text[end : match.start()], ""))
        stop = matches[number + 1].start() if number + 1 < len(matches) else len(text)
        line_end = text.find("\n", match.end(), stop)
        end = stop if line_end < 0 else line_end
        # Each boot counts its records from 0; no two have the same number at the same time.
        key = match["head"]
        if key not in records:
            records[key] = {}
            pieces.append((f"\n{match['head']};", key))
        records[key][int(match["offset"])] = text[match.end() : end].rstrip("\r")
    pieces.append((text[end:], ""))
    return "".join(
        before + ("" if not key else _record(records[key]) + "\n") for before, key in pieces
    )


def _record(fragments: dict[int, str]) -> str:
    return "".join(fragments[offset] for offset in sorted(fragments))


class _Part(NamedTuple):
    """A part of a log from pstore."""

    boot: int
    stored: int
    """How often the kernel had stored its log when it stored this one."""
    order: int
    """Ascending in time: the kernel stores the end of its log as part 1."""
    text: str


def _pstore_in_order(text: str) -> str:
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
    return text[: marks[0].start()] + "".join(_pstore_joined(parts))


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


def _pstore_joined(parts: list[_Part]) -> Iterator[str]:
    for part, later in zip(parts, [*parts[1:], None]):
        yield part.text
        is_cut = later is not None and later[:2] == part[:2]
        if later is None or not is_cut or _LINE_START.match(later.text):
            yield "\n"
