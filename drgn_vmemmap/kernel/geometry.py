# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The geometry of the vmemmap: which of its pages holds the ``struct page`` of which PFN.

Follows ``pfn_to_page()`` and ``page_to_pfn()`` of ``include/asm-generic/memory_model.h``
with ``CONFIG_SPARSEMEM_VMEMMAP``.
"""

from __future__ import annotations

from typing import NamedTuple


class Geometry(NamedTuple):
    """
    Converts between PFNs, addresses of struct pages and numbers of vmemmap pages.

    The vmemmap pages are numbered from the one with the ``struct page`` of PFN 0.
    """

    base: int
    """Virtual address in bytes of the ``struct page`` of PFN 0."""
    struct_size: int
    """Size in bytes of a ``struct page``."""
    page_shift: int
    """log2 of the size in bytes of a page."""
    max_pfn: int
    """First PFN beyond physical memory."""

    @property
    def page_size(self) -> int:
        """Size in bytes of a page."""
        return 1 << self.page_shift

    @property
    def is_aligned(self) -> bool:
        """Whether no ``struct page`` lies in two pages, as HVO needs it."""
        return not self.struct_size & (self.struct_size - 1)

    @property
    def end(self) -> int:
        """Virtual address in bytes of the first page after the vmemmap of all memory."""
        return self.page_number_address(self.pages_of(range(self.max_pfn)).stop)

    def address(self, pfn: int) -> int:
        """Virtual address in bytes of the ``struct page`` of a PFN."""
        return self.base + pfn * self.struct_size

    def addresses(self, pfns: range) -> range:
        """Virtual addresses in bytes of the struct pages of consecutive PFNs."""
        return range(self.address(pfns.start), self.address(pfns.stop))

    def pfn_at(self, address: int) -> tuple[int, int]:
        """
        :param address: Virtual address in bytes, anywhere in the vmemmap.
        :return: PFN of the ``struct page`` with this byte, and the byte's offset in it.
        """
        return divmod(address - self.base, self.struct_size)

    def pfn_of(self, pointer: int) -> int | None:
        """PFN of the ``struct page`` that a pointer points to; ``None`` if it points to none."""
        pfn, misaligned = self.pfn_at(pointer)
        return None if misaligned or not 0 <= pfn < self.max_pfn else pfn

    def contains(self, address: int) -> bool:
        """Whether an address is in the vmemmap of this memory."""
        return self.base <= address < self.address(self.max_pfn)

    def page_number(self, pfn: int) -> int:
        """Number of the vmemmap page in which the ``struct page`` of a PFN begins."""
        return pfn * self.struct_size >> self.page_shift

    def page_number_at(self, address: int) -> int:
        """Number of the vmemmap page at a virtual address."""
        return (address - self.base) >> self.page_shift

    def page_number_address(self, number: int) -> int:
        """Virtual address in bytes of a vmemmap page."""
        return self.base + (number << self.page_shift)

    def pages_of(self, pfns: range) -> range:
        """Numbers of the vmemmap pages with the struct pages of consecutive PFNs."""
        last_byte = pfns.stop * self.struct_size - 1
        return range(self.page_number(pfns.start), (last_byte >> self.page_shift) + 1)

    def pfns_of(self, pages: range) -> range:
        """PFNs whose struct pages consecutive vmemmap pages hold, at least in part."""
        first = self.first_pfn_of(pages.start)
        last = ((pages.stop << self.page_shift) - 1) // self.struct_size
        return range(first, last + 1)

    def first_pfn_of(self, number: int) -> int:
        """PFN of the first ``struct page`` of which a vmemmap page has a byte."""
        return (number << self.page_shift) // self.struct_size

    def pages_of_order(self, order: int) -> int:
        """How many vmemmap pages describe a folio of an order."""
        return max(1, (self.struct_size << order) >> self.page_shift)
