# SPDX-License-Identifier: LGPL-2.1-or-later

"""Mentions: the records of faults, pages and addresses that a log names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.explain.error_code import INSTRUCTION, WRITE
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.messages.architectures import OTHER, OTHER_ARCHITECTURES
from drgn_vmemmap.explain.messages.faults import GENERAL_PROTECTION
from drgn_vmemmap.explain.messages.message import Kind, Message
from drgn_vmemmap.paging.leaf import Leaf, leaf_of, likely_encryption_mask

_ACCESS = re.compile(r"#?PF: \w+ (write|read|instruction fetch)", re.IGNORECASE)


class LoggedWalk(NamedTuple):
    """The entries on the walk to an address, as a fault logs them."""

    entries: tuple[tuple[str, int], ...]
    """Names of the levels and raw entries, from the root down, as far as the walk went."""

    def entry(self, level: str) -> int | None:
        """The entry of a level."""
        return dict(self.entries).get(level)

    def leaf(self, address: int = 0, encryption_mask: int | None = None) -> Leaf | None:
        """
        What the walk led to.

        :param address: The virtual address in bytes, if it is known.
        :param encryption_mask: See :class:`drgn_vmemmap.paging.mapping.Paging`; without one, the
            likely one.
        :return: ``None`` if the entries do not reach its end.
        """
        if encryption_mask is None:
            encryption_mask = likely_encryption_mask(self.entries)
        return leaf_of(self.entries, address, encryption_mask)


@dataclass
class Mention:
    """A fault, a page or an address that a log names."""

    kind: Kind
    value: int
    line: str
    """The first line that names it, printable."""
    message: Message | None = None
    """The wording that names it; ``None`` for a mere number, such as a register's."""
    boot: Boot = field(default_factory=Boot)
    """The boot that wrote this part of the log."""
    times: int = 1
    """The number of lines that name it."""
    details: list[str] = field(default_factory=list)
    """Lines after it that belong to this fault or this page."""
    error_code: int | None = None
    number: int = 0
    """Which oops of its boot it is, from 1; 0 if that is not known."""
    walk: LoggedWalk | None = None
    words: list[int] = field(default_factory=list)
    """The words of 8 bytes of a dumped page's struct page."""
    functions: list[str] = field(default_factory=list)
    """Where the kernel was, the innermost one first."""
    registers: dict[str, int] = field(default_factory=dict)

    def take(self, part: Mention) -> None:
        """Take what another part of the log says of the same fault, where this part does not."""
        self.details += [each for each in part.details if each not in self.details]
        self.error_code = part.error_code if self.error_code is None else self.error_code
        self.number = self.number or part.number
        self.walk = self.walk or part.walk
        self.functions += [each for each in part.functions if each not in self.functions]
        self.registers = {**part.registers, **self.registers}

    def has_error(self, bits: int) -> bool:
        """Whether the error code is known to have one of some bits."""
        return bool((self.error_code or 0) & bits)

    @property
    def is_fault(self) -> bool:
        """Whether the kernel faulted there."""
        return self.kind is Kind.FAULT

    @property
    def is_page_fault(self) -> bool:
        """Whether it was a page fault: its log has an access, and a walk."""
        return self.is_fault and self.message not in GENERAL_PROTECTION

    @property
    def is_page(self) -> bool:
        """Whether a page is named, by its PFN."""
        return self.kind is Kind.PFN

    @property
    def is_virtual(self) -> bool:
        """Whether a virtual address is named."""
        return self.kind in (Kind.FAULT, Kind.ADDRESS)

    @property
    def architecture(self) -> str | None:
        """The architecture of the kernel, by its name, if it is another one than x86-64."""
        if self.message in OTHER_ARCHITECTURES:
            return self.boot.architecture or OTHER
        return self.boot.other_architecture

    @property
    def access(self) -> str | None:
        """What faulted: a ``read``, ``write`` or ``instruction fetch``; ``None`` if unknown."""
        for detail in self.details:
            match = _ACCESS.match(detail)
            if match:
                return match[1].lower()
        if self.error_code is None:
            return None
        if self.error_code & INSTRUCTION:
            return "instruction fetch"
        return "write" if self.error_code & WRITE else "read"


@dataclass
class Mentions:
    """All that a log names."""

    named: list[Mention] = field(default_factory=list)
    """Faults, and what messages name, in the order in which they first appear."""
    others: list[Mention] = field(default_factory=list)
    """Other addresses that were asked for."""
    dropped: int = 0
    """How many there are beyond these."""
    unnamed: int = 0
    """How many page faults there are whose addresses are not in the log."""
    boots: list[Boot] = field(default_factory=list)
    """The boots that wrote it."""

    @property
    def architectures(self) -> set[str]:
        """The architectures of kernels that wrote it, by their names, other than x86-64."""
        names = {mention.architecture for mention in self.named}
        names |= {boot.other_architecture for boot in self.boots}
        found = {name for name in names if name is not None}
        return found - {OTHER} or found
