# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reads a log: the faults, pages and addresses that it names, and its other lines on each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Callable, NamedTuple

from drgn_vmemmap.explain.log.boot_facts import BOOT_FACTS, BootFact
from drgn_vmemmap.explain.log.caller import Caller
from drgn_vmemmap.explain.log.collector import Collector
from drgn_vmemmap.explain.log.cut_oops import (
    Unnamed,
    is_page_fault,
    new_cut_oops,
    take_address,
    take_frame,
    take_short_address,
)
from drgn_vmemmap.explain.log.facts import FACTS, OOPS_DISTANCE, Fact
from drgn_vmemmap.explain.log.mention import Mentions
from drgn_vmemmap.explain.log.register_dumps import EARLIER_STACKS, END, OTHER_DUMP, TASK
from drgn_vmemmap.explain.log.subject import Subject, subjects_of
from drgn_vmemmap.explain.messages.addresses import KASAN_RANGE
from drgn_vmemmap.explain.messages.failures import BANK_STATUS, is_poison, needs_poison
from drgn_vmemmap.explain.messages.message import Kind, Message, Named
from drgn_vmemmap.explain.messages.pages import DUMPED_PAGES
from drgn_vmemmap.explain.messages.table import ANY_PFN, find_messages
from drgn_vmemmap.explain.text.line import Joined, Line

# How many lines after a fault the range may be that KASAN computes from its address.
_RANGE_DISTANCE = 3

# Lines of a dumped struct page.
_DUMPED = re.compile(r"\b(?:raw|head):(?: [0-9a-f]{16}){1,4}\b", re.IGNORECASE)

_WORD = re.compile(r"\b(?:0x)?([0-9a-f]{16})\b", re.IGNORECASE)

# An address of the vmemmap as drgn and crash write compound_head and other members that are no
# pointers by their type.
_DECIMAL_WORD = re.compile(r"\b18[34]\d{17}\b")

# Where lines are missing: console_emit_next_record() of kernel/printk/printk.c, and journald.
_GAP = re.compile(r"\*\* \d+ printk messages dropped|\bmissed \d+ kernel messages")

# The kernel's first line. ``net/x25/af_x25.c`` writes its own "Linux Version".
_FIRST_LINE = re.compile(r"\bLinux version (?P<release>\d\S{1,80})")

# What journalctl writes between boots.
_BETWEEN_BOOTS = re.compile(r"-- (?:Boot [0-9a-f]{32}|Reboot) --")


def find_mentions(
    lines: Iterable[Line],
    wanted: Callable[[int], bool] = lambda address: False,
    encryption_mask: int | None = None,
) -> Mentions:
    """
    Find what a log names.

    :param lines: The log.
    :param wanted: Whether a number, such as a register's, is to be reported if it is an address.
        Numbers that the kernel hides by a hash (``%p``) cannot be recognised.
    :param encryption_mask: See :class:`drgn_vmemmap.paging.mapping.Paging`; ``None`` if it is not
        known.
    """
    reader = _Reader(wanted, encryption_mask)
    for line in lines:
        reader.read(line)
    reader.finish()
    return reader.mentions


class _Token(NamedTuple):
    """Something that a line says."""

    start: int
    weight: int
    """Characters that say it, without spaces."""
    add: Callable[[], None]


def _token(match: re.Match[str], add: Callable[..., None], *arguments: object) -> _Token:
    weight = len(match[0]) - match[0].count(" ")
    return _Token(match.start(), weight, partial(add, *arguments))


class _Remark(NamedTuple):
    """A kind of line that says something of a dump of registers, of the boot, or of the log."""

    keyword: str
    """Lower-case text that each such line holds."""
    pattern: re.Pattern[str]
    add: Callable[[re.Match[str]], None]
    is_lower: bool = False
    """
    Whether the pattern is for the line in lower case, which takes a tenth of the time of one that
    ignores case.
    """


