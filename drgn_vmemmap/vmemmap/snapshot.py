# SPDX-License-Identifier: LGPL-2.1-or-later

"""A snapshot: what a kernel is, and how its memory and its vmemmap are read."""

from __future__ import annotations

from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import Memory


class Snapshot:
    """
    A kernel at one moment.

    Page tables that were read are kept, so each pass over a live kernel takes a new one.
    """

    def __init__(self, kernel: Kernel, memory: Memory) -> None:
        """
        :param memory: The kernel's physical memory.
        """
        self.kernel = kernel
        self.memory = memory
        self.walker = Walker(memory, kernel.paging)
        self.geometry = kernel.geometry

    def read(self, address: int, size: int) -> bytes:
        """
        Read virtual memory.

        :param address: Virtual address in bytes.
        :param size: Bytes to read.
        :raises MissingMemory: if any of it is not mapped, or not in the dump.
        """
        return self.walker.read(address, size, is_data=not self.geometry.contains(address))

    def struct_pages(self, pfn: int, count: int = 1) -> bytes:
        """
        Read consecutive struct pages.

        :param pfn: PFN of the first.
        :return: Their bytes, one after the other.
        :raises MissingMemory: if any of them is not mapped, or not in the dump.
        """
        geometry = self.geometry
        return self.walker.read(geometry.address(pfn), count * geometry.struct_size)

    def table_starts(self, pfns: range) -> range:
        """
        The spans of last-level tables that the vmemmap of consecutive PFNs is in.

        :return: Virtual address in bytes at which each begins.
        """
        addresses, span = self.geometry.addresses(pfns), self.kernel.architecture.table_span
        return range(addresses.start // span * span, addresses.stop, span)
