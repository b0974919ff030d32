# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kinds of lines that belong to the fault or the page before them."""

from __future__ import annotations

import re
from typing import Callable, NamedTuple

from drgn_vmemmap.explain.log.mention import LoggedWalk, Mention
from drgn_vmemmap.explain.log.subject import Subject

# Lines about a fault or a page follow it closely; an oops has a hundred lines.
DETAIL_DISTANCE = 16
OOPS_DISTANCE = 128

_DETAILS_LIMIT = 8
_FUNCTIONS_LIMIT = 64

# Characters that CSV and the like put around a line.
_AROUND = " \"'`*\\,]}|"
_AFTER = re.compile(r"[\"'`]\);?$|\",.*")

_ENTRY = re.compile(r"\b(PGD|P4D|PUD|PMD|PTE) ([0-9A-F]{1,16})\b")


class Fact(NamedTuple):
    """A kind of line that belongs to the fault or the page before it."""

    keyword: str
    """Lower-case text that each such line holds."""
    pattern: re.Pattern[str]
    subject: Subject
    add: Callable[[Mention, re.Match[str]], None]

    @property
    def distance(self) -> int:
        """How many lines after the fault or the page such a line may be."""
        return OOPS_DISTANCE if self.subject is Subject.STACK else DETAIL_DISTANCE


# Functions that take from a line what it says of a fault or a page.


def _detail(about: Mention, match: re.Match[str]) -> None:
    """Keep a line as it is."""
    detail = _AFTER.sub("", match[0]).strip(_AROUND)
    if detail not in about.details and len(about.details) < _DETAILS_LIMIT:
        about.details.append(detail)


def _error_code(about: Mention, match: re.Match[str]) -> None:
    """The error code of a page fault."""
    if about.is_fault and about.error_code is None and about.architecture is None:
        about.error_code = int(match["code"], 16)


def _oops(about: Mention, match: re.Match[str]) -> None:
    """The error code of a page fault, and which oops of the boot it is."""
    _error_code(about, match)
    about.number = about.number or int(match["number"] or "0")


def _walk(about: Mention, match: re.Match[str]) -> None:
    """The walk that a page fault logs; of two readings, the one that goes further."""
    walk = LoggedWalk(tuple((name, int(raw, 16)) for name, raw in _ENTRY.findall(match[0].upper())))
    if about.is_fault and (about.walk is None or len(about.walk.entries) < len(walk.entries)):
        about.walk = walk


def _words(about: Mention, match: re.Match[str]) -> None:
    """A line of a dumped struct page; two loggers may have written it twice."""
    words = [int(word, 16) for word in match["words"].split()]
    if any(words) and about.words[-len(words) :] == words:
        return
    if len(about.words) + len(words) <= 8:
        about.words += words
        if about.is_page and len(words) > 1 and len(about.words) == len(words):
            about.boot.add_tail(about.value, words[1])


def _function(about: Mention, match: re.Match[str]) -> None:
    """A function on the stack of an oops; those that only may be on it are left out."""
    name = match["name"]
    if name not in about.functions and len(about.functions) < _FUNCTIONS_LIMIT:
        about.functions.append(name)


def _register(about: Mention, match: re.Match[str]) -> None:
    """A register at a fault."""
    if not about.is_page:
        about.registers.setdefault(match["name"].upper(), int(match["value"], 16))


FACTS = (
    # A fault whose address is cut off.
    Fact(
        " address:",
        re.compile(
            r"(?:unable to handle page fault for|NULL pointer dereference,) address:"
            r"(?! ?(?:0x)?[0-9a-f]{16}\b)(?: [0-9a-f]{1,15}\b)?",
            re.I,
        ),
        Subject.PAGE_FAULT,
        _detail,
    ),
    Fact(
        "pf: ",
        re.compile(r"#?\bPF: [\w ]+ mode|#PF: [^#]{1,80}", re.I),
        Subject.PAGE_FAULT,
        _detail,
    ),
    Fact(
        "error_code(",
        re.compile(r"#?PF: error_code[^#]{1,60}", re.I),
        Subject.PAGE_FAULT,
        _detail,
    ),
    Fact(
        "error_code(",
        re.compile(r"error_code ?\(0x(?P<code>[0-9a-f]{1,16})\)", re.I),
        Subject.PAGE_FAULT,
        _error_code,
    ),
    Fact(
        "early exception",
        re.compile(r"\berror (?P<code>[0-9a-f]{1,16}) cr2 ", re.I),
        Subject.PAGE_FAULT,
        _error_code,
    ),
    Fact(
        " [#",
        # Earlier kernels write no "Oops" before "Bad pagetable".
        re.compile(
            r"\b(?:Oops|Bad pagetable): (?P<code>[0-9a-f]{4,16}) \[#(?P<number>\d{0,6})", re.I
        ),
        Subject.PAGE_FAULT,
        _oops,
    ),
    Fact(
        "pgd ",
        re.compile(
            r"\bPGD [0-9a-f]{1,16}\b(?: P4D [0-9a-f]{1,16}\b)?(?: PUD [0-9a-f]{1,16}\b)?"
            r"(?: PMD [0-9a-f]{1,16}\b)?(?: PTE [0-9a-f]{1,16}\b)?",
            re.I,
        ),
        Subject.PAGE_FAULT,
        _walk,
    ),
    Fact(
        "page dumped",
        re.compile(r"page dumped because: (?:(?! ?\[ ?\d+\.).){1,160}", re.I),
        Subject.DUMPED_PAGE,
        _detail,
    ),
    Fact(
        "page does not",
        re.compile(r"page does not match folio", re.I),
        Subject.DUMPED_PAGE,
        _detail,
    ),
    Fact(
        "flags: ",
        re.compile(r"\bflags: 0x[0-9a-f]+\([^()]{0,240}\)", re.I),
        Subject.DUMPED_PAGE,
        _detail,
    ),
    Fact(
        "head:",
        re.compile(r"\bhead: ?(?:[0-9a-f]{16} )?order:.{1,120}", re.I),
        Subject.DUMPED_PAGE,
        _detail,
    ),
    Fact("page_type: ", re.compile(r"\bpage_type: \S+", re.I), Subject.DUMPED_PAGE, _detail),
    Fact(
        "raw: ",
        re.compile(r"\braw: (?P<words>[0-9a-f]{16}(?: [0-9a-f]{16}){0,3})\b", re.I),
        Subject.DUMPED_PAGE,
        _words,
    ),
    Fact(
        "rip: ",
        re.compile(r"\bRIP: [0-9a-f]{4}:(?P<name>[A-Za-z_][\w.]*)", re.I),
        Subject.STACK,
        _function,
    ),
    Fact(
        "+0x",
        re.compile(r"(?<![\w?.] )(?<!\? )(?<![\w.:?])(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x"),
        Subject.STACK,
        _function,
    ),
    # As scripts/decode_stacktrace.sh writes it.
    Fact(
        ".c:",
        re.compile(
            r"(?<![\w?.:/] )(?<!\? )(?<![\w.:/?-])(?P<name>[A-Za-z_][\w.]*) "
            r"\((?:[\w./+-]{1,200}/)?[\w.+-]{1,80}\.c:\d{1,7}\b"
        ),
        Subject.STACK,
        _function,
    ),
    Fact(
        ": ",
        re.compile(
            r"\b(?P<name>R[A-DS][XIP]|R[BS]P|R\d\d|CR[234]): (?:\d{4}:)?"
            r"(?P<value>[0-9a-fA-F]{16})\b"
        ),
        Subject.STACK,
        _register,
    ),
)
"""What lines say of the fault or the page before them."""
