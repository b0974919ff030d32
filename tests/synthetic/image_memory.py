# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Where a synthetic kernel has what, and how its memory is allocated.

Memory, from its start: the kernel's image, what was allocated at boot (page tables, nodes,
sections), what was allocated at run time (new heads, tail frames; on each node), then the folios;
at the end of each node, the frames of its boot-time vmemmap.
"""

from __future__ import annotations

from tests.synthetic.kernels import types
from tests.synthetic.memmap import Memmap
from tests.synthetic.model import Machine
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE, PageTables, PhysicalMemory

_MIB = 1 << (20 - PAGE_SHIFT)

# Where KASLR put the kernel's image, in memory and in virtual addresses.
IMAGE_PFNS = range(32 * _MIB, 36 * _MIB)
KERNEL_OFFSET = 0x0D200000
IMAGE = 0xFFFFFFFF81000000 + KERNEL_OFFSET
PHYS_BASE = (IMAGE_PFNS.start << PAGE_SHIFT) - (IMAGE - 0xFFFFFFFF80000000)

# On node 0; and on each node, from its start.
BOOT_PFNS = range(40 * _MIB, 64 * _MIB)
_RUN_TIME_PFNS = range(64 * _MIB, 96 * _MIB)


class ImageMemory:
    """The memory of a kernel that has allocated nothing yet."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.memory = PhysicalMemory()
        self.types = types(machine.line.release, machine.page_size, machine.max_nodes)
        self.variables: dict[str, tuple[str, int]] = {}
        """Type and address of each variable."""

        self.memory.fill(IMAGE_PFNS, bytes(PAGE_SIZE))
        self._image_end = IMAGE + PAGE_SIZE
        self._boot = iter(BOOT_PFNS)
        self._run_time = [
            iter(machine.node_pfns(node)[_RUN_TIME_PFNS.start : _RUN_TIME_PFNS.stop])
            for node in range(machine.nodes)
        ]
        self.memmap = Memmap(machine, self.memory, self.types.structs["page"])
        self.tables = PageTables(
            self.memory,
            machine.levels,
            IMAGE_PFNS.start,
            lambda: next(self._boot),
            machine.encryption_mask,
            machine.has_no_execute,
        )

    def physical(self, address: int) -> int:
        """Physical address of the kernel's image, or of the direct map."""
        if address >= IMAGE:
            return address - 0xFFFFFFFF80000000 + PHYS_BASE
        return address - self.machine.page_offset

    def write(self, address: int, value: int, size: int = 8) -> None:
        """Write a number to the kernel's image or to the direct map."""
        self.memory.write(self.physical(address), value.to_bytes(size, "little"))

    def _allocate_boot(self, data: bytes) -> int:
        """Memory from boot time, by its address in the direct map."""
        pfns = [next(self._boot) for _ in range(-(-len(data) // PAGE_SIZE))]
        self.memory.fill(pfns, bytes(PAGE_SIZE))
        if any(data):
            self.memory.write(pfns[0] << PAGE_SHIFT, data)
        return self.machine.page_offset + (pfns[0] << PAGE_SHIFT)

    def add_variable(self, name: str, type_name: str, value: int | bytes, size: int = 8) -> int:
        """Put a variable into the kernel's image; gives its address."""
        data = value if isinstance(value, bytes) else int(value).to_bytes(size, "little")
        address = self._image_end
        self._image_end += len(data) + -len(data) % 64
        self.variables[name] = (type_name, address)
        self.memory.write(self.physical(address), data)
        return address
