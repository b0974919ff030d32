# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The synthetic image: the memory of a kernel as a model says, served to drgn.

Memory, from its start: the kernel's image, what was allocated at boot (page tables, nodes,
sections), what was allocated at run time (new heads, tail frames; on each node), then the folios;
at the end of each node, the frames of its boot-time vmemmap.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import drgn

from drgn_vmemmap.analysis.report import Report, Selection
from drgn_vmemmap.api import examine
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.debuginfo import add_debuginfo, section_roots, vmcoreinfo
from tests.synthetic.kernels import ZONES, types
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.memmap import Memmap
from tests.synthetic.model import (
    SECTION_PAGES,
    SUBSECTION_ORDER,
    Backing,
    Damage,
    Folio,
    Link,
    LinkPlace,
    Machine,
    Section,
    Vpage,
    hstate_name,
)
from tests.synthetic.physical import (
    DIRTY,
    KERNEL,
    KERNEL_RO,
    PAGE_SHIFT,
    PAGE_SIZE,
    PRESENT,
    WRITABLE,
    PageTables,
    PhysicalMemory,
)

SECTION_FLAGS = {
    None: ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY"),
    Section.OFFLINE: ("MARKED_PRESENT", "HAS_MEM_MAP"),
    Section.OFFLINE_HOST: ("MARKED_PRESENT", "HAS_MEM_MAP"),
    Section.HOST: ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE"),
    Section.DEVICE: ("MARKED_PRESENT", "HAS_MEM_MAP"),
    Section.PREPARED: (
        *("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY"),
        "IS_VMEMMAP_PREINIT",
    ),
}

_MIB = 1 << (20 - PAGE_SHIFT)

# Where KASLR put the kernel's image, in memory and in virtual addresses.
_IMAGE_PFNS = range(32 * _MIB, 36 * _MIB)
_KERNEL_OFFSET = 0x0D200000
_IMAGE = 0xFFFFFFFF81000000 + _KERNEL_OFFSET
_PHYS_BASE = (_IMAGE_PFNS.start << PAGE_SHIFT) - (_IMAGE - 0xFFFFFFFF80000000)

# On node 0; and on each node, from its start.
_BOOT_PFNS = range(40 * _MIB, 64 * _MIB)
_RUN_TIME_PFNS = range(64 * _MIB, 96 * _MIB)


