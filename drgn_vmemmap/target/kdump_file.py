# SPDX-License-Identifier: LGPL-2.1-or-later

"""How a kdump-compressed file is laid out, and which pages it has."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Union

from drgn_vmemmap.target.file_errors import FILE_ERRORS, is_unreadable

KDUMP = b"KDUMP   "
"""How such a file begins."""

HEADER_SIZE = 440
"""How much of ``struct disk_dump_header`` is read, in bytes."""

# The size of a page, and of the header that follows, and of the bitmaps in pages.
_SIZES = struct.Struct("<3I")
_SIZES_AT = 428

# Offset and size of a page, in its page_desc_t.
_PAGE = struct.Struct("<QI12x")

# How many descriptors are read at once; pages of zeros may all lead to one page.
_DESCRIPTORS = 4096

# Bytes of a bitmap whose bits are counted together.
_CHUNK = 1 << 16

Bitmap = Union[bytes, mmap.mmap]
"""Bits by their number, from the lowest bit of each byte on."""


class Part(NamedTuple):
    """A part of a file, in bytes; of size 0 if the file does not have it."""

    start: int
    size: int


class Kdump(NamedTuple):
    """
    The layout of a kdump-compressed file, in bytes.

    See makedumpfile's ``struct disk_dump_header``, ``struct kdump_sub_header``, ``page_desc_t``.
    """

    block_size: int
    """Of a page. Headers, bitmaps and descriptors begin at multiples of it."""
    bitmaps: int
    """Where two bitmaps of pages begin; the second one has the pages that are in the file."""
    bitmaps_size: int
    """Of both together."""
    vmcoreinfo: Part
    notes: Part
    erased: Part
    """The list of what makedumpfile erased."""
    is_split: bool
    """Whether other files have some of the pages."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that may be anywhere in the file."""
        return self.vmcoreinfo, self.notes, self.erased

    @property
    def descriptors(self) -> int:
        """Where the descriptors of the pages begin."""
        return self.bitmaps + self.bitmaps_size


def layout_of(file: BinaryIO) -> Kdump:
    """
    :raises struct.error: if the file ends within its headers.
    """
    file.seek(0)
    block_size, sub_header, bitmap_blocks = _SIZES.unpack_from(file.read(HEADER_SIZE), _SIZES_AT)
    file.seek(block_size)
    split, *numbers = struct.unpack_from("<12xi16x6Q", file.read(80))
    vmcoreinfo, notes, erased = map(Part, numbers[::2], numbers[1::2])
    return Kdump(
        block_size=block_size,
        bitmaps=(1 + sub_header) * block_size,
        bitmaps_size=bitmap_blocks * block_size,
        vmcoreinfo=vmcoreinfo,
        notes=notes,
        erased=erased,
        is_split=bool(split),
    )


def block_size(header: bytes) -> int | None:
    """
    Size of the pages, in bytes.

    :param header: The first bytes of a dump, up to :data:`HEADER_SIZE`.
    :return: ``None`` for a file of another kind, or one that ends within its header.
    """
    if not header.startswith(KDUMP) or len(header) < HEADER_SIZE:
        return None
    return int(_SIZES.unpack_from(header, _SIZES_AT)[0])


def end_of(file: BinaryIO) -> int:
    """
    Where a kdump-compressed file must end at least.

    :raises struct.error: if the file ends within its headers.
    """
    kdump = layout_of(file)
    end = max(kdump.descriptors, *(start + size for start, size in kdump.parts))
    if kdump.is_split or os.fstat(file.fileno()).st_size < kdump.descriptors:
        return end
    pages = _count_pages(file, kdump)
    end = max(end, kdump.descriptors + pages * _PAGE.size)
    return max(end, _end_of_pages(file, kdump, pages))


def _count_pages(file: BinaryIO, kdump: Kdump) -> int:
    """How many pages a file has by its second bitmap."""
    size, count = kdump.bitmaps_size // 2, 0
    file.seek(kdump.bitmaps + size)
    while size > 0:
        data = file.read(min(size, _CHUNK))
        if not data:
            break
        size -= len(data)
        count += _count_bits(data)
    return count


