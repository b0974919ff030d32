# SPDX-License-Identifier: LGPL-2.1-or-later

"""Lines of a log as the kernel wrote them: without prefixes, and joined where they were wrapped."""

from __future__ import annotations

import operator
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import BinaryIO, NamedTuple

from drgn_vmemmap.errors import printable
from drgn_vmemmap.explain.text.beginnings import begins_message
from drgn_vmemmap.explain.text.common_start import bare_lines
from drgn_vmemmap.explain.text.decode import decode
from drgn_vmemmap.explain.text.fragments import in_order
from drgn_vmemmap.explain.text.limits import cut_lines, read_ends
from drgn_vmemmap.explain.text.prefixes import without_prefix, without_quotes


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


class Text(NamedTuple):
    """A text with a log."""

    lines: Iterable[Line]
    """May be read more than once."""
    problem: str | None = None
    """Why this may not be all, in words."""


def read_file(file: BinaryIO) -> Text:
    """
    The lines of a log in a file or a pipe: see :func:`read_text()`.

    :raises NotText: if it is no text.
    """
    data, unread = read_ends(file)
    text = read_text(data)
    return text if unread is None else text._replace(problem=unread)


def read_text(data: bytes) -> Text:
    """
    The lines of a log in whatever form it was kept, sent or pasted.

    :raises NotText: if it is no text; the message says so in one line.
    """
    decoded = decode(data)
    text, cut = cut_lines(decoded.text)
    empty = None if text else "the log is empty: what was to write it may have failed"
    return Text(_Lines(text), cut or decoded.problem or empty)


class _Lines:
    """The lines of a decoded text, which are made while they are read: a log may be long."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self) -> Iterator[Line]:
        return logical_lines(self._text)


def record_lines(records: Iterable[tuple[bytes, str | None]]) -> list[Line]:
    """
    The lines of the kernel's own log, which nobody has wrapped.

    :param records: The texts of its records, and who wrote each.
    """
    return [
        Line((Joined(printable(_one_space(line)).strip()),), caller)
        for text, caller in records
        for line in _LINE_END.split(text.decode("utf-8", "replace"))
        if line.strip()
    ]


def logical_lines(text: str) -> Iterator[Line]:
    """Lines of a decoded text."""
    return _joined(_pieces(in_order(text)))


_SPACE = re.compile(r"[ \t\xa0\u2000-\u200a\u202f\u3000\x0b\x0c]+")

_LINE_END = re.compile(r"\r{0,8}\n|\r|\u2028|\u2029|\x85")
_OTHER_LINE_END = re.compile(r"[\r\u2028\u2029\x85]")

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

# A line that ends before the function that it names, or within that.
_WITHOUT_FUNCTION = re.compile(r"(?:(?:^| )\?|\bRIP: [0-9a-f]{4}:[\w.]{0,128}) ?$")

# The two halves of a number that was cut in two.
_NUMBER_END = re.compile(r"(?:(?P<begun>pfn[:= ] ?|0x))?(?P<digits>[0-9a-f]+)$", re.IGNORECASE)
_NUMBER_START = re.compile(
    r"(?P<digits>[0-9a-f]{1,15})(?![0-9a-z_/-]|[:.][0-9]| [a-z]{3} {1,2}\d)",
    re.IGNORECASE,
)
_POINTER_DIGITS = 16
_NUMBER_LIMIT = 40

# A number that a virtual machine's console may put before each line, such as its seconds.
_CONSOLE_NUMBER = re.compile(r"\d{1,8} ")

_NEAR = 8
"""How many lines before and after one show whether it reached the margin."""

_BLOCK_SIZE = 1 << 22
_GROUPS_AT_ONCE = 1 << 14

_LENGTH_LIMIT = 4096
"""The longest line that is joined, in characters."""


class _Piece(NamedTuple):
    """A line of the text."""

    text: str
    is_record: bool
    """Whether a logger's prefix says that a record begins here."""
    width: int
    """Characters of the line."""
    caller: str | None = None


def _one_space(line: str) -> str:
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
        lines = _LINE_END.split(block) if _OTHER_LINE_END.search(block) else block.split("\n")
        start = end
        if start < len(text):
            # After the line end that the block ends with.
            lines.pop()
        yield lines


def _pieces(text: str) -> Iterator[_Piece]:
    for line in (line for block in _blocks(text) for line in bare_lines(block)):
        if not line.strip():
            yield _Piece("", False, 0)
            continue
        words = _one_space(without_quotes(line))
        if _FIELD.match(words):
            continue
        bare = without_prefix(words)
        prefix = words[: len(words) - len(bare)]
        # A line that was cut after a space still ends in one.
        end = " " if line[-1] == " " != line[-2:-1] else ""
        yield _Piece(printable(bare) + end, bool(prefix), len(line), _writer(prefix))


