# SPDX-License-Identifier: LGPL-2.1-or-later

"""Memory by pages, and a cache of it: each read through drgn costs a walk of the page tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drgn_vmemmap.errors import MissingMemory

Read = Callable[[int, int], bytes]
"""Reads some bytes of the kernel's memory at a virtual address."""

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
"""Memory is read, and missing from a dump, in pieces of this size in bytes."""

_ALL_ADDRESSES = range(1 << 64)


def by_page(address: int, size: int) -> Iterator[tuple[int, range]]:
    """Split consecutive bytes by page: each page's number, and the offsets of its bytes in it."""
    end = address + size
    while address < end:
        number, start = address >> PAGE_SHIFT, address & (PAGE_SIZE - 1)
        stop = min(PAGE_SIZE, start + end - address)
        yield number, range(start, stop)
        address += stop - start


class PageReader:
    """Reads a program's memory a page at a time, and keeps the pages."""

    def __init__(self, read: Read, limits: range = _ALL_ADDRESSES) -> None:
        """
        :param read: Raises an exception of any kind for memory that is not in the dump.
        :param limits: Virtual addresses that may be read in advance. Outside them, only the bytes
            that are asked for are read.
        """
        self._read = read
        self._limits = limits
        self._pages: dict[int, tuple[int, bytes]] = {}

    def read(self, address: int, size: int) -> bytes:
        """
        :param address: Virtual address.
        :param size: In bytes.
        :raises MissingMemory: if it cannot be read.
        """
        number = address >> PAGE_SHIFT
        if number not in self._pages:
            page = range(number << PAGE_SHIFT, number + 1 << PAGE_SHIFT)
            start = max(page.start, self._limits.start)
            stop = min(page.stop, self._limits.stop)
            if not start <= address <= address + size <= stop:
                return self._exactly(address, size)
            try:
                self._pages[number] = start, self._exactly(start, stop - start)
            except MissingMemory:
                # An extract may have a part of the page.
                return self._exactly(address, size)
        start, data = self._pages[number]
        offset = address - start
        if offset < 0 or offset + size > len(data):
            return self._exactly(address, size)
        return data[offset : offset + size]

    def _exactly(self, address: int, size: int) -> bytes:
        try:
            return bytes(self._read(address, size))
        # Damaged files make drgn's and libkdumpfile's readers fail in many ways.
        except Exception:
            raise MissingMemory(f"{size} bytes at {address:#x}") from None
