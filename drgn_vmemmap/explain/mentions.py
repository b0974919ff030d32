# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reads a log: the faults, pages and addresses that it names, and its other lines on each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Callable, NamedTuple

from drgn_vmemmap.explain.boot import Boot
from drgn_vmemmap.explain.mention import LoggedWalk, Mention, Mentions
from drgn_vmemmap.explain.message import Kind, Message, Named
from drgn_vmemmap.explain.messages.table import ANY_PFN, find_messages
from drgn_vmemmap.explain.text.lines import Joined, Line

MENTIONS_LIMIT = 4096
"""The most faults and pages that are kept, and other addresses; the rest is counted."""

# Lines about a fault or a page follow it closely; an oops has a hundred lines.
_DETAIL_DISTANCE = 16
_OOPS_DISTANCE = 128
_DETAILS_LIMIT = 8

# What CSV and the like put around a line.
_AROUND = " \"'\\"
_FUNCTIONS_LIMIT = 64

# Lines of a dumped struct page.
_DUMPED = re.compile(r"\b(?:raw|head):(?: [0-9a-f]{16}){1,4}\b", re.IGNORECASE)

_WORD = re.compile(r"\b(?:0x)?([0-9a-f]{16})\b", re.IGNORECASE)


def find_mentions(
    lines: Iterable[Line], wanted: Callable[[int], bool] = lambda address: False
) -> Mentions:
    """
    Find what a log names.

    :param lines: The log.
    :param wanted: Whether a number, such as a register's, is to be reported if it is an address.
        Numbers that the kernel hides by a hash (``%p``) cannot be recognised.
    """
    reader = _Reader(wanted)
    for line in lines:
        reader.read(line)
    return reader.mentions


_Key = tuple[int, Kind, int]
"""A boot, by its number, and what is named."""


class _Fact(NamedTuple):
    """A kind of line that belongs to the fault or the page before it, or to the boot."""

    keyword: str
    pattern: re.Pattern[str]
    add: Callable[[_Reader, re.Match[str]], None]


class _Token(NamedTuple):
    """Something that a line says."""

    start: int
    weight: int
    """Characters that say it, without spaces."""
    add: Callable[[], None]


def _token(match: re.Match[str], add: Callable[..., None], *arguments: object) -> _Token:
    weight = len(match[0]) - match[0].count(" ")
    return _Token(match.start(), weight, partial(add, *arguments))


