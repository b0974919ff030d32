# SPDX-License-Identifier: LGPL-2.1-or-later

"""Entries that lead to page tables, as a walk passes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import NamedTuple

from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import ENTRY_SIZE, LARGE, PAGE_SIZE, PMD, PRESENT, Level


class TableEntry(NamedTuple):
    """An entry that leads to a page table."""

    address: int
    """The first virtual address of those asked for that the table maps."""
    level: Level
    """Level of the entry."""
    raw: int
    raw_address: int
    """Physical address in bytes at which the entry lies."""

    @property
    def unusual_attributes(self) -> list[str]:
        """The attributes that the kernel never gives such an entry, by the kernel's names."""
        return x86_64.unusual_table_attributes(self.raw, self.level)


def unusual_table_entries(walker: Walker, addresses: Iterable[range]) -> Iterator[TableEntry]:
    """
    The entries with unusual attributes that lead to page tables, each once.

    :param addresses: Virtual addresses in bytes, of the kernel's own data.
    """
    seen: set[int] = set()
    for wanted in addresses:
        span = PMD.table_span
        for start in range(wanted.start & -span, wanted.stop, span):
            for entry in _entries(walker, range(max(start, wanted.start), wanted.stop)):
                if entry.raw_address not in seen and entry.unusual_attributes:
                    seen.add(entry.raw_address)
                    yield entry


def _entries(walker: Walker, wanted: range) -> Iterator[TableEntry]:
    """Entries on the walk to the first address, and those beside its PMD that may be unusual."""
    address = wanted.start
    for step in walker.steps(address):
        if step.level is PMD:
            yield from _directory(walker, step.raw_address, wanted)
            return
        if step.raw is not None:
            yield TableEntry(address, step.level, step.raw, step.raw_address)


def _directory(walker: Walker, raw_address: int, wanted: range) -> Iterator[TableEntry]:
    """
    :param raw_address: Of the PMD entry of the first address.
    """
    table_address = raw_address & -PAGE_SIZE
    entries = memoryview(walker.table(table_address) or b"").cast("Q")
    # Fast path: there is no such bit in the table, not even in a leaf.
    any_bits = reduce(or_, entries, PRESENT)
    if not x86_64.unusual_table_attributes(any_bits & ~LARGE, PMD):
        return
    address = wanted.start
    for index in range(raw_address % PAGE_SIZE // ENTRY_SIZE, len(entries)):
        if address >= wanted.stop:
            return
        yield TableEntry(address, PMD, entries[index], table_address + index * ENTRY_SIZE)
        address = (address & -PMD.entry_span) + PMD.entry_span
