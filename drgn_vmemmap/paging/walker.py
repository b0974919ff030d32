# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The walker: how virtual addresses are mapped, one table at a time.

Everything that can be in a page table is a result here, never an exception: an
entry that is not present, a frame beyond physical memory, a table that is not
in the dump.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_, or_
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory, NotMapped
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.mapping import Entry, Paging, Problem, Run, Step
from drgn_vmemmap.paging.x86_64 import (
    ENTRY_SIZE,
    LARGE,
    NO_EXECUTE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD,
    PRESENT,
    PTE,
    PUD,
    WRITABLE,
    Access,
    Level,
)
from drgn_vmemmap.target.memory import Memory


class _Directory(NamedTuple):
    """A table of PMD entries."""

    address: int
    """Its physical address in bytes."""
    entries: memoryview[int]
    above: int
    """The access that the levels above leave: see :attr:`Run.above`."""


_RUN_SPAN = PMD.entry_span
"""Bytes that one last-level table covers."""

_ENTRY = struct.Struct("<Q")

_NO_ACCESS = Access(False, False, False, False)


class Walker:
    """
    Walks a kernel's page tables.

    All of a table is read at once, and kept; on a live kernel, take a new walker
    for each pass.
    """

    def __init__(self, memory: Memory, paging: Paging) -> None:
        self.memory = memory
        self.paging = paging
        self._levels = x86_64.levels(paging.levels)
        self._page_mask = x86_64.address_mask(PTE, paging.encryption_mask)
        self._tables: dict[int, bytes | None] = {}
        self._latest = b""
        """The table that was read last."""
        self._runs: dict[int, Run] = {}
        self._directories: dict[int, _Directory | None] = {}

    def table(self, address: int) -> bytes | None:
        """
        :param address: Physical address in bytes of a page table.
        :return: Its 4096 bytes, or ``None`` if they are not in the dump.
        """
        if address not in self._tables:
            self._tables[address] = self._read_table(address)
        return self._tables[address]

    def _read_table(self, address: int) -> bytes | None:
        try:
            table = self.memory.read(address, PAGE_SIZE)
        except MissingMemory:
            return None
        # Most tables over a gigantic folio have the same entries: these are kept once.
        if table != self._latest:
            self._latest = table
        return self._latest

    def has_read_table(self, address: int) -> bool:
        """Whether the page table at a physical address was read."""
        return address in self._tables

    def walk(self, start: int, end: int) -> Iterator[Run]:
        """
        Walk a range of virtual addresses in ascending order.

        Each step goes one level down or to fewer entries, so that the walk ends
        even if tables point at each other in a circle.

        :param start: First virtual address in bytes, a multiple of 4 KiB.
        :param end: Virtual address in bytes after the last one, a multiple of 4 KiB.
        :return: Runs that together cover the range without a gap.
        """
        if start >= end:
            return
        pending = [(0, self.paging.root, self.paging.access_at_root, start, end)]
        while pending:
            depth, address, above, start, end = pending.pop()
            level = self._levels[depth]
            first, last = level.entry_index(start), level.entry_index(end - 1)
            table = self.table(address)
            if table is not None and level is not PTE:
                if first != last:
                    pending.extend(
                        (depth, address, above, max(start, entry_start), min(end, entry_end))
                        for entry_start, entry_end in _entry_spans(level, end, last - first + 1)
                    )
                    continue
                (entry,) = _ENTRY.unpack_from(table, first * ENTRY_SIZE)
                child = self._table_below(entry, level)
                if child is not None:
                    pending.append(
                        (depth + 1, child, x86_64.effective_access(above, entry), start, end)
                    )
                    continue
            yield Run(
                start,
                end,
                level,
                address + first * ENTRY_SIZE,
                b"" if table is None else table[first * ENTRY_SIZE : (last + 1) * ENTRY_SIZE],
                above,
            )

    def _table_below(self, entry: int, level: Level) -> int | None:
        """Physical address of the table that *entry* leads to; ``None`` where the walk ends."""
        # Where the bit for a large leaf is set, there is one, or the bit is reserved.
        if level is PTE or entry & (PRESENT | LARGE) != PRESENT:
            return None
        table = entry & self._page_mask
        return table if table >> PAGE_SHIFT < self.paging.max_pfn else None

    def steps(self, address: int) -> Iterator[Step]:
        """
        The walk to one address, level by level, as far as it goes.

        :param address: Virtual address in bytes.
        """
        for level, table_address, above in self._descend(address):
            raw_address = table_address + level.entry_index(address) * ENTRY_SIZE
            table = self.table(table_address)
            if table is None:
                yield Step(level, None, raw_address, _NO_ACCESS)
                return
            (entry,) = _ENTRY.unpack_from(table, raw_address - table_address)
            present = entry & PRESENT
            access = x86_64.access(above, entry) if present else _NO_ACCESS
            yield Step(level, entry, raw_address, access)

    def _descend(self, address: int) -> Iterator[tuple[Level, int, int]]:
        """
        The tables on the walk to an address, from the root down.

        :return: Of each, its level, its physical address, and what the levels above leave.
        """
        table_address, above = self.paging.root, self.paging.access_at_root
        for level in self._levels:
            yield level, table_address, above
            table = self.table(table_address)
            if table is None:
                return
            (entry,) = _ENTRY.unpack_from(table, level.entry_index(address) * ENTRY_SIZE)
            child = self._table_below(entry, level)
            if child is None:
                return
            table_address, above = child, x86_64.effective_access(above, entry)

    def tables(self, address: int) -> list[int]:
        """Physical addresses of the tables on the walk to an address, from the root down."""
        return [table for _, table, _ in self._descend(address)]

    def run_at(self, address: int) -> Run:
        """
        The run at *address*, as far as it reaches within its 2 MiB.

        That is what one last-level table covers, so it is one table's entries or
        one entry of a higher level. It is kept for later calls.

        :param address: Virtual address in bytes.
        """
        start = address & -_RUN_SPAN
        run = self._runs.get(start)
        if run is None:
            run = self._runs[start] = self._run(start)
        return run

    def _run(self, start: int) -> Run:
        """The run that begins at a multiple of 2 MiB, as far as it reaches within them."""
        directory, end = self._directory(start), start + _RUN_SPAN
        if directory is None:
            return next(self.walk(start, end))
        above, index = directory.above, PMD.entry_index(start)
        entry = directory.entries[index]
        address = self._table_below(entry, PMD)
        if address is None:
            raw, address = entry.to_bytes(ENTRY_SIZE, "little"), directory.address
            return Run(start, end, PMD, address + index * ENTRY_SIZE, raw, above)
        table = self.table(address) or b""
        return Run(start, end, PTE, address, table, x86_64.effective_access(above, entry))

    def _directory(self, address: int) -> _Directory | None:
        """The PMD entries of the 1 GiB around an address; ``None`` if the walk ends above them."""
        key = address >> PUD.shift
        if key not in self._directories:
            self._directories[key] = None
            for level, table_address, above in self._descend(address):
                table = self.table(table_address) if level is PMD else None
                if table is not None:
                    entries = memoryview(table).cast("Q")
                    self._directories[key] = _Directory(table_address, entries, above)
        return self._directories[key]

    def last_level_tables(self, addresses: range) -> Iterator[int]:
        """
        The last-level tables over some virtual addresses, as far as they are in the dump.

        :param addresses: In bytes, one after the other.
        :return: Physical addresses in bytes of the tables.
        """
        leads_on, mask, span = PRESENT | LARGE, self._page_mask, PUD.entry_span
        limit = self.paging.max_pfn << PAGE_SHIFT
        for start in range(addresses.start & -span, addresses.stop, span):
            directory = self._directory(start)
            if directory is None:
                continue
            first = PMD.entry_index(max(start, addresses.start))
            last = PMD.entry_index(min(start + span, addresses.stop) - 1)
            entries = directory.entries[first : last + 1].tolist()
            tables = {entry & mask for entry in entries if entry & leads_on == PRESENT}
            for table in tables:
                if table < limit and self.table(table) is not None:
                    yield table

    def frames(self, run: Run, pages: Sequence[int] | None = None) -> Sequence[int | None]:
        """
        Frames backing pages of a run, without an object for each.

        :param pages: Indices of the pages in the run; all if it is ``None``.
        :return: PFNs; ``None`` for a page that is mapped to no memory.
        """
        pages = range(run.pages) if pages is None else pages
        if run.level is not PTE or not run.raw:
            frame = self.first_frame(run)
            return [None] * len(pages) if frame is None else [frame + page for page in pages]
        if isinstance(pages, range):
            entries = run.entries()[pages.start : pages.stop : pages.step].tolist()
        else:
            entries = [*map(run.entries().__getitem__, pages)]
        mask = self._page_mask
        frames = [(entry & mask) >> PAGE_SHIFT for entry in entries]
        limit = self.paging.max_pfn
        if entries and reduce(and_, entries) & PRESENT and max(frames) < limit:
            return frames
        return [
            frame if entry & PRESENT and frame < limit else None
            for entry, frame in zip(entries, frames)
        ]

    def read_only(self, run: Run) -> list[int]:
        """Indices of the pages of a run that are present and not writable; of a leaf, only 0."""
        entries = run.entries().tolist()
        mask = PRESENT | (run.above & WRITABLE)
        return [index for index, entry in enumerate(entries) if entry & mask == PRESENT]

    def writable_leaf(self, run: Run) -> range | None:
        """
        PFNs of all frames of the large leaf that a run is.

        :return: ``None`` unless it is a leaf with the attributes of the kernel's own data that
            lies in memory and can be written.
        """
        if not run.raw or run.level is PTE or not run.above & WRITABLE:
            return None
        (raw,) = _ENTRY.unpack_from(run.raw)
        if raw & (PRESENT | WRITABLE) != PRESENT | WRITABLE or not x86_64.is_leaf(raw, run.level):
            return None
        if x86_64.unusual_attributes(raw, run.level, x86_64.access(run.above, raw)):
            return None
        if x86_64.is_reserved(raw, run.level):
            return None
        address = raw & x86_64.address_mask(run.level, self.paging.encryption_mask)
        frames = range(address >> PAGE_SHIFT, (address + run.level.entry_span) >> PAGE_SHIFT)
        return frames if frames.stop <= self.paging.max_pfn else None

    def is_usual(self, run: Run) -> bool:
        """
        Whether all entries of a run have the attributes of the kernel's own data.

        The result may be false although that is so, never true although it is not.
        """
        entries = run.entries().tolist()
        return not entries or x86_64.are_usual(
            reduce(or_, entries), reduce(and_, entries) | run.above & NO_EXECUTE, run.level
        )

    def first_frame(self, run: Run) -> int | None:
        """PFN of the frame that backs a run's first page; ``None`` if it is mapped to no memory."""
        return self._frame_at(run, run.start)

    def _frame_at(self, run: Run, address: int) -> int | None:
        """PFN of the frame at an address in a run; ``None`` if it is mapped to no memory."""
        if not run.raw:
            return None
        index = (address - run.start) >> PAGE_SHIFT if run.level is PTE else 0
        (raw,) = _ENTRY.unpack_from(run.raw, index * ENTRY_SIZE)
        frame, problem = self._frame(raw, run.level, address)
        return frame if problem is None else None

    def pages(self, run: Run) -> Iterator[Entry]:
        """How each 4 KiB page of a run is mapped, in ascending order."""
        for number, address in enumerate(range(run.start, run.end, PAGE_SIZE)):
            offset = number * ENTRY_SIZE if run.level is PTE else 0
            yield self._entry(run, address, offset)

    def entry(self, address: int) -> Entry:
        """
        How one page is mapped.

        :param address: Virtual address in bytes, anywhere in the page.
        """
        run = self.run_at(address)
        page = address & -PAGE_SIZE
        offset = (page - run.start) // PAGE_SIZE * ENTRY_SIZE if run.level is PTE else 0
        return self._entry(run, page, offset)

    def _entry(self, run: Run, address: int, offset: int) -> Entry:
        if not run.raw:
            return Entry(
                address,
                run.level,
                None,
                run.raw_address + offset,
                None,
                _NO_ACCESS,
                Problem.UNREADABLE,
            )
        raw = int.from_bytes(run.raw[offset : offset + ENTRY_SIZE], "little")
        frame, problem = self._frame(raw, run.level, address)
        access = _NO_ACCESS if frame is None else x86_64.access(run.above, raw)
        return Entry(address, run.level, raw, run.raw_address + offset, frame, access, problem)

    def _frame(self, raw: int, level: Level, address: int) -> tuple[int | None, Problem | None]:
        if not raw & PRESENT:
            return None, Problem.NOT_PRESENT
        mask = self._page_mask
        if level is not PTE:
            if x86_64.is_reserved(raw, level):
                return None, Problem.RESERVED
            if not x86_64.is_leaf(raw, level):
                return None, Problem.BEYOND_MEMORY
            mask = x86_64.address_mask(level, self.paging.encryption_mask)
        frame = ((raw & mask) | (address & (level.entry_span - 1))) >> PAGE_SHIFT
        return frame, None if frame < self.paging.max_pfn else Problem.BEYOND_MEMORY

    def read(self, address: int, size: int, is_data: bool = False) -> bytes:
        """
        Read virtual memory through the page tables.

        :param address: Virtual address in bytes.
        :param size: Bytes to read.
        :param is_data: Whether it is neither a page table nor a struct page.
        :raises NotMapped: if any of it is mapped to no memory.
        :raises MissingMemory: if any of it is not in the dump.
        """
        parts = []
        read = self.memory.read_data if is_data else self.memory.read
        while size > 0:
            run = self.run_at(address)
            frame = self._frame_at(run, address)
            if frame is None:
                missing = NotMapped if run.raw else MissingMemory
                raise missing(f"virtual address {address:#x}")
            offset = address % PAGE_SIZE
            part = min(size, PAGE_SIZE - offset if run.level is PTE else run.end - address)
            # A large leaf may reach beyond memory.
            if frame + (offset + part - 1 >> PAGE_SHIFT) >= self.paging.max_pfn:
                raise NotMapped(f"virtual address {address + part - 1:#x}")
            parts.append(read((frame << PAGE_SHIFT) + offset, part))
            address += part
            size -= part
        return b"".join(parts)


def _entry_spans(level: Level, end: int, count: int) -> Iterator[tuple[int, int]]:
    """Virtual address spans of the last *count* entries before *end*, last one first."""
    entry_start = (end - 1) & -level.entry_span
    for _ in range(count):
        yield entry_start, entry_start + level.entry_span
        entry_start -= level.entry_span
