# SPDX-License-Identifier: LGPL-2.1-or-later

"""A kernel, real or synthetic, with words of its memory edited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import drgn

from drgn_vmemmap import discover
from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.recorder import frames_of
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PMD, PTE
from drgn_vmemmap.target.memory import Memory, ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class EditedMemory(Memory):
    """Physical memory with single bytes put over it, and pages taken out."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.bytes: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """What was put over it, by the frame and then by the address."""
        self.missing: set[int] = set()
        """Frames that are not in the dump."""
        self.reads: dict[tuple[int, int], bytes] = {}
        """What was read of the memory as it was, by address and size."""
        self.count = 0
        """How many reads there were."""

    def read(self, address: int, size: int) -> bytes:
        self.count += 1
        frames = frames_of(address, size)
        if not self.missing.isdisjoint(frames):
            raise MissingMemory(f"physical address {address:#x}")
        data = self.reads.get((address, size))
        if data is None:
            data = self.reads[address, size] = self._memory.read(address, size)
        edits = [
            (place - address, byte)
            for frame in self.bytes.keys() & frames
            for place, byte in self.bytes[frame].items()
            if address <= place < address + size
        ]
        if not edits:
            return data
        edited = bytearray(data)
        for place, byte in edits:
            edited[place] = byte
        return bytes(edited)

    def write(self, address: int, value: int, size: int = 8) -> None:
        for place, byte in enumerate(value.to_bytes(size, "little"), address):
            self.bytes[place >> PAGE_SHIFT][place] = byte


class EditedKernel:
    """A sound kernel, and what becomes of it."""

    def __init__(self, prog: drgn.Program) -> None:
        self.prog = prog
        self.kernel: Kernel = discover(prog)
        self.memory = EditedMemory(ProgramMemory(prog))
        self.before: Report = self.check()
        found = [(folio.pfn, folio.order, judgement) for folio, judgement in self.before.folios]
        self.optimized = [p for p, _, j in found if j.verdict is Verdict.OPTIMIZED]
        self.unoptimized = [
            p for p, _, j in found if j.verdict is Verdict.UNOPTIMIZED and j.mapped_by == "pte"
        ]

    def snapshot(self) -> Snapshot:
        return Snapshot(self.kernel, self.memory)

    def walker(self) -> Walker:
        return self.snapshot().walker

    def check(self) -> Report:
        return check(self.snapshot())

    def analyse(self) -> Report:
        return analyse(self.snapshot())

    def reset(self) -> None:
        self.memory.bytes.clear()
        self.memory.missing.clear()

    # What can be edited.

    def entry(self, pfn: int, index: int) -> int:
        return self.walker().entry(self._page(pfn, index)).raw or 0

    def write_entry(self, pfn: int, index: int, raw: int) -> None:
        self.memory.write(self.walker().entry(self._page(pfn, index)).raw_address, raw)

    def frame(self, pfn: int, index: int) -> int:
        frame = self.walker().entry(self._page(pfn, index)).frame
        assert frame is not None
        return frame

    def write_page(self, pfn: int, offset: int, value: int, size: int) -> None:
        """Write to a struct page, wherever it is."""
        address = self.kernel.geometry.address(pfn) + offset
        entry = self.walker().entry(address)
        assert entry.frame is not None
        self.memory.write((entry.frame << PAGE_SHIFT) + address % PAGE_SIZE, value, size)

    def write_member(self, pfn: int, name: str, value: int) -> None:
        member = self.kernel.page.members[name]
        self.write_page(pfn, member.offset, value, member.size)

    def write(self, address: int, value: int, size: int = 8) -> None:
        """Write to the kernel's own memory."""
        entry = self.walker().entry(address)
        assert entry.frame is not None
        self.memory.write((entry.frame << PAGE_SHIFT) + address % PAGE_SIZE, value, size)

    def _page(self, pfn: int, index: int) -> int:
        return self.kernel.geometry.address(pfn) + index * PAGE_SIZE

    # Places of interest.

    def is_described(self, pfn: int) -> bool:
        """Whether the struct page of a PFN is in the dump."""
        try:
            self.snapshot().struct_pages(pfn)
        except MissingMemory:
            return False
        return True

    def of_no_folio(self) -> int | None:
        """A PFN with two pages of vmemmap from it on that are split, and no folio's."""
        folios = self.before.folios.folios
        step = PAGE_SIZE // self.kernel.page.size
        for pfn in self.optimized + self.unoptimized:
            start = self.kernel.geometry.address(pfn) >> PMD.shift << PMD.shift
            run = self.walker().run_at(start)
            if run.level is not PTE:
                continue
            first = (start - self.kernel.vmemmap) // self.kernel.page.size
            for number in range(0, 510):
                pfns: Iterable[int] = (first + number * step, first + (number + 1) * step)
                if all(folios.row_at(each) is None for each in pfns):
                    return first + number * step
        return None
