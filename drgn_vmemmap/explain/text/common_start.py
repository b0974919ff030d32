# SPDX-License-Identifier: LGPL-2.1-or-later

"""Text that nearly all lines of a log begin with: numbers, marks, an indent, a logger's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import lt

from drgn_vmemmap.explain.text.beginnings import begins_message
from drgn_vmemmap.explain.text.prefixes import without_prefix, without_quotes

# Lines around a log in a post: fences of Markdown, tags of HTML, and empty lines.
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})|\s*</?\w+>\s*$|\s*$")

# cat -n, grep -n and pagers put the number of each line before it; grep -A has a dash after it.
_NUMBER = re.compile(r"[ \t]*(?P<number>\d{1,8})(?:[:\t-]|[ \t](?=[ \t]*\S))")
_NUMBERED_SHARE = 0.9

# ABRT's colon, and KTAP's #.
_MARKS = (re.compile(r":"), re.compile(r"(?:# )+"))
_MARKED_SHARE = 0.8

# The fewest lines that show that a number or a mark is none of the kernel's.
_LEAST = 3

_DIGITS = re.compile(r"\d+")
_SAMPLE = 256
# Characters that the known prefixes of the kernel's lines do not have.
_LOGGER = re.compile(r"[^\d\s\[\]<>.,:@+-]")
_BOUNDARY = re.compile(r"[^\w-]")
_BOUNDARIES_LIMIT = 6


def bare_lines(lines: Sequence[str]) -> Iterator[str]:
    """Lines without the text that nearly all of them, or all in a paragraph, begin with."""
    bare = _bare(lines)
    if bare is not lines:
        yield from bare
        return
    for is_apart, group in groupby(lines, key=lambda line: bool(_FENCE.match(line))):
        paragraph = list(group)
        yield from paragraph if is_apart else _bare(_without_indent(paragraph))


def _bare(lines: Sequence[str]) -> Sequence[str]:
    return _without_words(_without_marks(_without_numbers(lines)))


def _without_start(lines: Iterable[str], start: re.Pattern[str]) -> list[str]:
    """Lines without their start, where it is of this form."""
    matches = ((line, start.match(line)) for line in lines)
    return [line[match.end() :] if match else line for line, match in matches]


# An indent.


def _without_indent(lines: Sequence[str]) -> Sequence[str]:
    """Lines of a paragraph without its quote marks, and without the indent of all of them."""
    lines = [_without_quotes(line) for line in lines]
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    least = min(indents, key=len)
    if not all(indent.startswith(least) for indent in indents):
        return lines
    return [line[len(least) :] for line in lines]


def _without_quotes(line: str) -> str:
    """A line without quote marks; where it was cut after a space, it still ends in one."""
    return without_quotes(line) + line[len(line.rstrip(" ")) :]


# Numbers and marks.


def _without_numbers(lines: Sequence[str]) -> Sequence[str]:
    """Lines without their numbers, if nearly all have ascending ones."""
    filled = [line for line in lines if line.strip()]
    matches = [match for match in map(_NUMBER.match, filled) if match]
    if len(matches) < max(_LEAST, len(filled) * _NUMBERED_SHARE):
        return lines
    numbers = [int(match["number"]) for match in matches]
    ascending = sum(map(lt, numbers, numbers[1:]))
    if ascending < (len(numbers) - 1) * _NUMBERED_SHARE:
        return lines
    return _without_start(lines, _NUMBER)


def _without_marks(lines: Sequence[str]) -> Sequence[str]:
    """Lines without a mark that nearly all of them begin with."""
    filled = [line for line in lines if line.strip()]
    for mark in _MARKS:
        if sum(map(bool, map(mark.match, filled))) >= max(_LEAST, len(filled) * _MARKED_SHARE):
            return _without_start(lines, mark)
    return lines


# The words of a logger whose form is not known here: a host, a unit, a time, a number.


def _without_words(lines: Sequence[str]) -> Sequence[str]:
    """Lines without the words that nearly all begin with, if messages begin only after these."""
    if not _LOGGER.search(_common_words(list(_shapes(lines[:_SAMPLE])))):
        return lines
    shapes = _shapes(lines)
    common = _common_words(list(shapes))
    if not _LOGGER.search(common) or any(map(_begins_message, shapes.values())):
        return lines
    for boundary in reversed([*_BOUNDARY.finditer(common)][-_BOUNDARIES_LIMIT:]):
        words = common[: boundary.end()]
        if any(_begins_message(shape[len(words) :]) for shape in shapes if shape.startswith(words)):
            return _without_start(lines, re.compile(re.escape(words).replace("0", r"\d+")))
    return lines


def _shapes(lines: Iterable[str]) -> dict[str, str]:
    """The distinct lines with each number written as 0, sorted, and one line of each."""
    return dict(sorted({_DIGITS.sub("0", line): line for line in lines if line.strip()}.items()))


def _begins_message(line: str) -> bool:
    return begins_message(without_prefix(" ".join(line.split())))


def _common_words(shapes: Sequence[str]) -> str:
    """The text that nine of ten sorted shapes begin with."""
    if len(shapes) < 2:
        return ""
    first, last = shapes[len(shapes) // 20], shapes[-1 - len(shapes) // 20]
    return first[: next((n for n, (a, b) in enumerate(zip(first, last)) if a != b), len(first))]
