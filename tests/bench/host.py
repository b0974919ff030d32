# SPDX-License-Identifier: LGPL-2.1-or-later

"""
A synthetic host full of optimized folios, written to a vmcore.

It is a synthetic image of 6.12's line. Its folios' head frames come from the buddy allocator one
below the other, as on a real kernel; they are not held in memory, but made as they are written.

An aged host is one that has been in use: its folios are on two nodes, and on lists in random
order, those in use and free ones side by side, and HVO left some stretches of them as they are,
as it does while memory is short or while it is switched off.
"""

from __future__ import annotations

import json
import os
import random
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import drgn

from drgn_vmemmap.extract import vmcore
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hugetlb.tails import FIRST_PLAIN
from tests.synthetic.debuginfo import add_debuginfo
from tests.synthetic.image import Image
from tests.synthetic.kernels import types
from tests.synthetic.model import GIB, Folio, Machine
from tests.synthetic.physical import KERNEL, KERNEL_RO, PAGE_SHIFT, PAGE_SIZE

_TABLE_SPAN = 1 << 15
"""PFNs that one page table over the vmemmap describes."""

_KERNEL_END = 128 << 20 >> PAGE_SHIFT
"""What an image has of its own lies below this PFN; then come page tables, heads and folios."""

_MEMORY_OFFSET = 1 << 16
"""Of the memory in the vmcore, after all headers."""

_FREE = 10
"""One of so many folios is free."""

_STRETCH, _UNOPTIMIZED = 24, 50
"""Of an aged host's stretches of so many folios, one of so many is not optimized."""