class _Reader:
    """Reads a log line by line."""

    def __init__(self, wanted: Callable[[int], bool]) -> None:
        self.mentions = Mentions()
        self._wanted = wanted
        self._known: dict[_Key, Mention] = {}
        self._numbers: dict[_Key, Mention] = {}
        self._dropped: set[_Key] = set()
        self._boot = Boot()
        self._boots = 0
        self._current: Mention | None = None
        self._line = 0
        self._current_line = 0

    def read(self, line: Line) -> None:
        """Take what a line says, in the order in which it says it."""
        self._line += 1
        # Of a line that was wrapped, the form that says most is as the kernel wrote it.
        forms = [list(self._tokens(form)) for form in line.forms]
        tokens = max(forms, key=lambda form: sum(token.weight for token in form))
        for token in sorted(tokens, key=lambda token: token.start):
            token.add()

    def _tokens(self, form: Joined) -> Iterator[_Token]:
        """The tokens of a line."""
        text, lower = form.text, form.text.lower()
        named: set[int] = set()
        for message, match in find_messages(text):
            values = list(message.named(match))
            named.update(value for _, value in values)
            yield _token(match, self._add, message, values, form.around(*match.span()))
        for match in ANY_PFN.pattern.finditer(text) if ANY_PFN.keyword in lower else ():
            values = [each for each in ANY_PFN.named(match) if each.value not in named]
            yield _token(match, self._add, ANY_PFN, values, form.around(*match.span()))
        for fact in _FACTS:
            if fact.keyword in lower:
                for match in fact.pattern.finditer(text):
                    yield _token(match, fact.add, self, match)
        for match in _WORD.finditer(_DUMPED.sub(_blank, text)):
            value = int(match[1], 16)
            if value not in named and self._wanted(value):
                yield _token(match, self._add_number, value, form.around(*match.span()))

    def _add(self, message: Message, values: list[Named], line: str) -> None:
        current = None
        for kind, value in values:
            mention = self._mention(kind, value, message, line)
            current = current or mention
        if current is not None:
            self._current, self._current_line = current, self._line

    def _mention(self, kind: Kind, value: int, message: Message, line: str) -> Mention | None:
        key = self._key(kind, value)
        known = self._known.get(key) or self._known.get(self._key(Kind.FAULT, value))
        if known is not None:
            known.times += 1
            return known
        if len(self._known) >= MENTIONS_LIMIT:
            self._drop(key)
            return None
        mention = self._known[key] = Mention(kind, value, line, message, self._boot)
        self.mentions.named.append(mention)
        return mention

    def _add_number(self, value: int, line: str) -> None:
        key = self._key(Kind.ADDRESS, value)
        known = (
            self._known.get(self._key(Kind.FAULT, value))
            or self._known.get(key)
            or self._numbers.get(key)
        )
        if known is not None:
            known.times += 1
        elif len(self._numbers) >= MENTIONS_LIMIT:
            self._drop(key)
        else:
            mention = self._numbers[key] = Mention(Kind.ADDRESS, value, line, None, self._boot)
            self.mentions.others.append(mention)

    def _key(self, kind: Kind, value: int) -> _Key:
        return self._boots, kind, value

    def _drop(self, key: _Key) -> None:
        self._dropped.add(key)
        self.mentions.dropped = len(self._dropped)

    # What lines say of the fault or the page before them.

    def _about(self, distance: int) -> Mention | None:
        if self._current is None or self._line - self._current_line > distance:
            return None
        return self._current

    def add_detail(self, match: re.Match[str]) -> None:
        """Keep a line as it is."""
        about = self._about(_DETAIL_DISTANCE)
        detail = match[0].strip(_AROUND)
        if about and detail not in about.details and len(about.details) < _DETAILS_LIMIT:
            about.details.append(detail)

    def add_error_code(self, match: re.Match[str]) -> None:
        """The error code of a page fault."""
        about = self._about(_DETAIL_DISTANCE)
        if about and about.is_fault and about.error_code is None:
            about.error_code = int(match["code"], 16)

    def add_walk(self, match: re.Match[str]) -> None:
        """The walk that a page fault logs; of two readings, the one that goes further."""
        about = self._about(_DETAIL_DISTANCE)
        if about is None or not about.is_fault:
            return
        walk = LoggedWalk(
            tuple((name, int(raw, 16)) for name, raw in _ENTRY.findall(match[0].upper()))
        )
        if about.walk is None or len(about.walk.entries) < len(walk.entries):
            about.walk = walk

    def add_words(self, match: re.Match[str]) -> None:
        """A line of a dumped struct page."""
        about = self._about(_DETAIL_DISTANCE)
        words = [int(word, 16) for word in match["words"].split()]
        if about and len(about.words) + len(words) <= 8:
            about.words += words
            if about.kind is Kind.PFN and len(words) > 1 and len(about.words) == len(words):
                self._boot.add_tail(about.value, words[1])

    def add_function(self, match: re.Match[str]) -> None:
        """A function on the stack of an oops; those that only may be on it are left out."""
        about = self._about(_OOPS_DISTANCE)
        name = match["name"]
        if about and name not in about.functions and len(about.functions) < _FUNCTIONS_LIMIT:
            about.functions.append(name)

    def add_register(self, match: re.Match[str]) -> None:
        """A register at a fault."""
        about = self._about(_OOPS_DISTANCE)
        if about and about.is_fault:
            about.registers.setdefault(match["name"].upper(), int(match["value"], 16))

    # What lines say of the boot.

    def begin_boot(self, match: re.Match[str]) -> None:
        """The first line of a boot."""
        self._boot = Boot(release=match["release"])
        self._boots += 1
        self._current = None

    def add_release(self, match: re.Match[str]) -> None:
        """The release, as each oops names it."""
        self._boot.release = self._boot.release or match["release"]
        self._boot.build_id = self._boot.build_id or match["build"]

    def add_offset(self, match: re.Match[str]) -> None:
        """Where KASLR put the kernel, as a panic names it."""
        self._boot.kernel_offset = int(match["offset"] or "0", 16)

    def add_base(self, match: re.Match[str]) -> None:
        """A struct page's address beside its PFN: together they give the vmemmap's base."""
        address, pfn = int(match["address"], 16), int(match["pfn"], 16)
        if address >> 32:
            self._boot.add_struct_page(address, pfn)

    def add_command_line(self, match: re.Match[str]) -> None:
        """The kernel's command line."""
        self._boot.command_line = match["line"]


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


