# SPDX-License-Identifier: LGPL-2.1-or-later

"""A wording of the kernel, and what it names."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.paging.leaf import leaf_of
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PHYSICAL_BITS


class Kind(enum.Enum):
    """Kinds of numbers in a log."""

    FAULT = "fault"
    """A virtual address at which the kernel faulted."""
    ADDRESS = "address"
    """A virtual address."""
    PFN = "PFN"
    """A page frame number."""
    PHYSICAL = "physical address"
    """A physical address."""


class Named(NamedTuple):
    """A number that a message names."""

    kind: Kind
    value: int


class Message(NamedTuple):
    """A wording of the kernel."""

    name: str
    keyword: str
    """Lower-case text that each such message holds."""
    pattern: re.Pattern[str]
    """
    The names of its groups say what is named, in hex unless they begin with ``decimal_``:
    ``fault``, ``address``, ``pointer`` (which may be hashed), ``pfn``, ``any_pfn`` (which may be
    in decimal), ``end`` (the PFN after the last one), ``entry`` (of a page table) and
    ``physical``; digits may follow.
    """
    kernels: str
    """
    The first and the last version that has it, of those that were read: see
    :mod:`drgn_vmemmap.explain.messages.versions`.
    """
    source: str
    """The function that writes it, and its file."""

    @property
    def names_an_entry(self) -> bool:
        """Whether it names an entry of a page table."""
        return "entry" in self.pattern.groupindex

    def named(self, match: re.Match[str], encryption_mask: int = 0) -> Iterator[Named]:
        """
        The numbers in a match of the pattern, by kind.

        :param encryption_mask: See :class:`drgn_vmemmap.paging.mapping.Paging`.
        """
        for group, digits in match.groupdict().items():
            if digits is None:
                continue
            kind, of = _GROUPS[group.rstrip("0123456789")]
            value = of(digits)
            if value is not None and group == "entry":
                value &= ~(encryption_mask >> PAGE_SHIFT)
            if value is not None:
                yield Named(kind, value)


def _hex(digits: str) -> int | None:
    return int(digits, 16)


def _before(digits: str) -> int | None:
    """The last PFN before the end of a range."""
    return int(digits, 16) - 1 if int(digits, 16) else None


def _decimal(digits: str) -> int | None:
    return int(digits)


def _decimal_before(digits: str) -> int | None:
    return int(digits) - 1 if int(digits) else None


def _pointer(digits: str) -> int | None:
    """A pointer, unless it is hashed: ``%p`` leaves 32 bits of such a one."""
    value = int(digits, 16)
    return value if value >> 32 else None


def _entry(digits: str) -> int | None:
    """The PFN in a page table entry, if that maps a page."""
    leaf = leaf_of((("PTE", int(digits, 16)),), 0)
    return None if leaf is None else leaf.frame


def _physical(digits: str, base: int = 16) -> int | None:
    """A physical address, unless no processor has one so high."""
    value = int(digits, base)
    return None if value >> PHYSICAL_BITS else value


def _decimal_physical(digits: str) -> int | None:
    return _physical(digits, 10)


def _hex_for_certain(digits: str) -> int | None:
    """A number in hex, unless it may as well be in decimal."""
    return None if digits.isdecimal() and digits[0] != "0" else int(digits, 16)


_GROUPS = {
    "fault": (Kind.FAULT, _hex),
    "address": (Kind.ADDRESS, _hex),
    "pointer": (Kind.ADDRESS, _pointer),
    "pfn": (Kind.PFN, _hex),
    "end": (Kind.PFN, _before),
    "any_pfn": (Kind.PFN, _hex_for_certain),
    "decimal_pfn": (Kind.PFN, _decimal),
    "decimal_end": (Kind.PFN, _decimal_before),
    "entry": (Kind.PFN, _entry),
    "physical": (Kind.PHYSICAL, _physical),
    "decimal_physical": (Kind.PHYSICAL, _decimal_physical),
}

_NUMBERS = {
    "%fault": r"(?:0x)?(?P<fault>[0-9a-f]{16})\b",
    "%xfault": r"0x(?P<fault>[0-9a-f]{1,16})\b",
    "%address": r"(?:0x)?(?P<address>[0-9a-f]{16})\b",
    "%pointer": r"(?:0x)?(?P<pointer>[0-9a-f]{16})\b",
    "%pfn": r"0x(?P<pfn>[0-9a-f]{1,16})\b",
    "%barepfn": r"(?P<pfn>[0-9a-f]{1,16})\b",
    "%decimal": r"(?P<decimal_pfn>\d{1,16})\b",
    "%physical": r"(?:0x)?(?P<physical>[0-9a-f]{1,16})\b",
}
"""The patterns of numbers, by the marks that stand for them in messages."""

_MARK = re.compile("%[a-z]+")


def message(name: str, keyword: str, pattern: str, kernels: str, source: str) -> Message:
    """
    Make a :class:`Message`.

    :param pattern: With ``%pfn``, ``%address`` and the like for numbers as the kernel writes them.
    """
    written = _MARK.sub(lambda mark: _NUMBERS[mark[0]], pattern)
    return Message(name, keyword, re.compile(written, re.IGNORECASE), kernels, source)
