# SPDX-License-Identifier: LGPL-2.1-or-later

"""
A synthetic host full of optimized folios, written to a vmcore.

It is a synthetic image of 6.12's line. Its folios' head frames come from the buddy allocator one
below the other, as on a real kernel; they are not held in memory, but made as they are written.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import drgn

from drgn_vmemmap.extract import vmcore
from drgn_vmemmap.hugetlb.folio import State
from tests.synthetic.image import Image, add_debuginfo
from tests.synthetic.kernels import types
from tests.synthetic.model import GIB, Folio, Machine
from tests.synthetic.physical import KERNEL, KERNEL_RO, PAGE_SHIFT, PAGE_SIZE

_REGION = 1 << 15
"""So many PFNs are described by one page table over the vmemmap."""

_KERNEL_END = 128 << 20 >> PAGE_SHIFT
"""What an image has of its own lies below this PFN; then come page tables, heads and folios."""

_MEMORY_OFFSET = 1 << 16
"""Of the memory in the vmcore, after all headers."""


class Host(Image):
    """A host most of whose memory is folios of one order."""

    def __init__(self, count: int, order: int = 9, gib: int = 0) -> None:
        """
        :param count: How many folios.
        :param gib: GiB of memory; as much as the folios need if it is not given.
        """
        heads = _KERNEL_END + -(-count << order) // _REGION + 1
        first = _round_up(heads + count, max(_REGION, 1 << order))
        end = first + (count << order)
        needed = _round_up(end + end // 32 + _REGION, GIB >> PAGE_SHIFT)
        size = gib * GIB or needed << PAGE_SHIFT
        super().__init__(Machine(node_size=size, nodes_shift=10))
        self.pfns = range(first, end, 1 << order)
        self._order = order
        self._vmemmap_pages = self.machine.vmemmap_pages(order)
        self._heads = range(heads, heads + count)[::-1]
        self._boot = iter(range(_KERNEL_END, heads))
        free = count // 10
        self._lists = {0: self.pfns[:free], None: self.pfns[free:]}
        self._optimize()
        self._write_pool()

    def _optimize(self) -> None:
        """Map the folios' vmemmap as HVO does, and give up the frames that backed it."""
        regions = range(self.pfns.start // _REGION, -(-self.pfns.stop // _REGION))
        for region in regions:
            table = self.tables.split(self.machine.page_address(region * _REGION))
            self.memmap.allocate(table, "table")
        for pfn, frame in zip(self.pfns, self._heads):
            self.memmap.allocate(frame)
            self._map(pfn, frame)
        for frame in self._boot_time(self.pfns):
            del self.memory.frames[frame]

    def _map(self, pfn: int, frame: int) -> None:
        """Map a folio's vmemmap to its head frame, a page table at a time."""
        first, others = (
            (frame << PAGE_SHIFT | flags).to_bytes(8, "little") for flags in (KERNEL, KERNEL_RO)
        )
        entries = first + others * (self._vmemmap_pages - 1)
        for offset in range(0, len(entries), PAGE_SIZE):
            part = entries[offset : offset + PAGE_SIZE]
            self.memory.write(self.entry_address(pfn, offset // 8), part)

    def _boot_time(self, pfns: range) -> range:
        """The frames in which the folios at some PFNs were described at boot."""
        start = self.memmap.boot_frame(self.memmap.number(pfns.start))
        return range(start, start + len(pfns) * self._vmemmap_pages)

    def _write_pool(self) -> None:
        free = len(self._lists[0])
        self.write_hstate(
            self._order,
            nr_huge_pages=len(self.pfns),
            free_huge_pages=free,
            nr_huge_pages_node=len(self.pfns),
            free_huge_pages_node=free,
        )
        for node, pfns in self._lists.items():
            head = self.list_head(self._order, node)
            ends = [self.lru(pfn) for pfn in (*pfns[:1], *pfns[-1:])] or [head, head]
            self.memory.write(self.physical(head), struct.pack("<QQ", *ends[:1], *ends[-1:]))

    # Written out.

    def contents(self) -> Iterator[tuple[int, bytes]]:
        """All frames with something in them, once: PFN and content."""
        for frame, content in self.memory.frames.items():
            yield frame, bytes(content)
        heads = iter(self._heads)
        for node, pfns in self._lists.items():
            head = self.list_head(self._order, node)
            circle = [head, *map(self.lru, pfns), head]
            for index, pfn in enumerate(pfns):
                state = State.ACTIVE if node is None else State.FREE
                self.memmap.write_folio(Folio(pfn, self._order, state))
                self.memmap.link(pfn, circle[index + 2], circle[index])
                own = self._boot_time(range(pfn, pfn + 1))
                contents = [self.memory.frames.pop(frame) for frame in own]
                yield next(heads), bytes(contents[0])

    def write_elf(self, path: Path) -> None:
        """Write an ELF vmcore with a hole wherever there is nothing."""
        size = self.machine.node_size
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
