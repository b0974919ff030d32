# SPDX-License-Identifier: LGPL-2.1-or-later

"""Physical memory built in Python, page tables in it, and a drgn program that reads it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Callable

import drgn

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
GLOBAL = 1 << 8
NO_EXECUTE = 1 << 63

KERNEL_TABLE = PRESENT | WRITABLE | ACCESSED | DIRTY
"""``_KERNPG_TABLE``"""
KERNEL = KERNEL_TABLE | GLOBAL | NO_EXECUTE
"""``PAGE_KERNEL``"""
KERNEL_RO = PRESENT | ACCESSED | GLOBAL | NO_EXECUTE
"""``PAGE_KERNEL_RO``, since v6.6; before, it had ``DIRTY`` too."""

_SHIFTS = {
    4: {"PGD": 39, "PUD": 30, "PMD": 21, "PTE": 12},
    5: {"PGD": 48, "P4D": 39, "PUD": 30, "PMD": 21, "PTE": 12},
}


class PhysicalMemory:
    """The frames that are in the dump; there are no others."""

    def __init__(self) -> None:
        self.frames: dict[int, bytes | bytearray] = {}

    def fill(self, pfns: Iterable[int], content: bytes) -> None:
        """Give frames the same content, cheaply: it is copied where it is written to."""
        self.frames.update(dict.fromkeys(pfns, content))

    def write(self, address: int, data: bytes) -> None:
        """Write to physical memory; frames that were not there begin as zeros."""
        while data:
            pfn, offset = divmod(address, PAGE_SIZE)
            part = data[: PAGE_SIZE - offset]
            self.writable(pfn)[offset : offset + len(part)] = part
            address, data = address + len(part), data[len(part) :]

    def writable(self, pfn: int) -> bytearray:
        """A frame that can be changed in place."""
        frame = self.frames.get(pfn, b"")
        if not isinstance(frame, bytearray):
            frame = self.frames[pfn] = bytearray(frame or PAGE_SIZE)
        return frame

    def write_u64(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(8, "little"))

    def read(self, address: int, size: int) -> bytes:
        """
        :raises drgn.FaultError: if any of it is not in the dump.
        """
        pfn, offset = divmod(address, PAGE_SIZE)
        frame = self.frames.get(pfn)
        if frame is not None and offset + size <= PAGE_SIZE:
            return bytes(frame[offset : offset + size])  # most reads lie within a frame
        parts = []
        while size:
            pfn, offset = divmod(address, PAGE_SIZE)
            part = min(size, PAGE_SIZE - offset)
            if pfn not in self.frames:
                raise drgn.FaultError("not in the dump", address)
            parts.append(bytes(self.frames[pfn][offset : offset + part]))
            address, size = address + part, size - part
        return b"".join(parts)

    def read_u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def program(self) -> drgn.Program:
        """A program whose physical memory this is, and of which nothing else is known yet."""
        prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))

        def read(address: int, count: int, offset: int, physical: bool) -> bytes:
            return self.read(address, count)

        prog.add_memory_segment(0, 1 << 52, read, physical=True)
        return prog


class PageTables:
    """Page tables in physical memory, made as they are needed."""

    def __init__(
        self,
        memory: PhysicalMemory,
        levels: int,
        root: int,
        allocate: Callable[[], int],
        encryption_mask: int = 0,
        has_no_execute: bool = True,
    ) -> None:
        """
        :param root: PFN of the top-level table.
        :param allocate: Gives the PFN of a frame for a new table.
        """
        self._memory = memory
        self._shifts = _SHIFTS[levels]
        self._root = root
        self._allocate = allocate
        self._encryption_mask = encryption_mask
        self._supported = -1 if has_no_execute else ~NO_EXECUTE
        memory.fill([root], bytes(PAGE_SIZE))

    def map(self, address: int, pfn: int, level: str, flags: int) -> None:
        """Map what one entry of a level covers, with the tables on the way."""
        entry = self._entry(pfn, flags) | (0 if level == "PTE" else LARGE)
        self._memory.write_u64(self.entry_address(address, level), entry)

    def map_pages(self, address: int, pages: Iterable[tuple[int, int]]) -> None:
        """
        Map consecutive pages that one table maps.

        :param pages: PFN and flags of each.
        """
        entries = array("Q", (self._entry(pfn, flags) for pfn, flags in pages))
        self._memory.write(self.entry_address(address, "PTE"), entries.tobytes())

    def _entry(self, pfn: int, flags: int) -> int:
        return pfn << PAGE_SHIFT | flags & self._supported | self._encryption_mask

    def map_range(self, address: int, pfns: range, level: str, flags: int) -> None:
        step = 1 << (self._shifts[level] - PAGE_SHIFT)
        for pfn in pfns[::step]:
            self.map(address + ((pfn - pfns.start) << PAGE_SHIFT), pfn, level, flags)

    def split(self, address: int) -> int:
        """
        Replace a PMD leaf by a table that maps the same.

        :return: The table's PFN.
        """
        entry_address = self.entry_address(address, "PMD")
        leaf = self._memory.read_u64(entry_address)
        table = self._allocate()
        entries = ((leaf & ~LARGE) + (i << PAGE_SHIFT) for i in range(512))
        self._memory.write(
            table << PAGE_SHIFT, b"".join(entry.to_bytes(8, "little") for entry in entries)
        )
        self._memory.write_u64(
            entry_address, table << PAGE_SHIFT | KERNEL_TABLE | self._encryption_mask
        )
        return table

    def entry_address(self, address: int, level: str) -> int:
        """Physical address of the entry of a level for a virtual address."""
        table = self._root
        for name, shift in self._shifts.items():
            entry_address = (table << PAGE_SHIFT) + (address >> shift) % 512 * 8
            if name == level:
                return entry_address
            entry = self._memory.read_u64(entry_address)
            if not entry & PRESENT:
                table = self._allocate()
                self._memory.fill([table], bytes(PAGE_SIZE))
                entry = table << PAGE_SHIFT | KERNEL_TABLE | self._encryption_mask
                self._memory.write_u64(entry_address, entry)
            assert not entry & LARGE, f"{address:#x} is mapped by a {name} leaf"
            table = (entry & ~self._encryption_mask & ((1 << 52) - 1)) >> PAGE_SHIFT
        raise ValueError(f"no level {level}")
