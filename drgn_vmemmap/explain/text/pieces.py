# SPDX-License-Identifier: LGPL-2.1-or-later

"""The lines of a text, each by itself: without prefixes, with its width and who wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.errors import printable
from drgn_vmemmap.explain.text.common_start import bare_lines
from drgn_vmemmap.explain.text.prefixes import without_prefix, without_quotes

LINE_END = re.compile(r"\r{0,8}\n|\r|\u2028|\u2029|\x85")
_OTHER_LINE_END = re.compile(r"[\r\u2028\u2029\x85]")

_SPACE = re.compile(r"[ \t\xa0\u2000-\u200a\u202f\u3000\x0b\x0c]+")

# CONFIG_PRINTK_CALLER: on a console, and in /dev/kmsg and netconsole.
_CALLER = re.compile(r"\[ ?([TC]\d{1,10})\]|\bcaller=([TC]\d{1,10})")

# Syslog's host, by its name or its IPv4 address. In its place may be what differs from line to
# line: a level, a processor, or a time in seconds.
_HOST = re.compile(
    r"(?:^| )(?!(?:(?:\w+\.)?(?:emerg|panic|alert|crit|err|severe|fatal|warn|notice|info|debug)\w*"
    r"|(?-i:[A-Z])|cpu\d+) )"
    r"((?:[a-z]|(?:\d{1,3}\.){3}\d)[\w.-]{0,254}) (?:kernel|klogd)(?:\[\d+\])?:",
    re.IGNORECASE,
)

# Lines of /dev/kmsg and netconsole after a record, and of journalctl -o verbose around one: its
# device, who wrote it, and where.
_FIELD = re.compile(
    r" (?:(?:SUBSYSTEM|DEVICE|cpu|taskname|release|msgid)=\S+$"
    r"|(?:_[A-Z_]{2,64}|PRIORITY|SYSLOG_[A-Z]{2,32})=)"
)

_BLOCK_SIZE = 1 << 22


class Piece(NamedTuple):
    """A line of the text: all of a line of the kernel's, or a piece of one that was wrapped."""

    text: str
    """Without prefixes; empty for a blank line."""
    is_record: bool
    """Whether a logger's prefix says that a record begins here."""
    width: int
    """Characters of the line in the text."""
    caller: str | None = None
    """See :class:`drgn_vmemmap.explain.text.line.Line`."""


def pieces(text: str) -> Iterator[Piece]:
    """The lines of a text, but for those that only describe a record."""
    for line in (line for block in _blocks(text) for line in bare_lines(block)):
        if not line.strip():
            yield Piece("", False, 0)
            continue
        words = one_space(without_quotes(line))
        if _FIELD.match(words):
            continue
        bare = without_prefix(words)
        prefix = words[: len(words) - len(bare)]
        # A line that was cut after a space still ends in one.
        end = " " if line[-1] == " " != line[-2:-1] else ""
        yield Piece(printable(bare) + end, bool(prefix), len(line), _writer(prefix))


def one_space(line: str) -> str:
    """A line whose words are apart by one space."""
    if line.isprintable() and line.isascii() and "  " not in line:
        return line
    return _SPACE.sub(" ", line)


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of a text, some megabytes at a time."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK_SIZE) + 1 or len(text)
        block = text[start:end]
        lines = LINE_END.split(block) if _OTHER_LINE_END.search(block) else block.split("\n")
        start = end
        if start < len(text):
            # After the line end that the block ends with.
            lines.pop()
        yield lines


def _writer(prefix: str) -> str | None:
    """The host, and the task or processor, that wrote a line, by the prefixes before it."""
    host, caller = _HOST.search(prefix), _CALLER.search(prefix)
    names = (host and host[1], caller and (caller[1] or caller[2]))
    return " ".join(filter(None, names)) or None
