# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reads a log: the faults, pages and addresses that it names, and its other lines on each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Callable, NamedTuple

from drgn_vmemmap.explain.boot import Boot
from drgn_vmemmap.explain.boot_facts import BOOT_FACTS, BootFact
from drgn_vmemmap.explain.caller import Caller
from drgn_vmemmap.explain.dumps import EARLIER_STACK, END, OTHER_DUMP, TASK
from drgn_vmemmap.explain.facts import FACTS, OOPS_DISTANCE, Fact
from drgn_vmemmap.explain.fragment import (
    is_page_fault,
    new_fragment,
    with_address,
    with_frame,
    with_short_address,
)
from drgn_vmemmap.explain.mention import Mention, Mentions
from drgn_vmemmap.explain.message import Kind, Message, Named
from drgn_vmemmap.explain.messages.addresses import KASAN_RANGE
from drgn_vmemmap.explain.messages.failures import BANK_STATUS, is_poison, needs_poison
from drgn_vmemmap.explain.messages.pages import DUMPED_PAGES
from drgn_vmemmap.explain.messages.table import ANY_PFN, find_messages
from drgn_vmemmap.explain.subject import Subject, subjects_of
from drgn_vmemmap.explain.text.line import Joined, Line

MENTIONS_LIMIT = 4096
"""The most faults and pages that are kept, and other addresses; the rest is counted."""

# How many lines after a fault the range may be that KASAN computes from its address.
_RANGE_DISTANCE = 3

# Lines of a dumped struct page.
_DUMPED = re.compile(r"\b(?:raw|head):(?: [0-9a-f]{16}){1,4}\b", re.IGNORECASE)

_WORD = re.compile(r"\b(?:0x)?([0-9a-f]{16})\b", re.IGNORECASE)

# Where lines are missing: console_emit_next_record() of kernel/printk/printk.c, and journald.
_GAP = re.compile(r"\*\* \d+ printk messages dropped|\bMissed \d+ kernel messages", re.IGNORECASE)

# The kernel's first line, and what journalctl writes between boots. ``net/x25/af_x25.c`` writes
# its own "Linux Version".
_FIRST_LINE = re.compile(
    r"\bLinux version (?P<release>\d\S{1,80})|-- (?:Boot [0-9a-f]{32}|Reboot) --"
)


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