def _described(descriptors: bytes) -> Iterator[tuple[int, int]]:
    """Offset and size of the pages of some descriptors, the last of which may be cut off."""
    return _PAGE.iter_unpack(descriptors[: len(descriptors) // _PAGE.size * _PAGE.size])


def page_bitmap(path: str) -> Bitmap | None:
    """
    Which pages a kdump-compressed file has.

    :return: A bit for each PFN, from the lowest bit of each byte on; ``None`` for a file of another
        kind, or of another page size, and for one of several that a dump was split into.
    :raises OSError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(KDUMP)) != KDUMP:
                return None
            kdump = layout_of(file)
            size = kdump.bitmaps_size // 2
            has_bitmaps = os.fstat(file.fileno()).st_size >= kdump.descriptors
            if kdump.is_split or kdump.block_size != mmap.PAGESIZE or not size or not has_bitmaps:
                return None
            bits = _mapped(file, kdump.bitmaps + size, size)
            return _without_pages_beyond(bits, file, kdump) if _is_cut_off(file, kdump) else bits
    except FILE_ERRORS as error:
        if is_unreadable(error):
            raise
        return None


def _mapped(file: BinaryIO, start: int, size: int) -> Bitmap:
    """A part of a file, which begins at a multiple of the page size, as mmap() requires it."""
    try:
        return mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ, offset=start)
    except OSError:
        # Not every file system maps files, and not every process may map more.
        file.seek(start)
        return file.read(size)


def _is_cut_off(file: BinaryIO, kdump: Kdump) -> bool:
    """Whether a file ends before its last page, or before the descriptors of its pages."""
    size = os.fstat(file.fileno()).st_size
    if size < kdump.descriptors + _PAGE.size:
        return True
    # The first page follows the last descriptor, perhaps after a gap.
    file.seek(kdump.descriptors)
    (first,) = struct.unpack("<Q", file.read(8))
    count = (first - kdump.descriptors) // _PAGE.size
    return size < first or size < _end_of_pages(file, kdump, count)


def _end_of_pages(file: BinaryIO, kdump: Kdump, count: int) -> int:
    """
    Where the last of some pages ends; 0 for none.

    :param count: How many, by their descriptors; some of these may be of no page.
    """
    file.seek(kdump.descriptors)
    first, length = next(_described(file.read(_PAGE.size)), (0, 0))
    for end in range(count, 0, -_DESCRIPTORS):
        start = max(0, end - _DESCRIPTORS)
        file.seek(kdump.descriptors + start * _PAGE.size)
        pages = _described(file.read((end - start) * _PAGE.size))
        # All pages of zeros may lead to one page, which lies before all others.
        ends = [at + size for at, size in pages if at > first]
        if ends:
            return max(ends)
    return first + length if count > 0 else 0


def _without_pages_beyond(bits: Bitmap, file: BinaryIO, kdump: Kdump) -> bytes:
    """
    A bitmap of pages up to the first one that ends beyond a file.

    Pages are in the order of their PFNs. What the file lacks of a page that is not compressed,
    libkdumpfile may read as zeros.
    """
    left = _pages_within(file, kdump)
    for start in range(0, len(bits), _CHUNK):
        chunk = bits[start : start + _CHUNK]
        count = _count_bits(chunk)
        if count > left:
            return bits[:start] + _first_bits(chunk, left)
        left -= count
    return bits[:]


def _pages_within(file: BinaryIO, kdump: Kdump) -> int:
    """How many pages there are before the first one that ends beyond a file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(kdump.descriptors)
    pages = 0
    while data := file.read(_DESCRIPTORS * _PAGE.size):
        for offset, length in _described(data):
            if offset + length > size:
                return pages
            pages += 1
    return pages


def _first_bits(bits: bytes, count: int) -> bytes:
    """Some bits up to so many of those that are set."""
    kept = bytearray()
    for byte in bits:
        while _count_bits(bytes([byte])) > count:
            byte &= ~(1 << byte.bit_length() - 1)
        count -= _count_bits(bytes([byte]))
        kept.append(byte)
    return bytes(kept)


def _count_bits(data: bytes) -> int:
    """How many bits are set in some bytes."""
    return bin(int.from_bytes(data, "little")).count("1")
