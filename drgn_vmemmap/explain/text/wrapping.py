# SPDX-License-Identifier: LGPL-2.1-or-later

"""Lines joined where a mailer or a terminal has wrapped them."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

from drgn_vmemmap.explain.text.beginnings import begins_message
from drgn_vmemmap.explain.text.line import Joined, Line
from drgn_vmemmap.explain.text.pieces import Piece

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

_GROUPS_AT_ONCE = 1 << 14

_LENGTH_LIMIT = 4096
"""The longest line that is joined, in characters: to quote parts of it must cost little."""


def unwrapped(pieces: Iterable[Piece]) -> Iterator[Line]:
    """The lines that the kernel wrote."""
    groups = _groups(pieces)
    while some := list(islice(groups, _GROUPS_AT_ONCE)):
        widths = [piece.width for group in some for piece in group[:-1]]
        # Lines that all end at one margin were cut there; mailers wrap where words end.
        is_cut = len(widths) > 1 and len(set(widths)) == 1
        for is_blank, paragraph in groupby(some, key=operator.not_):
            if not is_blank:
                yield from _lines_of(list(paragraph), is_cut)


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces of each line; none for a blank one."""
    group: list[Piece] = []
    length = 0
    for piece in pieces:
        length += len(piece.text)
        if group and (length > _LENGTH_LIMIT or not _continues(group, piece)):
            yield group
            group, length = [], len(piece.text)
        if piece.text.strip():
            group.append(piece)
        else:
            yield []
    if group:
        yield group


def _continues(group: Sequence[Piece], piece: Piece) -> bool:
    """Whether a piece continues those before it."""
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


def _lines_of(paragraph: Sequence[list[Piece]], is_cut: bool) -> Iterator[Line]:
    """
    Lines between two blank ones.

    :param is_cut: All that continue were cut at one margin.
    """
    widths, start = [piece.width for group in paragraph for piece in group], 0
    for group in paragraph:
        numbers = range(start, start + len(group))
        yield _line(group, is_cut, _at_margin(widths, numbers) if len(group) > 1 else ())
        start = numbers.stop


def _at_margin(widths: Sequence[int], numbers: range) -> list[bool]:
    """
    Of each of some pieces, whether it may have been cut within a word where it ends.

    A piece that was cut is as long as the longest one near it. If several are as long as it, one
    longer piece may be two of them: decoding joins lines that end in ``=``.

    :param widths: Of all pieces of the paragraph.
    """
    found = []
    for number in numbers:
        width, near = widths[number], widths[max(0, number - _NEAR) : number + _NEAR + 1]
        longer = sum(other > width for other in near)
        found.append(longer == 0 or (longer == 1 and near.count(width) > 1))
    return found


def _line(group: Sequence[Piece], is_cut: bool, at_margin: Sequence[bool]) -> Line:
    if len(group) == 1:
        return Line((Joined(group[0].text.strip()),), group[0].caller)
    at_spaces, within_words = (_joined(group, at_margin, within) for within in (False, True))
    forms = (within_words, at_spaces) if is_cut else (at_spaces, within_words)
    return Line(forms, group[0].caller)


def _joined(group: Iterable[Piece], at_margin: Sequence[bool], within_words: bool) -> Joined:
    """
    The pieces of a line that was wrapped at spaces, or within numbers.

    :param within_words: It was wrapped wherever it reached a margin, or after a space.
    """
    text, starts = "", []
    for piece, may_be_cut in zip(group, (False, *at_margin)):
        is_cut = _is_cut_number(text, piece.text, may_be_cut)
        if within_words:
            is_cut = is_cut or may_be_cut or text.endswith(" ")
        if text and not is_cut:
            text += " "
        starts.append(len(text))
        text += piece.text if within_words else piece.text.strip()
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