def _writer(prefix: str) -> str | None:
    """Who wrote a line, as the prefixes before it say: a host, and a task or a processor."""
    host, caller = _HOST.search(prefix), _CALLER.search(prefix)
    names = (host and host[1], caller and (caller[1] or caller[2]))
    return " ".join(filter(None, names)) or None


def _groups(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """The pieces of each line; none for a blank one."""
    group: list[_Piece] = []
    length = 0
    for piece in pieces:
        if group and (length > _LENGTH_LIMIT or not _continues(group, piece)):
            yield group
            group, length = [], 0
        if piece.text.strip():
            group.append(piece)
            length += len(piece.text)
        else:
            yield []
    if group:
        yield group


def _continues(group: Sequence[_Piece], piece: _Piece) -> bool:
    """Whether a line continues those before it, which a mailer or a terminal has wrapped."""
    text = piece.text.lstrip()
    if not text or piece.is_record:
        return False
    if not begins_message(text):
        return not _are_numbered_alike(group[0].text, text)
    return _WITHOUT_FUNCTION.search("".join(before.text for before in group[-2:])) is not None


def _are_numbered_alike(first: str, text: str) -> bool:
    """Whether two lines are messages after numbers of as many digits, such as a console's time."""
    one, other = _CONSOLE_NUMBER.match(first), _CONSOLE_NUMBER.match(text)
    if one is None or other is None or one.end() != other.end():
        return False
    return begins_message(first[one.end() :]) and begins_message(text[other.end() :])


def _joined(pieces: Iterable[_Piece]) -> Iterator[Line]:
    groups = _groups(pieces)
    while some := list(islice(groups, _GROUPS_AT_ONCE)):
        widths = [piece.width for group in some for piece in group[:-1]]
        # Lines that all end at one margin were cut there; mailers wrap where words end.
        is_cut = len(widths) > 1 and len(set(widths)) == 1
        for is_blank, paragraph in groupby(some, key=operator.not_):
            if not is_blank:
                yield from _lines_of(list(paragraph), is_cut)


def _lines_of(paragraph: Sequence[list[_Piece]], is_cut: bool) -> Iterator[Line]:
    """
    Lines between two blank ones.

    :param is_cut: All that continue were cut at one margin.
    """
    widths, start = [piece.width for group in paragraph for piece in group], 0
    for group in paragraph:
        lines = range(start, start + len(group))
        yield _line(group, is_cut, _at_margin(widths, lines) if len(group) > 1 else ())
        start = lines.stop


def _at_margin(widths: Sequence[int], lines: range) -> list[bool]:
    """
    Of each of some lines, whether it may have been cut within a word where it ends.

    A line that was cut is as long as the longest line near it. If several are as long as it, one
    longer line may be two of them: decoding joins lines that end in ``=``.

    :param widths: Of all lines of the paragraph.
    """
    found = []
    for line in lines:
        width, near = widths[line], widths[max(0, line - _NEAR) : line + _NEAR + 1]
        longer = sum(other > width for other in near)
        found.append(longer == 0 or (longer == 1 and near.count(width) > 1))
    return found


def _line(parts: list[_Piece], is_cut: bool, at_margin: Sequence[bool]) -> Line:
    if len(parts) == 1:
        return Line((Joined(parts[0].text.strip()),), parts[0].caller)
    forms = _at_spaces(parts, at_margin), _within_words(parts, at_margin)
    return Line(forms[::-1] if is_cut else forms, parts[0].caller)


def _at_spaces(parts: list[_Piece], at_margin: Sequence[bool]) -> Joined:
    """Parts of a line that was wrapped at spaces, or within numbers."""
    text, starts = "", []
    for part, may_be_cut in zip(parts, (False, *at_margin)):
        if text and not _is_cut_number(text, part.text, may_be_cut):
            text += " "
        starts.append(len(text))
        text += part.text.strip()
    return Joined(text, tuple(starts))


def _within_words(parts: list[_Piece], at_margin: Sequence[bool]) -> Joined:
    """Parts of a line that was wrapped wherever it reached a margin."""
    text, starts = "", []
    for part, may_be_cut in zip(parts, (False, *at_margin)):
        is_cut = may_be_cut or text.endswith(" ") or _is_cut_number(text, part.text, may_be_cut)
        if text and not is_cut:
            text += " "
        starts.append(len(text))
        text += part.text
    return Joined(text, tuple(starts))


def _is_cut_number(before: str, after: str, may_be_cut: bool) -> bool:
    """
    Whether what ends here and what begins there are the halves of one number.

    :param may_be_cut: Whether the line reached the margin where it ends.
    """
    start = _NUMBER_START.match(after)
    end = _NUMBER_END.search(before[-_NUMBER_LIMIT:])
    if start is None or end is None:
        return False
    if len(end["digits"]) + len(start["digits"]) == _POINTER_DIGITS:
        return True
    # No other number follows one that begins with 0x, nor a PFN.
    return may_be_cut and bool(end["begun"]) and len(end["digits"]) < _POINTER_DIGITS