_ENTRY = re.compile(r"\b(PGD|P4D|PUD|PMD|PTE) ([0-9A-F]{1,16})\b")

_FACTS = (
    _Fact("pf: ", re.compile(r"#?\bPF: [\w ]+ mode|#PF: [^#]{1,80}", re.I), _Reader.add_detail),
    _Fact("error_code(", re.compile(r"#?PF: error_code[^#]{1,60}", re.I), _Reader.add_detail),
    _Fact(
        "error_code(",
        re.compile(r"error_code ?\(0x(?P<code>[0-9a-f]{1,16})\)", re.I),
        _Reader.add_error_code,
    ),
    _Fact(
        "early exception",
        re.compile(r"\berror (?P<code>[0-9a-f]{1,16}) cr2 ", re.I),
        _Reader.add_error_code,
    ),
    _Fact(
        "oops: ",
        re.compile(r"\bOops: (?P<code>[0-9a-f]{4,16}) \[#", re.I),
        _Reader.add_error_code,
    ),
    _Fact(
        "pgd ",
        re.compile(
            r"\bPGD [0-9a-f]{1,16}\b(?: P4D [0-9a-f]{1,16}\b)?(?: PUD [0-9a-f]{1,16}\b)?"
            r"(?: PMD [0-9a-f]{1,16}\b)?(?: PTE [0-9a-f]{1,16}\b)?",
            re.I,
        ),
        _Reader.add_walk,
    ),
    _Fact(
        "page dumped",
        re.compile(r"page dumped because: (?:(?! ?\[ ?\d+\.).){1,160}", re.I),
        _Reader.add_detail,
    ),
    _Fact("page does not", re.compile(r"page does not match folio", re.I), _Reader.add_detail),
    _Fact("flags: ", re.compile(r"\bflags: 0x[0-9a-f]+\([^()]{0,240}\)", re.I), _Reader.add_detail),
    _Fact(
        "head: ", re.compile(r"\bhead: ?(?:[0-9a-f]{16} )?order:.{1,120}", re.I), _Reader.add_detail
    ),
    _Fact("page_type: ", re.compile(r"\bpage_type: \S+", re.I), _Reader.add_detail),
    _Fact(
        "raw: ",
        re.compile(r"\braw: (?P<words>[0-9a-f]{16}(?: [0-9a-f]{16}){0,3})\b", re.I),
        _Reader.add_words,
    ),
    _Fact(
        "rip: ",
        re.compile(r"\bRIP: [0-9a-f]{4}:(?P<name>[A-Za-z_][\w.]*)", re.I),
        _Reader.add_function,
    ),
    _Fact(
        "+0x",
        re.compile(r"(?<![\w?.] )(?<!\? )(?<![\w.:?])(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x"),
        _Reader.add_function,
    ),
    _Fact(
        ": ",
        re.compile(
            r"\b(?P<name>R[A-DS][XIP]|R[BS]P|R\d\d|CR[234]): (?:\d{4}:)?(?P<value>[0-9a-f]{16})\b"
        ),
        _Reader.add_register,
    ),
    _Fact(
        "linux version",
        re.compile(r"\bLinux version (?P<release>\d\S{1,80})", re.I),
        _Reader.begin_boot,
    ),
    _Fact(
        "tainted",
        re.compile(
            r"\bComm: .{1,80}?(?:Not tainted|Tainted: [A-Z ]{1,80}?) "
            r"(?P<release>\d+\.\d+[^\s#]{0,80})"
            r"(?: #\S+(?: [A-Z]\S*){0,4} (?P<build>[0-9a-f]{40})\b)?"
        ),
        _Reader.add_release,
    ),
    _Fact(
        "kernel offset:",
        re.compile(r"Kernel Offset: (?:0x(?P<offset>[0-9a-f]{1,16})|disabled)", re.I),
        _Reader.add_offset,
    ),
    _Fact(
        "pfn:",
        re.compile(
            r"\bpage: ?(?P<address>[0-9a-f]{16}) .{1,120}?\bpfn: ?0x(?P<pfn>[0-9a-f]{1,16})\b", re.I
        ),
        _Reader.add_base,
    ),
    _Fact(
        "command line:",
        re.compile(r"(?:Kernel )?command line: (?P<line>.{1,2048})", re.I),
        _Reader.add_command_line,
    ),
)