class Image:
    """The memory of a kernel, and a program that reads it."""

    live = False
    """Whether the program is that of a kernel that runs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.memory = PhysicalMemory()
        self.types = types(machine.line.release, machine.page_size, machine.max_nodes)
        self.frames: dict[int, list[int | None]] = {}
        """For each folio by its PFN, the frames that its vmemmap pages are mapped to."""
        self.tail_frames: dict[tuple[int, int, int], int] = {}
        """Shared tail frames by node, zone and order."""
        self.nodes: list[int] = []
        """Addresses of the nodes' ``struct pglist_data``."""
        self.hstates: dict[int, int] = {}
        """Addresses of the hstates by order."""
        self.variables: dict[str, tuple[str, int]] = {}
        """Type and address of each variable."""
        self.section_usages: dict[int, int] = {}
        """Addresses of special sections' ``struct mem_section_usage`` by number."""
        self._counts = Counter({"nr_memmap_boot_pages": 0, "nr_memmap_pages": 0})
        """Frames that back the memmap, as the kernel counts them."""

        self.memory.fill(_IMAGE_PFNS, bytes(PAGE_SIZE))
        self._image_end = _IMAGE + PAGE_SIZE
        self._boot = iter(_BOOT_PFNS)
        self._run_time = [
            iter(machine.node_pfns(node)[_RUN_TIME_PFNS.start : _RUN_TIME_PFNS.stop])
            for node in range(machine.nodes)
        ]
        self.memmap = Memmap(machine, self.memory, self.types.structs["page"])
        self.tables = PageTables(
            self.memory,
            machine.levels,
            _IMAGE_PFNS.start,
            lambda: next(self._boot),
            machine.encryption_mask,
        )
        self._boot_kernel()
        self._remap()
        self._write_nodes()
        self._write_sections()
        self._write_hstates()
        self._write_variables()
        self._damage()

    # What tests ask for.

    @cached_property
    def prog(self) -> drgn.Program:
        """The program; it sees what is written to memory later, too."""
        prog = self.memory.program()
        prog.set_linux_kernel_custom(self.vmcoreinfo, self.live)
        if self.machine.encryption_mask:
            # drgn's own walk knows no encryption. A kernel that dumps itself records its mapping.
            size = len(_IMAGE_PFNS) << PAGE_SHIFT
            prog.add_memory_segment(_IMAGE, size, self._read_image)
        add_debuginfo(prog, self.types, self.variables)
        return prog

    def examine(self, **selection: Any) -> Report:
        return examine(self.prog, Selection(**selection))

    def entry_address(self, pfn: int, index: int = 0, level: str = "PTE") -> int:
        """
        :param pfn: Of a folio.
        :param index: Of a vmemmap page of it.
        :return: Physical address of the page-table entry of a level for that page.
        """
        return self.tables.entry_address(self.machine.page_address(pfn) + index * PAGE_SIZE, level)

    def entry(self, pfn: int, index: int = 0, level: str = "PTE") -> int:
        """The raw entry of a level for a vmemmap page of a folio."""
        return self.memory.read_u64(self.entry_address(pfn, index, level))

    def write_entry(self, pfn: int, index: int, raw: int, level: str = "PTE") -> None:
        self.memory.write_u64(self.entry_address(pfn, index, level), raw)

    def write_page(self, pfn: int, **members: int) -> None:
        """Change members of a struct page, in the frame that its vmemmap page is in."""
        self.memmap.write(pfn, **members)

    def write_hstate(self, order: int, **members: int) -> None:
        for name, value in members.items():
            member = self.types.structs["hstate"].members[name]
            self.write(self.hstates[order] + member.offset, value, member.size)

    def write(self, address: int, value: int, size: int = 8) -> None:
        """Write a number to the kernel's image or to the direct map."""
        self.memory.write(self.physical(address), value.to_bytes(size, "little"))

    def drop_frame(self, pfn: int) -> None:
        """Take a frame out of the dump."""
        del self.memory.frames[pfn]

    def physical(self, address: int) -> int:
        """Physical address of the kernel's image, or of the direct map."""
        if address >= _IMAGE:
            return address - 0xFFFFFFFF80000000 + _PHYS_BASE
        return address - self.machine.page_offset

    def list_head(self, order: int, node: int | None) -> int:
        """Virtual address of the head of a free list, or of the active list for ``None``."""
        members = self.types.structs["hstate"].members
        if node is None:
            return self.hstates[order] + members["hugepage_activelist"].offset
        return self.hstates[order] + members["hugepage_freelists"].offset + node * 16

    def tail_slot(self, node: int, zone: int, order: int) -> int:
        """Virtual address of the pointer by which a zone keeps a tail frame."""
        structs = self.types.structs
        minimum = (2 * PAGE_SIZE // self.machine.page_size).bit_length() - 1
        slots = (
            self.nodes[node]
            + structs["pglist_data"].members["node_zones"].offset
            + zone * structs["zone"].size
            + structs["zone"].members["vmemmap_tails"].offset
        )
        if self.machine.line.tails_by_pointer:
            pointer = slots
            slots = self.memory.read_u64(self.physical(pointer))
            if not slots:
                slots = self._allocate_boot(bytes(16 * 8))
                self.write(pointer, slots)
        return slots + (order - minimum) * 8

    # The kernel as booted, and what HVO made of it.

    def _boot_kernel(self) -> None:
        machine = self.machine
        self.tables.map_range(_IMAGE, _IMAGE_PFNS, "PMD", KERNEL)
        level = "PMD" if machine.node_size % (1 << 30) else "PUD"
        self.tables.map_range(machine.page_offset, range(machine.max_pfn), level, KERNEL)
        for node in range(machine.nodes):
            start = machine.page_address(machine.node_pfns(node).start)
            frames = self.memmap.boot_frames(node)
            self.tables.map_range(start, frames, "PMD", KERNEL)
            self._counts["nr_memmap_boot_pages"] += len(frames)
        self.memmap.reserve(_IMAGE_PFNS)
        self.memmap.reserve(_BOOT_PFNS)
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
        for region in self.machine.split_regions:
            table = self.tables.split(self.machine.vmemmap + (region << 21))
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
        pages = self.machine.vmemmap_pages(folio.order)
        return [self.memmap.boot_frame(first + index) for index in range(pages)]

    def _remap_folio(self, folio: Folio) -> list[int | None]:
        machine, first = self.machine, self.memmap.number(folio.pfn)
        own = self._boot_frames(folio)
        if folio.remapped and machine.line.head_moves:
            own[0] = self._move(first, folio)
        reuse = self._reuse_frame(folio, own) if folio.remapped else None
        frames: list[int | None] = []
        for index, vpage in enumerate(machine.vpages(folio)):
            frame = own[index]
            if vpage.backing is Backing.FRESH:
                frame = self._move(first + index, folio)
            elif vpage.backing is Backing.REUSE:
                assert reuse is not None
                frame = reuse
                self.memmap.map(first + index, frame)
            elif vpage.backing is Backing.BEYOND:
                frame = machine.max_pfn + index
            if machine.region(folio, index) in machine.split_regions:
                address = machine.page_address(folio.pfn) + index * PAGE_SIZE
                self.tables.map(address, frame, "PTE", self._entry_flags(vpage))
            frames.append(None if vpage.backing is Backing.ABSENT else frame)
        return frames

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

    # Nodes, sections, hstates and their lists, variables.

    def _write_nodes(self) -> None:
        pgdat = self.types.structs["pglist_data"]
        for node in range(self.machine.nodes):
            pfns = self.machine.node_pfns(node)
            data = pgdat.pack(
                nr_zones=len(ZONES),
                node_start_pfn=pfns.start,
                node_spanned_pages=len(pfns),
                node_id=node,
            )
            self.nodes.append(self._allocate_boot(data))
        for key, frame in self.tail_frames.items():
            self.write(self.tail_slot(*key), self.machine.page_address(frame))

    def _allocate_boot(self, data: bytes) -> int:
        """Memory from boot time, by its address in the direct map."""
        pfns = [next(self._boot) for _ in range(-(-len(data) // PAGE_SIZE))]
        self.memory.fill(pfns, bytes(PAGE_SIZE))
        if any(data):
            self.memory.write(pfns[0] << PAGE_SHIFT, data)
        return self.machine.page_offset + (pfns[0] << PAGE_SHIFT)

    def _write_sections(self) -> None:
        count = self.machine.max_pfn // SECTION_PAGES
        section = self.types.structs["mem_section"]
        per_root = PAGE_SIZE // section.size
        entries = [
            section.pack(
                section_mem_map=self.machine.vmemmap | self._section_flags(number),
                usage=self._section_usage(number),
            )
            for number in range(count)
        ]
        roots = self._allocate_boot(bytes(8 * section_roots(self.machine)))
        for first in range(0, count, per_root):
            root = self._allocate_boot(
                b"".join(entries[first : first + per_root]).ljust(PAGE_SIZE, b"\0")
            )
            self.write(roots + first // per_root * 8, root)
        self._add_variable("mem_section", "struct mem_section **", roots)

    def _section_usage(self, number: int) -> int:
        """Address of a special section's ``struct mem_section_usage``; for others, 0."""
        if number not in self.machine.sections:
            return 0
        parts = self.machine.parts.get(number, (1 << 64) - 1)
        data = self.types.structs["mem_section_usage"].pack(subsection_map=parts)
        self.section_usages[number] = self._allocate_boot(data)
        return self.section_usages[number]

    def _section_flags(self, number: int) -> int:
        bits = self.machine.line.section_bits
        names = SECTION_FLAGS[self.machine.sections.get(number)]
        return sum(1 << bits.index(name) for name in names)

    def _write_hstates(self) -> None:
        orders, size = self.machine.orders, self.types.structs["hstate"].size
        hstates = bytes(size * len(orders))
        address = self._add_variable("hstates", f"struct hstate [{len(orders)}]", hstates)
        self._add_variable("hugetlb_max_hstate", "int", len(orders), 4)
        for order in orders:
            self.hstates[order] = address
            self.memory.write(self.physical(address), self._hstate(order, address))
            address += size
        for order, node, folios in self.machine.lists():
            self._write_list(order, node, folios)

    def _hstate(self, order: int, address: int) -> bytes:
        members = self.types.structs["hstate"].members
        folios = [f for f in self.machine.folios if f.order == order and f.counted]
        free = [folio for folio in folios if folio.state is State.FREE]
        counts = {
            "nr_huge_pages": len(folios),
            "free_huge_pages": len(free),
            "max_huge_pages": len(folios),
        }
        data = bytearray(self.types.structs["hstate"].pack(order=order, **counts))
        name = members["name"].offset
        data[name : name + 32] = hstate_name(order).encode().ljust(32, b"\0")
        for member, counted in (("nr_huge_pages_node", folios), ("free_huge_pages_node", free)):
            nodes = Counter(self.machine.node(folio.pfn) for folio in counted)
            for node, count in nodes.items():
                struct.pack_into("<I", data, members[member].offset + node * 4, count)
        # Lists of nodes that do not exist are empty, too.
        for node in range(self.machine.max_nodes):
            head = members["hugepage_freelists"].offset + node * 16
            struct.pack_into("<QQ", data, head, address + head, address + head)
        return bytes(data)

    def _write_list(self, order: int, node: int | None, folios: Sequence[Folio]) -> None:
        head = self.list_head(order, node)
        circle = [head, *(self.lru(folio.pfn) for folio in folios)]
        for number in range(len(circle)):
            before, after = circle[number - 1], circle[(number + 1) % len(circle)]
            link = self.machine.links.get(LinkPlace(order, node, number - 1))
            if link is not None:
                after = self._broken(link, circle[1])
            if number == 0:
                self.memory.write(self.physical(head), struct.pack("<QQ", after, before))
            else:
                self.memmap.link(folios[number - 1].pfn, after, before)

    def lru(self, pfn: int) -> int:
        """Virtual address of the ``lru`` of a struct page."""
        return self.machine.page_address(pfn) + self.types.structs["page"].members["lru"].offset

    def _broken(self, link: Link, first: int) -> int:
        return {
            Link.FIRST: first,
            Link.OUTSIDE: self.machine.page_offset + 8,
            Link.MISALIGNED: first + 8,
            Link.TAIL: first + self.machine.page_size,
        }[link]

    def _write_variables(self) -> None:
        machine = self.machine
        self._add_variable("page_offset_base", "unsigned long", machine.page_offset)
        self._add_variable("vmemmap_base", "unsigned long", machine.vmemmap)
        self._add_variable("max_pfn", "unsigned long", machine.max_pfn)
        init_mm = self.types.structs["mm_struct"].pack(pgd=_IMAGE)
        self._add_variable("init_mm", "struct mm_struct", init_mm)
        for name, type_name in machine.line.variables.items():
            size = 1 if type_name == "_Bool" else 4
            self._add_variable(name, type_name, machine.enabled, size)
        if machine.line.counts_memmap:
            for name, count in self._counts.items():
                self._add_variable(name, "atomic_long_t", count)
        if machine.nodes_shift:
            pointers = struct.pack(f"<{len(self.nodes)}Q", *self.nodes)
            type_name = f"struct pglist_data *[{machine.max_nodes}]"
            self._add_variable("node_data", type_name, pointers.ljust(8 * machine.max_nodes, b"\0"))
        else:
            # It is a variable itself, which may be anywhere.
            self.variables["contig_page_data"] = ("struct pglist_data", self.nodes[0])

    def _add_variable(self, name: str, type_name: str, value: int | bytes, size: int = 8) -> int:
        """Put a variable into the kernel's image; gives its address."""
        data = value if isinstance(value, bytes) else int(value).to_bytes(size, "little")
        address = self._image_end
        self._image_end += len(data) + -len(data) % 64
        self.variables[name] = (type_name, address)
        self.memory.write(self.physical(address), data)
        return address

    def _damage(self) -> None:
        machine = self.machine
        for region, damage in machine.damage.items():
            address = self.tables.entry_address(machine.vmemmap + (region << 21), "PMD")
            entry = self.memory.read_u64(address)
            if damage is Damage.MISSING:
                assert region in machine.split_regions
                self.drop_frame((entry & ~machine.encryption_mask) >> PAGE_SHIFT)
                continue
            damaged = {
                Damage.READ_ONLY: entry & ~WRITABLE,
                Damage.ABSENT: entry & ~PRESENT,
                Damage.BEYOND: entry % PAGE_SIZE | machine.max_pfn << PAGE_SHIFT,
            }
            self.memory.write_u64(address, damaged[damage])
        for folio in machine.folios:
            head = self.frames[folio.pfn][0]
            if not folio.head_in_dump and head is not None:
                self.drop_frame(head)

    # What drgn asks for.

    @property
    def vmcoreinfo(self) -> str:
        """VMCOREINFO, as this kernel would write it."""
        return vmcoreinfo(self.machine, self.types, _PHYS_BASE, _IMAGE, _KERNEL_OFFSET)

    def _read_image(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        return self.memory.read(self.physical(address), count)
