# SPDX-License-Identifier: LGPL-2.1-or-later

"""Prefixes that loggers put before the kernel's lines, and marks that mailers put around them."""

from __future__ import annotations

import re

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
            r"(?:\d+\.[^,;\s]{1,64},)?\d{1,4},\d{1,20},\d{1,20},[-c+](?:,[^,;\s]{1,128}){0,16};",
            # The times of printk() and dmesg: [  12.345678], [T1], [Thu Nov 26 15:32:49 2026].
            r"\[ {0,12}[+-]?\d{1,12}(?:\.\d{1,9})?(?:@\d+| < ?[\d.]{1,24} ?>)?\](?:@\d{1,4}|:)?",
            r"\[ {0,12}[TC]\d{1,10}\]",
            # Seconds of the Open Build Service, whose machines' consoles are in its logs.
            r"\[ {0,6}\d{1,7}s\]",
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
