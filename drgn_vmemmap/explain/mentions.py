# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kernel's log: the addresses and PFNs that an oops, or a "Bad page state", names.

Follows ``show_fault_oops()`` of ``arch/x86/mm/fault.c``, ``bad_page()`` of
``mm/page_alloc.c``, ``__dump_page()`` of ``mm/debug.c`` and ``action_result()`` of
``mm/memory-failure.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drgn_vmemmap.errors import printable

# An oops has a hundred lines.
_MENTIONS_LIMIT = 4096

_FAULT = re.compile(
    r"(?:unable to handle|NULL pointer dereference|general protection fault)"
    r".{0,80}?\b(?:address:?|at)\s+(?:0x([0-9a-f]{1,16})|([0-9a-f]{16}))\b",
    re.IGNORECASE,
)

# dump_page() writes "pfn:"; "Bad page state" has it, too.
_PFN = re.compile(
    r"\b(?:pfn[:=]\s*|(?:memory failure|soft offline|unpoison): (?=0x))(?:0x)?([0-9a-f]{1,16})\b",
    re.IGNORECASE,
)

# HugeTLB's own message has it in decimal.
_DECIMAL_PFN = re.compile(r"\brefcount on PFN (\d{1,16})\b")

_WORD = re.compile(r"\b(?:0x)?([0-9a-f]{16})\b", re.IGNORECASE)

# What a fault or a bad page was is told a few lines behind its address or PFN.
_DETAIL = re.compile(r"#PF: .*|page dumped because: .*")
_DETAIL_DISTANCE = 16
_DETAILS_LIMIT = 8

_ACCESS = re.compile(r"#PF: \w+ (write|read|instruction fetch)")


class Mention(NamedTuple):
    """An address or a PFN that a log names."""

    value: int
    is_pfn: bool
    is_fault: bool
    """It is where the kernel faulted; otherwise, it may be any value, such as a register's."""
    line: str
    """The first line that names it, printable."""
    times: int
    """In how many lines it is."""
    details: tuple[str, ...] = ()
    """What the lines behind say of this fault, or of this bad page."""

    @property
    def access(self) -> str | None:
        """What faulted: a ``read``, ``write`` or ``instruction fetch``; ``None`` if not told."""
        told = filter(None, map(_ACCESS.match, self.details))
        return next((match[1] for match in told), None)


def lines(text: bytes) -> Iterator[str]:
    """Lines of a text, printable."""
    return map(printable, text.decode("utf-8", "replace").splitlines())


def mentions(log: Iterable[str]) -> list[Mention]:
    """
    Addresses and PFNs that a log names, in the order in which they first appear.

    Addresses that the kernel hides behind a hash (``%p``) look like others; what
    they point to tells them apart.
    """
    found: dict[tuple[int, bool], Mention] = {}
    last, last_number = None, 0
    for number, line in enumerate(log):
        for value, is_pfn, is_fault in _in_line(line):
            key = value, is_pfn
            known = found.get(key)
            if known is not None:
                found[key] = known._replace(
                    times=known.times + 1, is_fault=known.is_fault or is_fault
                )
            elif len(found) < _MENTIONS_LIMIT:
                found[key] = Mention(value, is_pfn, is_fault, line, 1)
            if (is_fault or is_pfn) and key in found:
                last, last_number = key, number
        detail = _DETAIL.search(line)
        if detail and last is not None and number - last_number <= _DETAIL_DISTANCE:
            found[last] = _with_detail(found[last], detail[0])
    return list(found.values())


def _with_detail(mention: Mention, detail: str) -> Mention:
    if detail in mention.details or len(mention.details) == _DETAILS_LIMIT:
        return mention
    return mention._replace(details=(*mention.details, detail))


def _in_line(line: str) -> set[tuple[int, bool, bool]]:
    """Value, whether it is a PFN, and whether it is where the kernel faulted."""
    faults = {int(match[1] or match[2], 16) for match in _FAULT.finditer(line)}
    words = {int(match[1], 16) for match in _WORD.finditer(line)} - faults
    pfns = {int(match[1], 16) for match in _PFN.finditer(line)}
    pfns |= {int(match[1]) for match in _DECIMAL_PFN.finditer(line)}
    return (
        {(value, False, True) for value in faults}
        | {(value, False, False) for value in words}
        | {(value, True, False) for value in pfns}
    )
