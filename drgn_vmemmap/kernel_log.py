# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kernel's log: the addresses and PFNs that an oops, or a "Bad page state", names.

Follows ``show_fault_oops()`` of ``arch/x86/mm/fault.c``, ``bad_page()`` of
``mm/page_alloc.c`` and ``__dump_page()`` of ``mm/debug.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import drgn
from drgn.helpers.linux.printk import get_printk_records

from drgn_vmemmap.kernel import printable

# A ring of records has as many as the log's size allows; 1 << 25 is the largest log.
_RECORDS_LIMIT = 1 << 20

# An oops has a hundred lines.
_MENTIONS_LIMIT = 4096

_FAULT = re.compile(
    r"(?:unable to handle|NULL pointer dereference).*?(?:address:|at|dereference at)\s+"
    r"(?:0x)?([0-9a-f]{16})\b",
    re.IGNORECASE,
)

# dump_page() writes "pfn:", "Bad page state" has it behind two spaces.
_PFN = re.compile(r"\bpfn[:=]\s*(?:0x)?([0-9a-f]{1,16})\b", re.IGNORECASE)

# HugeTLB's own message has it in decimal.
_DECIMAL_PFN = re.compile(r"\brefcount on PFN (\d{1,16})\b")

_WORD = re.compile(r"\b(?:0x)?([0-9a-f]{16})\b", re.IGNORECASE)


class NoLog(Exception):
    """The dump's log cannot be read; the message says why."""


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


def read_log(prog: drgn.Program) -> list[str]:
    """
    The kernel's own log.

    :return: Its lines, printable, without time stamps.
    :raises NoLog: if it is not in the dump, or damaged.
    """
    try:
        ring = prog["prb"].desc_ring
        records = int(ring.head_id.counter) - int(ring.tail_id.counter)
        size = 1 << (int(ring.count_bits) & 63)
        # drgn's helper goes from the one to the other.
        if not 0 <= records < min(size, _RECORDS_LIMIT):
            raise NoLog(f"the kernel's log is damaged: it claims to have {records} records")
    except LookupError:
        pass  # before v5.10, it was no ring of records; drgn's helper knows
    except drgn.FaultError as error:
        raise NoLog("the kernel's log is not in the dump") from error
    try:
        texts = [record.text for record in get_printk_records(prog)]
    except (LookupError, drgn.FaultError, ValueError, OverflowError, MemoryError) as error:
        raise NoLog(f"the kernel's log cannot be read ({printable(str(error))})") from error
    return [line for text in texts for line in lines(text.decode("utf-8", "replace"))]


def lines(text: str) -> Iterator[str]:
    """Lines of a text, printable."""
    return map(printable, text.splitlines())


def mentions(log: Iterable[str]) -> list[Mention]:
    """
    Addresses and PFNs that a log names, in the order in which they first appear.

    Addresses that the kernel hides behind a hash (``%p``) look like others; what
    they point to tells them apart.
    """
    found: dict[tuple[int, bool], Mention] = {}
    for line in log:
        for value, is_pfn, is_fault in _in_line(line):
            known = found.get((value, is_pfn))
            if known is not None:
                found[value, is_pfn] = known._replace(
                    times=known.times + 1, is_fault=known.is_fault or is_fault
                )
            elif len(found) < _MENTIONS_LIMIT:
                found[value, is_pfn] = Mention(value, is_pfn, is_fault, line, 1)
    return list(found.values())


def _in_line(line: str) -> set[tuple[int, bool, bool]]:
    """Value, whether it is a PFN, and whether it is where the kernel faulted."""
    faults = {int(match[1], 16) for match in _FAULT.finditer(line)}
    words = {int(match[1], 16) for match in _WORD.finditer(line)} - faults
    pfns = {int(match[1], 16) for match in _PFN.finditer(line)}
    pfns |= {int(match[1]) for match in _DECIMAL_PFN.finditer(line)}
    return (
        {(value, False, True) for value in faults}
        | {(value, False, False) for value in words}
        | {(value, True, False) for value in pfns}
    )