class Host(Image):
    """A host most of whose memory is folios of one order."""

    def __init__(self, count: int, order: int = 9, gib: int = 0, aged: bool = False) -> None:
        """
        :param count: How many folios.
        :param gib: GiB of memory; as much as the folios need if it is not given.
        """
        nodes = 2 if aged else 1
        heads = _KERNEL_END + -(-count << order) // _TABLE_SPAN + 2
        first = _round_up(heads + count, max(_TABLE_SPAN, 1 << order))
        per_node = -(-count // nodes)
        needed = first + (per_node << order)
        needed = _round_up(needed + needed // 32 + _TABLE_SPAN, GIB >> PAGE_SHIFT)
        size = gib * GIB // nodes or needed << PAGE_SHIFT
        super().__init__(Machine(nodes=nodes, node_size=size, nodes_shift=10))
        starts = [first, self.machine.node_pfns(1).start] if aged else [first]
        places = (range(start, start + (per_node << order), 1 << order) for start in starts)
        self.pfns = [pfn for of_node in places for pfn in of_node][:count]
        self._order = order
        self._vmemmap_pages = self.machine.vmemmap_pages(order)
        self._boot = iter(range(_KERNEL_END, heads))
        chance = random.Random(count)
        frames = iter(range(heads, heads + count)[::-1])
        self._heads = {
            pfn: next(frames)
            for number, pfn in enumerate(self.pfns)
            if not aged or number // _STRETCH % _UNOPTIMIZED != 1
        }
        free = set(
            chance.sample(self.pfns, count // _FREE) if aged else self.pfns[: count // _FREE]
        )
        self._lists: dict[int | None, list[int]] = {node: [] for node in (*range(nodes), None)}
        for pfn in self.pfns:
            self._lists[self.machine.node(pfn) if pfn in free else None].append(pfn)
        if aged:
            for pfns in self._lists.values():
                chance.shuffle(pfns)
        self._optimize()
        self._write_pool()

    def _optimize(self) -> None:
        """Map the folios' vmemmap as HVO does, and give up the frames that backed it."""
        for number in sorted(
            {pfn // _TABLE_SPAN for start in self.pfns for pfn in self._ends(start)}
        ):
            table = self.tables.split(self.machine.page_address(number * _TABLE_SPAN))
            self.memmap.allocate(table, "table")
        for pfn, frame in self._heads.items():
            self.memmap.allocate(frame)
            self._map(pfn, frame)
            for own in self._boot_time(pfn):
                del self.memory.frames[own]
        moved = len(self._heads)
        self._count("nr_memmap_pages", moved)
        self._count("nr_memmap_boot_pages", -moved * self._vmemmap_pages)

    def _ends(self, pfn: int) -> range:
        """PFNs of a folio, one for each page table that describes it."""
        return range(pfn, pfn + (1 << self._order), min(_TABLE_SPAN, 1 << self._order))

    def _count(self, name: str, change: int) -> None:
        """Let the kernel count more frames, or fewer."""
        self._counts[name] += change
        self.write(self.variables[name][1], self._counts[name])

    def _map(self, pfn: int, frame: int) -> None:
        """Map a folio's vmemmap to its head frame, a page table at a time."""
        first, others = (
            (frame << PAGE_SHIFT | flags).to_bytes(8, "little") for flags in (KERNEL, KERNEL_RO)
        )
        entries = first + others * (self._vmemmap_pages - 1)
        for offset in range(0, len(entries), PAGE_SIZE):
            part = entries[offset : offset + PAGE_SIZE]
            self.memory.write(self.entry_address(pfn, offset // 8), part)

    def _boot_time(self, pfn: int) -> range:
        """The frames in which a folio was described at boot."""
        start = self.memmap.boot_frame(self.memmap.number(pfn))
        return range(start, start + self._vmemmap_pages)

    def _write_pool(self) -> None:
        free = {node: pfns for node, pfns in self._lists.items() if node is not None}
        self.write_hstate(
            self._order,
            nr_huge_pages=len(self.pfns),
            max_huge_pages=len(self.pfns),
            free_huge_pages=sum(map(len, free.values())),
        )
        members = self.types.structs["hstate"].members
        for number, pfns in free.items():
            of_node = sum(self.machine.node(pfn) == number for pfn in self.pfns)
            counts = {"nr_huge_pages_node": of_node, "free_huge_pages_node": len(pfns)}
            for name, count in counts.items():
                member = members[name]
                at = self.hstates[self._order] + member.offset + number * 4
                self.write(at, count, 4)
        for node, pfns in self._lists.items():
            head = self.list_head(self._order, node)
            ends = [self.lru(pfn) for pfn in (*pfns[:1], *pfns[-1:])] or [head, head]
            self.memory.write(self.physical(head), struct.pack("<QQ", *ends[:1], *ends[-1:]))

    # Written out.

    def contents(self) -> Iterator[tuple[int, bytes]]:
        """All frames with something in them, once: PFN and content."""
        for frame, content in self.memory.frames.items():
            yield frame, bytes(content)
        for node, pfns in self._lists.items():
            head = self.list_head(self._order, node)
            circle = [head, *map(self.lru, pfns), head]
            for index, pfn in enumerate(pfns):
                state = State.ACTIVE if node is None else State.FREE
                folio = Folio(pfn, self._order, state, remapped=pfn in self._heads)
                self.memmap.write_folio(folio)
                self.memmap.link(pfn, circle[index + 2], circle[index])
                own = self._boot_time(pfn)
                contents = [
                    self._with_own_lists(pfn, number, self.memory.frames.pop(frame))
                    for number, frame in enumerate(own)
                ]
                if folio.remapped:
                    yield self._heads[pfn], bytes(contents[0])
                else:
                    yield from zip(own, map(bytes, contents))

    def _with_own_lists(self, pfn: int, number: int, content: bytes | bytearray) -> bytes:
        """A frame of tails, each with an empty list of its own, as pages from boot have it."""
        page = self.types.structs["page"]
        per_frame, per_page = PAGE_SIZE // page.size, page.size // 8
        first = range(per_frame)[0 if number else FIRST_PLAIN]
        start = self.lru(pfn + number * per_frame)
        lists = array("Q", range(start, start + PAGE_SIZE, page.size))
        words, backward = array("Q", content), page.members["lru"].offset // 8 + 1
        words[first * per_page + backward :: per_page] = lists[first:]
        return words.tobytes()

    def write_elf(self, path: Path) -> None:
        """Write an ELF vmcore with a hole wherever there is nothing."""
        size = self.machine.max_pfn << PAGE_SHIFT
        with open(path, "wb") as file:
            file.write(_elf_headers(self.vmcoreinfo.encode(), size))
            file.truncate(_MEMORY_OFFSET + size)
            for pfn, content in self.contents():
                os.pwrite(file.fileno(), content, _MEMORY_OFFSET + (pfn << PAGE_SHIFT))

    def write_kdump(self, path: Path) -> None:
        """Write a filtered, compressed kdump: without the folios' own memory."""
        pieces = {pfn << PAGE_SHIFT: content for pfn, content in sorted(self.contents())}
        release = self.machine.line.release
        vmcore.write_kdump(path, self.vmcoreinfo.encode(), pieces, release, "")

    def write_debuginfo(self, path: Path) -> None:
        """Write what :func:`add_host_debuginfo()` takes."""
        machine = self.machine
        parameters = [machine.line.release, machine.page_size, machine.max_nodes]
        path.write_text(json.dumps({"types": parameters, "variables": self.variables}))


def add_host_debuginfo(prog: drgn.Program, path: Path) -> None:
    """Give the program of a host's vmcore its types, variables and symbols."""
    facts = json.loads(path.read_text())
    add_debuginfo(prog, types(*facts["types"]), facts["variables"])


def _elf_headers(vmcoreinfo: bytes, size: int) -> bytes:
    """All of an ELF vmcore before its memory: one note, one segment."""
    note = vmcore._note(vmcoreinfo)
    header, program_header = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
    offset = header.size + 2 * program_header.size
    headers: Sequence[bytes] = (
        header.pack(b"\x7fELF\2\1\1", 4, 62, 1, 0, header.size, 0, 0, 64, 56, 2, 0, 0, 0),
        program_header.pack(4, 0, offset, 0, 0, len(note), len(note), 4),
        program_header.pack(1, 0, _MEMORY_OFFSET, 0, 0, size, size, PAGE_SIZE),
    )
    return b"".join(headers) + note


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
