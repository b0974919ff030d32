# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The synthetic image: the memory of a kernel as a model says, served to drgn.

It is written in layers: where what is (``image_memory.py``), the vmemmap (``image_vmemmap.py``),
the kernel's data (``image_data.py``). Here, a program reads it, and tests change it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import drgn

from drgn_vmemmap.analysis.report import Report, Selection
from drgn_vmemmap.api import examine
from tests.synthetic.debuginfo import add_debuginfo, vmcoreinfo
from tests.synthetic.image_data import ImageData
from tests.synthetic.image_memory import IMAGE, IMAGE_PFNS, KERNEL_OFFSET, PHYS_BASE
from tests.synthetic.model import PMD_SHIFT, Damage, Machine
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE, PRESENT, WRITABLE


class Image(ImageData):
    """The memory of a kernel, and a program that reads it."""

    live = False
    """Whether the program is that of a kernel that runs."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._damage()

    @cached_property
    def prog(self) -> drgn.Program:
        """The program; it sees what is written to memory later, too."""
        prog = self.memory.program()
        prog.set_linux_kernel_custom(self.vmcoreinfo, self.live)
        if self.machine.encryption_mask:
            # drgn's own walk knows no encryption. A kernel that dumps itself records its mapping.
            size = len(IMAGE_PFNS) << PAGE_SHIFT
            prog.add_memory_segment(IMAGE, size, self._read_image)
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

    def write_hstate(self, order: int, /, **members: int) -> None:
        for name, value in members.items():
            member = self.types.structs["hstate"].members[name]
            self.write(self.hstates[order] + member.offset, value, member.size)

    def drop_frame(self, pfn: int) -> None:
        """Take a frame out of the dump."""
        del self.memory.frames[pfn]

    def _damage(self) -> None:
        machine = self.machine
        for pmd, damage in machine.damage.items():
            address = self.tables.entry_address(machine.vmemmap + (pmd << PMD_SHIFT), "PMD")
            entry = self.memory.read_u64(address)
            if damage is Damage.MISSING:
                assert pmd in machine.split_pmds
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

    @property
    def vmcoreinfo(self) -> str:
        """VMCOREINFO, as this kernel would write it."""
        return vmcoreinfo(self.machine, self.types, PHYS_BASE, IMAGE, KERNEL_OFFSET)

    def _read_image(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        return self.memory.read(self.physical(address), count)