_Key = tuple[int, Kind, int]
"""A boot, by its number, and what is named."""


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

    def __init__(self, wanted: Callable[[int], bool], encryption_mask: int | None) -> None:
        self.mentions = Mentions()
        self._wanted = wanted
        self._encryption_mask = encryption_mask
        self._known: dict[_Key, Mention] = {}
        self._numbers: dict[_Key, Mention] = {}
        # Hashes of keys take less memory than keys; a long log may have millions.
        self._dropped: set[int] = set()
        self._boot = Boot()
        self.mentions.boots.append(self._boot)
        # How many mentions there were when a boot last ended, and when one was last split.
        self._ended = self._split = 0
        self._caller = Caller()
        self._callers: dict[str, Caller] = {}

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
        for caller in (self._caller, *self._callers.values()):
            self._end_fragment(caller)

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
                yield _token(match, self._drop, self._key(Kind.PFN, digits))
        yield from self._remarks(form, lower)
        words = _DUMPED.sub(_blank, text) if "raw:" in lower or "head:" in lower else text
        for match in _WORD.finditer(words):
            value = int(match[1], 16)
            if value not in named and self._wanted(value):
                yield _token(match, self._add_number, value, form.around(*match.span()))

    def _remarks(self, form: Joined, lower: str) -> Iterator[_Token]:
        """What a line says of what was named, of the boot, and of the log itself."""
        text = form.text
        for fact in FACTS:
            if fact.keyword in lower:
                for match in fact.pattern.finditer(text):
                    yield _token(match, self._add_fact, fact, match, form)
        for boot_fact in BOOT_FACTS:
            if boot_fact.keyword in lower:
                for match in boot_fact.pattern.finditer(text):
                    yield _token(match, self._add_boot_fact, boot_fact, match)
        is_first = "linux version" in lower or "boot" in lower
        for match in _FIRST_LINE.finditer(text) if is_first else ():
            yield _token(match, self._begin_boot, match)
        for match in _GAP.finditer(text) if " messages" in lower else ():
            yield _token(match, self._lose_lines)
        for match in OTHER_DUMP.finditer(lower):
            yield _token(match, self._begin_other_dump)
        for match in EARLIER_STACK.finditer(lower):
            yield _token(match, self._caller.begin_earlier_stack)
        for match in TASK.finditer(lower) if "tainted" in lower else ():
            yield _token(match, self._caller.begin_dump, match[0])
        for match in END.finditer(lower) if "end trace" in lower else ():
            yield _token(match, self._caller.end_dump)
        for match in BANK_STATUS.finditer(lower) if "machine check" in lower else ():
            yield _token(match, self._begin_machine_check, match)

    # What is named.

    def _add(self, message: Message, values: list[Named], line: str) -> None:
        before = len(self.mentions.named)
        found = [
            self._mention(Mention(kind, value, line, message, self._boot)) for kind, value in values
        ]
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
            and self._caller.lines - latest.line <= _RANGE_DISTANCE
        )

    def _add_if_poison(self, message: Message, values: list[Named], line: str) -> None:
        if self._caller.reads_poison:
            self._add(message, values, line)

    def _begin_machine_check(self, match: re.Match[str]) -> None:
        self._caller.reads_poison = is_poison(int(match["status"], 16))

    def _mention(self, mention: Mention) -> Mention | None:
        """The mention, or an earlier one of the same; ``None`` if there are too many."""
        key = self._key(mention.kind, mention.value)
        known = self._known.get(key) or self._known.get(self._key(Kind.FAULT, mention.value))
        if known is not None:
            known.times += 1
            return known
        if len(self._known) >= MENTIONS_LIMIT:
            self._drop(key)
            return None
        self._known[key] = mention
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
        return len(self.mentions.boots), kind, value

    def _drop(self, key: _Key) -> None:
        self._dropped.add(hash(key))
        self.mentions.dropped = len(self._dropped)

    # What lines say of it.

    def _add_fact(self, fact: Fact, match: re.Match[str], form: Joined) -> None:
        caller = self._caller
        if fact.subject is Subject.PAGE_FAULT:
            caller.end_other_dump()
        latest = caller.latest.get(fact.subject)
        if latest and caller.fragment and caller.fragment_line > latest.line:
            latest = None
        if latest and caller.lines - latest.line <= fact.distance:
            fact.add(latest.mention, match)
        elif not latest or caller.lines - latest.line > OOPS_DISTANCE:
            self._add_to_fragment(fact, match, form)

    def _add_to_fragment(self, fact: Fact, match: re.Match[str], form: Joined) -> None:
        """Take a line of an oops whose first line is not in the log."""
        caller = self._caller
        if fact.subject is Subject.DUMPED_PAGE:
            return
        if caller.fragment and caller.lines - caller.fragment_line > OOPS_DISTANCE:
            self._end_fragment(caller)
        if caller.lines - caller.other_dump_line < OOPS_DISTANCE:
            return
        if caller.fragment is None:
            caller.fragment = new_fragment(form.around(*match.span()), self._boot)
        caller.fragment_line = caller.lines
        fact.add(caller.fragment, match)
        if with_address(caller.fragment):
            fragment, caller.fragment = caller.fragment, None
            before = len(self.mentions.named)
            mention = self._mention(fragment)
            if mention is not None:
                if mention is not fragment:
                    mention.take(fragment)
                caller.begin(mention, before, (Subject.PAGE_FAULT, Subject.STACK))

    def _end_fragment(self, caller: Caller) -> None:
        fragment = caller.fragment
        if fragment is not None and (
            with_short_address(fragment) or with_frame(fragment, self._encryption_mask)
        ):
            self._mention(fragment)
        elif fragment is not None and is_page_fault(fragment):
            self.mentions.unnamed += 1
        caller.fragment = None

    def _lose_lines(self) -> None:
        """Forget what was named: lines after a gap may be about what the missing lines named."""
        for caller in (self._caller, *self._callers.values()):
            self._end_fragment(caller)
            caller.forget()

    def _begin_other_dump(self) -> None:
        self._end_fragment(self._caller)
        self._caller.begin_other_dump()

    # What lines say of the boot.

    def _add_boot_fact(self, fact: BootFact, match: re.Match[str]) -> None:
        if fact.is_of_another(self._boot, match):
            self._split_boot(self._ended if fact.ends_a_boot else self._before_oops())
        fact.add(self._boot, match)
        if fact.ends_a_boot:
            self._ended = len(self.mentions.named)

    def _before_oops(self) -> int:
        """How many faults, pages and addresses were named before those of this oops."""
        latest = self._caller.latest.get(Subject.STACK)
        if latest is None or self._caller.lines - latest.line > OOPS_DISTANCE:
            return len(self.mentions.named)
        return latest.before

    def _split_boot(self, before: int) -> None:
        """
        Begin a boot whose first line is not in the log.

        :param before: How many mentions are of the boots before it.
        """
        named, first = self.mentions.named, max(before, self._split)
        self._split = len(named)
        self._boot = Boot()
        if len(self.mentions.boots) < MENTIONS_LIMIT:
            self.mentions.boots.append(self._boot)
        for mention in named[first:]:
            mention.boot = self._boot
            self._known[self._key(mention.kind, mention.value)] = mention

    def _begin_boot(self, match: re.Match[str]) -> None:
        """The first line of a boot."""
        self.finish()
        self._boot = Boot()
        if match["release"] is not None:
            self._boot.add_release(match["release"])
        self.mentions.boots.append(self._boot)
        self._ended = len(self.mentions.named)
        self._caller, self._callers = Caller(), {}


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
