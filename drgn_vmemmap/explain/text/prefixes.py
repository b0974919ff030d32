# SPDX-License-Identifier: LGPL-2.1-or-later

"""Prefixes that loggers put before the kernel's lines, and marks that mailers put around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import lt

from drgn_vmemmap.explain.text.beginnings import begins_message

_LEVELS = r"(?:emerg|alert|crit|err|warn|notice|info|debug)"
_DAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?"
_ISO = rf"\d{{4}}-\d{{2}}-\d{{2}}[T ]{_CLOCK}(?: ?(?:Z|UTC|[A-Z]{{3,4}}|[+-]\d{{2}}:?\d{{2}}))?"
_CTIME = (
    rf"{_DAY}{_MONTH} {{0,2}}\d{{1,2}} (?:\d{{4}} )?(?:{_CLOCK}|\d\d:\d\d)"
    r"(?: [A-Z]{3,5})?(?: \d{4})?"
)

# Days and months in other languages, which may have more than one script.
_WORD = r"[^\s\[\]]{1,12}"

_PREFIX = re.compile(
    "|".join(
        (
            # Syslog's priority, as in pstore and on a serial line: <1>, or RFC 5424's <1>1.
            r"<\d{1,3}>(?:1 (?=\d{4}-))?",
            # /dev/kmsg and netconsole: [release,]priority,sequence,time,flags[,more];
            r"(?:\d+\.[^,;\s]{1,64},)?\d{1,4},\d{1,20},\d{1,20},[-c+](?:,[^;\s]{1,128})*;",
            # The times of printk() and dmesg: [  12.345678], [T1], [Thu Nov 26 15:32:49 2026].
            r"\[ {0,12}[+-]?\d{1,12}(?:\.\d{1,9})?(?:@\d+| < ?[\d.]{1,24} ?>)?\](?:@\d{1,4}|:)?",
            r"\[ {0,12}[TC]\d{1,10}\]",
            rf"\[{_CTIME}\]",
            rf"\[(?:{_WORD} ){{2,3}}{_CLOCK} \d{{4}}\]",
            rf"\[(?:{_WORD} ){{1,2}}\d\d:\d\d\]",
            rf"\[{_ISO}\]",
            rf"\[{_CLOCK}\]",
            # Times of syslog and journalctl; the host and the program follow.
            rf"(?:\d{{4}} )?{_CTIME}(?= )",
            rf"{_DAY}{_ISO}",
            rf"(?:{_WORD} ){{1,3}}{_CLOCK}(?: [A-Z]{{3,5}})?(?: \d{{4}})? [\w.:-]{{1,255}} kernel:",
            # A workflow's job and step, and its time.
            r"[^\[\]:]{1,120}? \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z(?= )",
            r"\d{10}\.\d{1,9}(?= )",
            # Milliseconds or nanoseconds; what begins with 0 is the rest of a number.
            r"1\d{12}(?:\d{6})?(?= |$)",
            # Other times, such as 26.11.2026 15:32:04, 11-26 15:32:04.123 and 15:32:04.
            rf"(?:\d{{1,4}}[-/.])?\d{{1,2}}[-/.]\d{{1,4}} {_CLOCK}(?= )",
            rf"{_CLOCK}(?= )",
            r"(?:stdout|stderr) [FP](?= )",
            # Android's processor and task, and conserver's marks.
            r"c\d{1,4} \d{1,8}(?= )",
            rf"\[-- [A-Z ]{{1,32}} -- {_CTIME}\]",
            r"[\w.-]{1,64} \|(?= )",
            # dmesg -x, and syslog's facility and level.
            rf"kern {{0,4}}:{_LEVELS} {{0,4}}:",
            rf"kern\.{_LEVELS}(?:ing|or|erg)?(?= )",
            r"(?:[\w.:-]{1,255} )?(?:kernel|klogd|netconsole)(?:\[\d{1,10}\])?(?: - - -|:)",
            r"[\w.:-]{1,255} (?=\[ {0,12}\d{1,12}\.\d{1,9}\])",
            r"MESSAGE=",
        )
    )
)
_PREFIXES_LIMIT = 8

# Quote marks: > of mails, with initials before it, | and : of some mailers, + of patches, < of
# diff.
_QUOTE = re.compile(
    r"\s*(?:(?:[A-Za-z]{1,3})?>|<(?= )|[|│┃║]|»|:(?=\s+[\[B#>:]))[ \t]?|\s*[+*-] ?(?=[\[B#])"
)
_QUOTES_LIMIT = 256


# cat -n, grep -n and pagers put the number of each line before it; grep -A has a dash after it.
_NUMBER = re.compile(r"[ \t]*(?P<number>\d{1,8})(?:[:\t-]|[ \t](?=[ \t]*\S))")
_NUMBERED_SHARE = 0.9

_MARKS = (re.compile(r"^:"), re.compile(r"^(?:# )+"))
_MARKED_SHARE = 0.8


def without_numbers(lines: Sequence[str]) -> Sequence[str]:
    """Lines without their numbers, if nearly all have ascending ones."""
    filled = [line for line in lines if line.strip()]
    matches = [match for match in map(_NUMBER.match, filled) if match]
    if len(matches) < max(3, len(filled) * _NUMBERED_SHARE):
        return lines
    numbers = [int(match["number"]) for match in matches]
    ascending = sum(map(lt, numbers, numbers[1:]))
    if ascending < (len(numbers) - 1) * _NUMBERED_SHARE:
        return lines
    return [_NUMBER.sub("", line, count=1) if _NUMBER.match(line) else line for line in lines]


def without_marks(lines: Sequence[str]) -> Sequence[str]:
    """Lines without a mark that nearly all of them begin with: ABRT's colon, or KTAP's #."""
    filled = [line for line in lines if line.strip()]
    for mark in _MARKS:
        if sum(map(bool, map(mark.match, filled))) >= max(3, len(filled) * _MARKED_SHARE):
            return [mark.sub("", line, count=1) for line in lines]
    return lines