class _Reader:
    """Reads a log line by line."""

    def __init__(self, wanted: Callable[[int], bool], encryption_mask: int | None) -> None:
        self._wanted = wanted
        self._encryption_mask = encryption_mask
        self._found = Collector()
        self._caller = Caller()
        self._callers: dict[str, Caller] = {}
        self._unnamed = Unnamed()
        self._remarks = (
            *(
                _Remark(fact.keyword, fact.pattern, partial(self._add_boot_fact, fact))
                for fact in BOOT_FACTS
            ),
            _Remark("linux version", _FIRST_LINE, self._begin_boot),
            _Remark("boot", _BETWEEN_BOOTS, self._begin_unknown_boot),
            _Remark(" messages", _GAP, self._lose_lines, is_lower=True),
            _Remark("", OTHER_DUMP, self._begin_other_dump, is_lower=True),
            *(
                _Remark(keyword, pattern, self._begin_earlier_stack, is_lower=True)
                for keyword, pattern in EARLIER_STACKS
            ),
            _Remark("tainted", TASK, self._begin_dump, is_lower=True),
            _Remark("end trace", END, self._end_dump, is_lower=True),
            _Remark("machine check", BANK_STATUS, self._begin_machine_check, is_lower=True),
        )

    @property
    def mentions(self) -> Mentions:
        """What the log has named so far."""
        return self._found.mentions

    def read(self, line: Line) -> None:
        """Take what a line says, in the order in which it says it."""
        if line.caller is not None:
            self._caller = self._callers.setdefault(line.caller, Caller())
        self._caller.lines += 1
        # A wrapped line is taken in the form in which most of it is recognised.
        forms = [list(self._tokens(form)) for form in line.forms]
        tokens = max(forms, key=lambda form: sum(token.weight for token in form))
        for token in sorted(tokens, key=lambda token: token.start):
            token.add()

    def finish(self) -> None:
        """Take what is left when the log ends."""
        self._end_cut_oopses()
        self.mentions.unnamed = self._unnamed.count(self.mentions.named)

    def _tokens(self, form: Joined) -> Iterator[_Token]:
        """The tokens of a line."""
        text, lower = form.text, form.text.lower()
        named: set[int] = set()
        for message, match in find_messages(text):
            values = list(message.named(match, self._encryption_mask or 0))
            named.update(value for _, value in values)
            add = self._add_if_poison if needs_poison(message, match) else self._add
            yield _token(match, add, message, values, form.around(*match.span()))
        for match in ANY_PFN.pattern.finditer(text) if ANY_PFN.keyword in lower else ():
            digits = int(match["pfn"] or match["any_pfn"], 16)
            if digits in named:
                continue
            values = list(ANY_PFN.named(match))
            if values:
                yield _token(match, self._add, ANY_PFN, values, form.around(*match.span()))
            else:
                yield _token(match, self._found.drop, Kind.PFN, digits)
        for fact in FACTS:
            if fact.keyword in lower:
                for match in fact.pattern.finditer(text):
                    yield _token(match, self._add_fact, fact, match, form.around(*match.span()))
        for remark in self._remarks:
            if remark.keyword in lower:
                for match in remark.pattern.finditer(lower if remark.is_lower else text):
                    yield _token(match, remark.add, match)
        words = _DUMPED.sub(_blank, text) if "raw:" in lower or "head:" in lower else text
        numbers = [(match, int(match[1], 16)) for match in _WORD.finditer(words)]
        numbers += [(match, int(match[0])) for match in _DECIMAL_WORD.finditer(words)]
        for match, value in numbers:
            if value not in named and not value >> 64 and self._wanted(value):
                yield _token(match, self._found.add_number, value, form.around(*match.span()))

    # What is named.

    def _add(self, message: Message, values: list[Named], line: str) -> None:
        before = self._found.count
        found = [self._found.add(kind, value, line, message) for kind, value in values]
        kept = [mention for mention in found if mention is not None]
        # Lines after a page and the address of its struct page are about the page.
        kept.sort(key=lambda mention: not (mention.is_page and message in DUMPED_PAGES))
        if kept and not self._is_on_fault(message):
            self._caller.begin(kept[0], before, subjects_of(message))

    def _is_on_fault(self, message: Message) -> bool:
        """Whether a message belongs to an oops whose fault was named before it."""
        latest = self._caller.latest.get(Subject.STACK)
        return (
            message is KASAN_RANGE
            and latest is not None
            and latest.mention.is_fault
            and self._caller.since(latest.line) <= _RANGE_DISTANCE
        )

    def _add_if_poison(self, message: Message, values: list[Named], line: str) -> None:
        if self._caller.reads_poison:
            self._add(message, values, line)

    def _begin_machine_check(self, match: re.Match[str]) -> None:
        self._caller.reads_poison = is_poison(int(match["status"], 16))

    # What lines say of it.

    def _add_fact(self, fact: Fact, match: re.Match[str], line: str) -> None:
        caller = self._caller
        if fact.subject is Subject.PAGE_FAULT:
            caller.end_other_dump()
        latest = caller.latest.get(fact.subject)
        if latest and caller.cut_oops and caller.cut_oops_line > latest.line:
            latest = None
        if latest and caller.since(latest.line) <= fact.distance:
            fact.add(latest.mention, match)
        elif not latest or caller.since(latest.line) > OOPS_DISTANCE:
            self._add_to_cut_oops(fact, match, line)

    def _add_to_cut_oops(self, fact: Fact, match: re.Match[str], line: str) -> None:
        """Take a line of an oops whose first line is not in the log."""
        caller = self._caller
        if fact.subject is Subject.DUMPED_PAGE:
            return
        if caller.cut_oops and caller.since(caller.cut_oops_line) > OOPS_DISTANCE:
            self._end_cut_oops(caller)
        if caller.since(caller.other_dump_line) < OOPS_DISTANCE:
            return
        if caller.cut_oops is None:
            caller.cut_oops = new_cut_oops(line, self._found.boot)
        caller.cut_oops_line = caller.lines
        fact.add(caller.cut_oops, match)
        if take_address(caller.cut_oops):
            self._name_cut_oops(caller)

    def _name_cut_oops(self, caller: Caller) -> None:
        """Add a cut oops whose address has become known; its next lines may follow."""
        oops, caller.cut_oops = caller.cut_oops, None
        before = self._found.count
        mention = None if oops is None else self._found.add_mention(oops)
        if oops is None or mention is None:
            return
        if mention is not oops:
            mention.take(oops)
        caller.begin(mention, before, (Subject.PAGE_FAULT, Subject.STACK))

    def _end_cut_oopses(self) -> None:
        for caller in (self._caller, *self._callers.values()):
            self._end_cut_oops(caller)

    def _end_cut_oops(self, caller: Caller) -> None:
        """Add a cut oops whose address is not in the log, by its frame, or count it."""
        oops, caller.cut_oops = caller.cut_oops, None
        if oops is None:
            return
        if take_short_address(oops) or take_frame(oops, self._encryption_mask):
            self._found.add_mention(oops)
        elif is_page_fault(oops):
            self._unnamed.add(oops)

    # What lines say of the dump of registers and functions, and of the log itself.

    def _begin_dump(self, match: re.Match[str]) -> None:
        self._caller.begin_dump(match[0])

    def _end_dump(self, _match: re.Match[str]) -> None:
        self._caller.end_dump()

    def _begin_earlier_stack(self, _match: re.Match[str]) -> None:
        self._caller.begin_earlier_stack()

    def _begin_other_dump(self, _match: re.Match[str]) -> None:
        self._end_cut_oops(self._caller)
        self._caller.begin_other_dump()

    def _lose_lines(self, _match: re.Match[str]) -> None:
        """Forget what was named: lines after a gap may be about what the missing lines named."""
        self._end_cut_oopses()
        for caller in (self._caller, *self._callers.values()):
            caller.forget()

    # What lines say of the boot.

    def _add_boot_fact(self, fact: BootFact, match: re.Match[str]) -> None:
        found = self._found
        if fact.is_of_another(found.boot, match):
            found.split_boot(found.ended if fact.ends_a_boot else self._before_oops())
        fact.add(found.boot, match)
        if fact.ends_a_boot:
            found.ended = found.count

    def _before_oops(self) -> int:
        """How many faults, pages and addresses were named before those of this oops."""
        latest = self._caller.latest.get(Subject.STACK)
        if latest is None or self._caller.since(latest.line) > OOPS_DISTANCE:
            return self._found.count
        return latest.before

    def _begin_boot(self, match: re.Match[str]) -> None:
        self._begin_unknown_boot(match)
        self._found.boot.add_release(match["release"])

    def _begin_unknown_boot(self, _match: re.Match[str]) -> None:
        self._end_cut_oopses()
        self._found.begin_boot()
        self._caller, self._callers = Caller(), {}


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
