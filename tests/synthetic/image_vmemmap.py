# SPDX-License-Identifier: LGPL-2.1-or-later

"""The vmemmap of a synthetic kernel: as it was booted, and what HVO made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.image_memory import BOOT_PFNS, IMAGE, IMAGE_PFNS, ImageMemory
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.model import (
    PMD_SHIFT,
    SECTION_PAGES,
    SUBSECTION_ORDER,
    Backing,
    Folio,
    Machine,
    Section,
    Vpage,
)
from tests.synthetic.physical import DIRTY, KERNEL, KERNEL_RO, PAGE_SIZE, PRESENT


class ImageVmemmap(ImageMemory):
    """A kernel's memory, with its page tables and the frames of its vmemmap."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.frames: dict[int, list[int | None]] = {}
        """For each folio by its PFN, the frames that its vmemmap pages are mapped to."""
        self.tail_frames: dict[tuple[int, int, int], int] = {}
        """Shared tail frames by node, zone and order."""
        self._counts = Counter({"nr_memmap_boot_pages": 0, "nr_memmap_pages": 0})
        """Frames that back the memmap, as the kernel counts them."""
        self._boot_kernel()
        self._remap()

    def _boot_kernel(self) -> None:
        machine = self.machine
        self.tables.map_range(IMAGE, IMAGE_PFNS, "PMD", KERNEL)
        level = "PMD" if machine.node_size % (1 << 30) else "PUD"
        self.tables.map_range(machine.page_offset, range(machine.max_pfn), level, KERNEL)
        for node in range(machine.nodes):
            start = machine.page_address(machine.node_pfns(node).start)
            frames = self.memmap.boot_frames(node)
            self.tables.map_range(start, frames, "PMD", KERNEL)
            self._counts["nr_memmap_boot_pages"] += len(frames)
        self.memmap.reserve(IMAGE_PFNS)
        self.memmap.reserve(BOOT_PFNS)
        for number, section in machine.sections.items():
            if section is not Section.PREPARED:
                self._plug(range(number * SECTION_PAGES, (number + 1) * SECTION_PAGES), section)
        for number, parts in machine.parts.items():
            self._unplug(number, parts)
        for folio in machine.folios:
            self.memmap.write_folio(folio)

    def _unplug(self, number: int, parts: int) -> None:
        """Take away the memmap of the parts of a section that have none."""
        pages = self.machine.vmemmap_pages(SUBSECTION_ORDER)
        first = self.memmap.number(number * SECTION_PAGES)
        if self.machine.sections[number] is not Section.DEVICE:
            self.memmap.allocate(
                self.tables.split(self.machine.page_address(number * SECTION_PAGES)), "table"
            )
        for part in range(64):
            if parts >> part & 1:
                continue
            self._counts["nr_memmap_pages"] -= pages
            for page in range(first + part * pages, first + (part + 1) * pages):
                address = self.machine.vmemmap + page * PAGE_SIZE
                self.memory.write_u64(self.tables.entry_address(address, "PTE"), 0)

    def _plug(self, pfns: range, section: Section) -> None:
        """Map the memmap of memory that is not from boot, and write it."""
        start = self.machine.page_address(pfns.start)
        self._counts["nr_memmap_boot_pages"] -= 512
        self._counts["nr_memmap_pages"] += 512
        self.memmap.plug(pfns, section)
        if section in (Section.HOST, Section.OFFLINE_HOST):
            self.tables.map_range(start, pfns[:512], "PMD", KERNEL)
        if section is Section.DEVICE and self.machine.line.device_tails is not None:
            self._share_tails(pfns, self.machine.line.device_tails)
        elif section is Section.DEVICE:
            self.memmap.allocate(self.tables.split(start), "table")
            first = self.memmap.number(pfns.start)
            for head in range(first, first + 512, 8):
                for number in range(head + KEPT[Layout.TAIL_REUSE], head + 8):
                    frame = self.memmap.boot_frame(head + 1)
                    self.memmap.map(number, frame)
                    address = self.machine.vmemmap + number * PAGE_SIZE
                    self.tables.map(address, frame, "PTE", KERNEL)

    def _share_tails(self, pfns: range, attributes: int) -> None:
        """Map the tails of a device's compound pages of 2 MiB to the tail frame of its zone."""
        start = self.machine.page_address(pfns.start)
        self.memmap.allocate(self.tables.split(start), "table")
        frame = self._tail_frame(Folio(pfns.start))
        first = self.memmap.number(pfns.start)
        for head in range(first, first + 512, 8):
            for number in range(head + 1, head + 8):
                self.memmap.map(number, frame)
                address = self.machine.vmemmap + number * PAGE_SIZE
                self.tables.map(address, frame, "PTE", attributes)

    def _remap(self) -> None:
        """Map each folio's vmemmap as the model says; what nobody maps any more is freed."""
        for pmd in self.machine.split_pmds:
            table = self.tables.split(self.machine.vmemmap + (pmd << PMD_SHIFT))
            self.memmap.allocate(table, "table")
        for folio in self.machine.folios:
            self.frames[folio.pfn] = self._remap_folio(folio)
        mapped = {frame for frames in self.frames.values() for frame in frames}
        owned = (frame for folio in self.machine.folios for frame in self._boot_frames(folio))
        freed = {frame for frame in owned if frame not in mapped}
        self.memmap.free(freed)
        self._counts["nr_memmap_boot_pages"] -= len(freed)

    def _boot_frames(self, folio: Folio) -> list[int]:
        first = self.memmap.number(folio.pfn)
        start = self.memmap.boot_frame(first)
        return [*range(start, start + self.machine.vmemmap_pages(folio.order))]

    def _remap_folio(self, folio: Folio) -> list[int | None]:
        machine, first = self.machine, self.memmap.number(folio.pfn)
        own = self._boot_frames(folio)
        if folio.remapped and machine.line.head_moves:
            own[0] = self._move(first, folio)
        reuse = self._reuse_frame(folio, own) if folio.remapped else None
        vpages = machine.vpages(folio)
        frames: list[int] = []
        for index, vpage in enumerate(vpages):
            frame = own[index]
            if vpage.backing is Backing.FRESH:
                frame = self._move(first + index, folio)
            elif vpage.backing is Backing.REUSE:
                assert reuse is not None
                frame = reuse
                self.memmap.map(first + index, frame)
            elif vpage.backing is Backing.BEYOND:
                frame = machine.max_pfn + index
            frames.append(frame)
        pages = [(frame, self._entry_flags(vpage)) for frame, vpage in zip(frames, vpages)]
        start = 0
        for pmd, group in groupby(range(len(pages)), lambda index: machine.pmd(folio, index)):
            stop = start + len(list(group))
            if pmd in machine.split_pmds:
                address = machine.page_address(folio.pfn) + start * PAGE_SIZE
                self.tables.map_pages(address, pages[start:stop])
            start = stop
        return [
            None if vpage.backing is Backing.ABSENT else frame
            for frame, vpage in zip(frames, vpages)
        ]

    def _entry_flags(self, vpage: Vpage) -> int:
        if vpage.backing is Backing.ABSENT:
            return KERNEL & ~PRESENT
        if vpage.writable:
            return KERNEL
        return KERNEL_RO | (DIRTY if self.machine.line.dirty_tails else 0)

    def _move(self, number: int, folio: Folio) -> int:
        """Move the n-th page of vmemmap to a new frame."""
        frame = next(self._run_time[self.machine.node(folio.pfn)])
        self.memmap.move(number, frame)
        self.memmap.allocate(frame)
        self._counts["nr_memmap_pages"] += 1
        return frame

    def _reuse_frame(self, folio: Folio, own: Sequence[int]) -> int:
        page = REUSED_PAGE[self.machine.layout]
        if page is not None:
            return own[page]
        return self._tail_frame(folio)

    def _tail_frame(self, folio: Folio) -> int:
        """The frame that a folio's zone keeps for the tails of its order."""
        key = (self.machine.node(folio.pfn), self.machine.zone(folio.pfn), folio.order)
        if key not in self.tail_frames:
            self.tail_frames[key] = next(self._run_time[key[0]])
            self.memmap.write_tail_frame(self.tail_frames[key], folio)
        return self.tail_frames[key]