_DIGITS = re.compile(r"\d+")
_SAMPLE = 256
# Characters that the known prefixes of the kernel's lines do not have.
_LOGGER = re.compile(r"[^\d\s\[\]<>.,:@+-]")
_BOUNDARY = re.compile(r"[^\w-]")
_BOUNDARIES_LIMIT = 6


def without_common_start(lines: Sequence[str]) -> Sequence[str]:
    """
    Lines without the text that nearly all begin with, if messages begin after it, and only there.

    A logger whose form is not known here writes such a text: a host, a unit, a time, a number.
    """
    if not _LOGGER.search(_common_start(list(_shapes(lines[:_SAMPLE])))):
        return lines
    shapes = _shapes(lines)
    common = _common_start(list(shapes))
    if not _LOGGER.search(common) or any(map(_begins_message, shapes.values())):
        return lines
    for boundary in reversed([*_BOUNDARY.finditer(common)][-_BOUNDARIES_LIMIT:]):
        end = boundary.end()
        if any(_begins_message(shape[end:]) for shape in shapes if shape.startswith(common[:end])):
            start = re.compile(re.escape(common[:end]).replace("0", r"\d+"))
            return [start.sub("", line, count=1) if start.match(line) else line for line in lines]
    return lines


def _shapes(lines: Iterable[str]) -> dict[str, str]:
    """The distinct lines with each number written as 0, sorted, and one line of each."""
    return dict(sorted({_DIGITS.sub("0", line): line for line in lines if line.strip()}.items()))


def _begins_message(line: str) -> bool:
    return begins_message(without_prefix(" ".join(line.split())))


def _common_start(shapes: Sequence[str]) -> str:
    """The text that nine of ten sorted shapes begin with."""
    if len(shapes) < 2:
        return ""
    first, last = shapes[len(shapes) // 20], shapes[-1 - len(shapes) // 20]
    return first[: next((n for n, (a, b) in enumerate(zip(first, last)) if a != b), len(first))]


def without_quotes(line: str) -> str:
    """A line without the quote marks at its start."""
    position = 0
    for _ in range(_QUOTES_LIMIT):
        mark = _QUOTE.match(line, position)
        if mark is None:
            break
        position = mark.end()
    # The other side of a box, or of a terminal's pane.
    return line[position:].rstrip(" \t│┃║")


def without_prefix(line: str) -> str:
    """
    A line without the prefixes at its start: level, time, caller, host, program.

    :param line: Words in it are apart by one space.
    """
    position = 0
    for _ in range(_PREFIXES_LIMIT):
        start = position + line.startswith(" ", position)
        prefix = _PREFIX.match(line, start)
        if prefix is None or prefix.end() == start:
            break
        position = prefix.end()
    # One space between a prefix and its text belongs to neither.
    return line[position + (position > 0 and line.startswith(" ", position)) :]
