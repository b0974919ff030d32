# SPDX-License-Identifier: LGPL-2.1-or-later

"""Nodes, sections, hstates with their lists, and variables of a synthetic kernel."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence

from drgn_vmemmap.hugetlb.folio import State
from tests.synthetic.debuginfo import section_roots
from tests.synthetic.image_memory import IMAGE
from tests.synthetic.image_vmemmap import ImageVmemmap
from tests.synthetic.kernels import ZONES
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import (
    SECTION_PAGES,
    Folio,
    Link,
    LinkPlace,
    Machine,
    Section,
    hstate_name,
)
from tests.synthetic.physical import PAGE_SIZE

SECTION_FLAGS = {
    None: ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY"),
    Section.OFFLINE: ("MARKED_PRESENT", "HAS_MEM_MAP"),
    Section.OFFLINE_HOST: ("MARKED_PRESENT", "HAS_MEM_MAP"),
    Section.PLUGGED: ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE"),
    Section.HOST: ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE"),
    Section.DEVICE: ("MARKED_PRESENT", "HAS_MEM_MAP"),
    Section.PREPARED: (
        *("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY"),
        "IS_VMEMMAP_PREINIT",
    ),
}


class ImageData(ImageVmemmap):
    """A kernel's memory, with all that the kernel records in it."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.nodes: list[int] = []
        """Addresses of the nodes' ``struct pglist_data``."""
        self.hstates: dict[int, int] = {}
        """Addresses of the hstates by order."""
        self.section_usages: dict[int, int] = {}
        """Addresses of special sections' ``struct mem_section_usage`` by number."""
        self._write_nodes()
        self._write_sections()
        self._write_hstates()
        self._write_variables()

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

    def lru(self, pfn: int) -> int:
        """Virtual address of the ``lru`` of a struct page."""
        return self.machine.page_address(pfn) + self.types.structs["page"].members["lru"].offset

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

    def _write_sections(self) -> None:
        count = self.machine.max_pfn // SECTION_PAGES
        section = self.types.structs["mem_section"]
        per_root = PAGE_SIZE // section.size
        entries = [
            section.pack(
                section_mem_map=self.machine.vmemmap | self._section_flags(number),
                usage=self._section_usage(number),
                **self._section_order(number),
            )
            for number in range(count)
        ]
        roots = self._allocate_boot(bytes(8 * section_roots(self.machine)))
        for first in range(0, count, per_root):
            root = self._allocate_boot(
                b"".join(entries[first : first + per_root]).ljust(PAGE_SIZE, b"\0")
            )
            self.write(roots + first // per_root * 8, root)
        self.add_variable("mem_section", "struct mem_section **", roots)

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
        return sum(1 << bits.index(name) for name in names if name in bits)

    def _section_order(self, number: int) -> dict[str, int]:
        """The order of the compound pages for which a section's memmap was optimized."""
        if not self.machine.line.has_section_order:
            return {}
        orders = {Section.PREPARED: 18, Section.DEVICE: 9}
        section = self.machine.sections.get(number)
        return {"compound_page_order": orders.get(section, 0) if section else 0}

    def _write_hstates(self) -> None:
        orders, size = self.machine.orders, self.types.structs["hstate"].size
        hstates = bytes(size * len(orders))
        address = self.add_variable("hstates", f"struct hstate [{len(orders)}]", hstates)
        self.add_variable("hugetlb_max_hstate", "int", len(orders), 4)
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
        if self.machine.line.freed_pages and self.machine.enabled:
            pages = self.machine.vmemmap_pages(order) - KEPT[self.machine.layout]
            counts[self.machine.line.freed_pages] = pages
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

    def _broken(self, link: Link, first: int) -> int:
        return {
            Link.FIRST: first,
            Link.OUTSIDE: self.machine.page_offset + 8,
            Link.MISALIGNED: first + 8,
            Link.TAIL: first + self.machine.page_size,
        }[link]

    def _write_variables(self) -> None:
        machine = self.machine
        self.add_variable("page_offset_base", "unsigned long", machine.page_offset)
        self.add_variable("vmemmap_base", "unsigned long", machine.vmemmap)
        self.add_variable("max_pfn", "unsigned long", machine.max_pfn)
        self.add_variable("system_state", "unsigned int", 3, 4)
        if machine.is_locked is not None:
            self.add_variable("hugetlb_lock", "struct spinlock", machine.is_locked)
        supported = (1 << 64 if machine.has_no_execute else 1 << 63) - 1
        self.add_variable("__supported_pte_mask", "unsigned long", supported)
        init_mm = self.types.structs["mm_struct"].pack(pgd=IMAGE)
        self.add_variable("init_mm", "struct mm_struct", init_mm)
        for name, type_name in machine.line.variables.items():
            size = 1 if type_name == "_Bool" else 4
            self.add_variable(name, type_name, machine.enabled, size)
        if machine.line.counts_memmap:
            for name, count in self._counts.items():
                self.add_variable(name, "atomic_long_t", count)
        if machine.nodes_shift:
            pointers = struct.pack(f"<{len(self.nodes)}Q", *self.nodes)
            type_name = f"struct pglist_data *[{machine.max_nodes}]"
            self.add_variable("node_data", type_name, pointers.ljust(8 * machine.max_nodes, b"\0"))
        else:
            # It is a variable itself, which may be anywhere.
            self.variables["contig_page_data"] = ("struct pglist_data", self.nodes[0])
