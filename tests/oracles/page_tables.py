# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The reference walker: one address, one entry, one function a level.

It is slow and obvious, and shares nothing with the package: what it knows is written in the
processor's manual.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Protocol

import drgn

from tests.synthetic.physical import GLOBAL, LARGE, NO_EXECUTE, PAGE_SHIFT, PRESENT, USER, WRITABLE


class Memory(Protocol):
    """Physical memory, read a number at a time."""

    def read_u64(self, address: int) -> int:
        """
        :raises drgn.FaultError: if it is not in the dump.
        """


class Page(NamedTuple):
    """How one page is mapped, or why it is not."""

    level: str
    """Of the last entry on the way."""
    raw: int | None
    raw_address: int
    frame: int | None = None
    access: str = "----"
    """Writable, user, executable, global: ``WUXG``."""
    problem: str | None = None


class Above(NamedTuple):
    """What the levels above allow."""

    writable: bool = True
    user: bool = True
    executable: bool = True


class ReferenceWalker:
    """Walks page tables in physical memory."""

    def __init__(
        self, memory: Memory, levels: int, root: int, encryption_mask: int, max_pfn: int
    ) -> None:
        """
        :param root: Physical address of the top-level table.
        :param max_pfn: First PFN beyond memory.
        """
        self._memory = memory
        self._levels = levels
        self._root = root
        self._address_bits = 0x000FFFFFFFFFF000 & ~encryption_mask
        self._max_pfn = max_pfn

    def walk(self, address: int) -> Page:
        if self._levels == 5:
            return self._pgd_of_5(address)
        return self._pgd_of_4(address)

    def _pgd_of_5(self, address: int) -> Page:
        return self._entry("PGD", 48, self._root, Above(), address, None, self._p4d)

    def _p4d(self, address: int, table: int, above: Above) -> Page:
        return self._entry("P4D", 39, table, above, address, None, self._pud)

    def _pgd_of_4(self, address: int) -> Page:
        return self._entry("PGD", 39, self._root, Above(), address, None, self._pud)

    def _pud(self, address: int, table: int, above: Above) -> Page:
        return self._entry("PUD", 30, table, above, address, 0x000FFFFFC0000000, self._pmd)

    def _pmd(self, address: int, table: int, above: Above) -> Page:
        return self._entry("PMD", 21, table, above, address, 0x000FFFFFFFE00000, self._pte)

    def _pte(self, address: int, table: int, above: Above) -> Page:
        return self._entry("PTE", 12, table, above, address, 0x000FFFFFFFFFF000, None)

    def _entry(
        self,
        level: str,
        shift: int,
        table: int,
        above: Above,
        address: int,
        leaf_bits: int | None,
        below: Callable[[int, int, Above], Page] | None,
    ) -> Page:
        """
        :param leaf_bits: The address bits of a leaf; ``None`` where there can be no leaf.
        :param below: The next level; ``None`` for the last one.
        """
        raw_address = table + (address >> shift) % 512 * 8
        try:
            raw = self._memory.read_u64(raw_address)
        except drgn.FaultError:
            return Page(level, None, raw_address, problem="not in the dump")
        if not raw & PRESENT:
            return Page(level, raw, raw_address, problem="not present")
        here = Above(
            above.writable and bool(raw & WRITABLE),
            above.user and bool(raw & USER),
            above.executable and not raw & NO_EXECUTE,
        )
        if below is not None and not raw & LARGE:
            next_table = raw & self._address_bits
            if next_table >> PAGE_SHIFT >= self._max_pfn:
                return Page(level, raw, raw_address, problem="beyond physical memory")
            return below(address, next_table, here)
        if leaf_bits is None:
            return Page(level, raw, raw_address, problem="reserved bit set")
        # PAT is bit 12 of a large leaf.
        if shift > 12 and raw % (1 << shift) >> 13:
            return Page(level, raw, raw_address, problem="reserved bit set")
        start = raw & leaf_bits & self._address_bits
        frame = (start + address % (1 << shift)) >> PAGE_SHIFT
        problem = "beyond physical memory" if frame >= self._max_pfn else None
        access = (
            "-W"[here.writable] + "-U"[here.user] + "-X"[here.executable] + "-G"[raw & GLOBAL != 0]
        )
        return Page(level, raw, raw_address, frame, access, problem)
