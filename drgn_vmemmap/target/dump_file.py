# SPDX-License-Identifier: LGPL-2.1-or-later

"""Why a file cannot be analysed, or only in part, as its first bytes show."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from itertools import starmap
from typing import BinaryIO, NamedTuple, Union

from drgn_vmemmap.target.foreign_files import START_SIZE, what_it_is

_KDUMP = b"KDUMP   "
_FLATTENED = b"makedumpfile\0"
_ANY_ELF = b"\x7fELF"
_ELF = b"\x7fELF\x02\x01"

# status of struct disk_dump_header, e_flags of an ELF header, and the flags that makedumpfile
# sets in them: DUMP_DH_COMPRESSED_INCOMPLETE and DUMP_ELF_INCOMPLETE.
_STATUS, _KDUMP_INCOMPLETE = 424, 0x8
_ELF_FLAGS, _ELF_INCOMPLETE = 48, 0x1

# Extended numbering of program headers: sh_info of section 0 has their number.
_PN_XNUM = 0xFFFF
_PROGRAM_HEADERS_LIMIT = 1 << 20

_SEGMENT = struct.Struct("<I4xQ8xQQQ8x")
_PT_LOAD = 1

# How many of the last descriptors are read: those of pages of zeros may all lead to one page.
_LAST_DESCRIPTORS = 4096
_DESCRIPTOR_SIZE = 24


def why_not_a_dump(path: str) -> str | None:
    """
    What keeps a file from being analysed, and what to do.

    :return: A predicate, such as "is empty"; ``None`` if drgn should try, or report the error.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return "is a FIFO or a socket: write the dump to a file first"
        if stat.S_ISDIR(mode):
            return "is a directory: give the dump in it"
        if not stat.S_ISREG(mode):
            return None
        with open(path, "rb") as file:
            start = file.read(START_SIZE)
            if not start:
                return "is empty: the dump was not written"
            if start.startswith(_KDUMP):
                return _why_not_a_kdump(file)
    except OSError:
        return None
    return what_it_is(start)


def is_kdump(path: str) -> bool:
    """Whether this is a regular file that begins as those do that libkdumpfile reads."""
    # What is read of a pipe is gone.
    return os.path.isfile(path) and _start_of(path, len(_KDUMP)) == _KDUMP


def _start_of(path: str, size: int) -> bytes:
    """The first bytes of a file, at most *size*; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def page_bitmap(path: str) -> Bitmap | None:
    """
    Which pages a kdump-compressed file has.

    :return: A bit for each PFN, from the lowest bit of each byte on; ``None`` for a file of another
        kind, or of another page size, and for one of several that a dump was split into.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_KDUMP)) != _KDUMP:
                return None
            kdump = _kdump(file)
            size = kdump.bitmaps_size // 2
            is_whole = os.fstat(file.fileno()).st_size >= kdump.descriptors
            if kdump.is_split or kdump.block_size != mmap.PAGESIZE or not size or not is_whole:
                return None
            # The second bitmap begins at a multiple of the page size, as mmap() requires it.
            return mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ, offset=kdump.bitmaps + size)
    except (OSError, OverflowError, ValueError, struct.error):
        return None


def is_dump(path: str) -> bool:
    """Whether a file begins as dumps do: as a kdump-compressed one, or as an ELF core file."""
    with open(path, "rb") as file:
        start = file.read(18)
    return start.startswith(_KDUMP) or (start.startswith(_ANY_ELF) and start[16:18] == b"\4\0")


def is_elf(path: str) -> bool:
    """Whether a file begins as ELF files do: dumps, kernels, modules, and their symbols."""
    with open(path, "rb") as file:
        return file.read(len(_ANY_ELF)) == _ANY_ELF


def missing_bytes(path: str) -> int:
    """
    How many bytes a dump lacks at its end, at least.

    :param path: A kdump-compressed file or an ELF file; others lack nothing.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            if start.startswith(_KDUMP):
                end = _end_of_kdump(file)
            elif start.startswith(_ELF):
                end = _end_of_elf(file)
            else:
                end = 0
            return max(0, end - os.fstat(file.fileno()).st_size)
    except (OSError, OverflowError, ValueError, struct.error):
        return 0


def is_marked_incomplete(path: str) -> bool:
    """Whether makedumpfile could not write all of a dump, as it says in the dump's header."""
    header = _start_of(path, _STATUS + 4)
    if header.startswith(_KDUMP) and len(header) == _STATUS + 4:
        return bool(header[_STATUS] & _KDUMP_INCOMPLETE)
    is_elf = header.startswith(_ELF) and len(header) > _ELF_FLAGS
    return is_elf and bool(header[_ELF_FLAGS] & _ELF_INCOMPLETE)


def left_out(path: str) -> list[range]:
    """
    Memory that an ELF dump describes, but does not hold.

    Where makedumpfile excludes many pages in a row, they are the end of a segment, and not in the
    file. drgn reads zeros there.

    :return: Its physical addresses, ascending; ranges do not touch.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_ELF)) != _ELF:
                return []
            short = [each for each in _segments(file) if each.size < each.memory_size]
    except (OSError, OverflowError, ValueError, struct.error):
        return []
    gaps: list[range] = []
    loads = (each for each in short if each.type == _PT_LOAD)
    for gap in sorted((each.gap for each in loads), key=lambda gap: gap.start):
        if gaps and gap.start <= gaps[-1].stop:
            gaps[-1] = range(gaps[-1].start, max(gaps[-1].stop, gap.stop))
        else:
            gaps.append(gap)
    return gaps


def is_flattened(path: str) -> bool:
    """Whether this is a stream of makedumpfile, whose pieces are not where they belong."""
    return _start_of(path, len(_FLATTENED)) == _FLATTENED


def is_part(path: str) -> bool:
    """Whether a kdump-compressed file is one of several that makedumpfile split a dump into."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_KDUMP)) == _KDUMP and _kdump(file).is_split
    except (OSError, OverflowError, ValueError, struct.error):
        return False


Bitmap = Union[bytes, mmap.mmap]
"""Bits by their number, from the lowest bit of each byte on."""


class _Segment(NamedTuple):
    """What an ELF file's program header says of a segment, in bytes."""

    type: int
    offset: int
    """Where it is in the file."""
    physical: int
    """Its physical address."""
    size: int
    """How much of it is in the file."""
    memory_size: int
    """How much memory it stands for."""

    @property
    def gap(self) -> range:
        """The physical addresses of what is not in the file."""
        return range(self.physical + self.size, self.physical + self.memory_size)


class _Kdump(NamedTuple):
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
    parts: tuple[tuple[int, int], ...]
    """Where VMCOREINFO, the notes and the list of what was erased are, and their sizes."""
    is_split: bool
    """Whether other files have some of the pages."""

    @property
    def descriptors(self) -> int:
        """Where the descriptors of the pages begin."""
        return self.bitmaps + self.bitmaps_size


def _kdump(file: BinaryIO) -> _Kdump:
    """
    :raises struct.error: if the file ends within its headers.
    """
    file.seek(0)
    block_size, sub_header, bitmap_blocks = struct.unpack_from("<3I", file.read(440), 428)
    file.seek(block_size)
    split, *parts = struct.unpack_from("<12xi16x6Q", file.read(80))
    return _Kdump(
        block_size,
        (1 + sub_header) * block_size,
        bitmap_blocks * block_size,
        tuple(zip(parts[::2], parts[1::2])),
        bool(split),
    )


def _why_not_a_kdump(file: BinaryIO) -> str | None:
    """
    Why libkdumpfile must not open a file, as a predicate; ``None`` if it may.

    It maps the file. A part that begins in the file and ends beyond its last page raises SIGBUS,
    which ends the process.
    """
    try:
        kdump = _kdump(file)
    except struct.error:
        return "is cut off before its first page: copy it again"
    size = os.fstat(file.fileno()).st_size
    if size < kdump.descriptors:
        return "is cut off before its first page: copy it again"
    mapped = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    if any(start < mapped < start + length for start, length in kdump.parts):
        return "is cut off within its notes: copy it again"
    return None


def _end_of_kdump(file: BinaryIO) -> int:
    kdump = _kdump(file)
    end = max(kdump.descriptors, *(start + size for start, size in kdump.parts))
    if kdump.is_split or os.fstat(file.fileno()).st_size < kdump.descriptors:
        return end
    file.seek(kdump.bitmaps + kdump.bitmaps_size // 2)
    pages = _count_bits(file, kdump.bitmaps_size // 2)
    end = max(end, kdump.descriptors + pages * _DESCRIPTOR_SIZE)
    first = max(0, pages - _LAST_DESCRIPTORS)
    file.seek(kdump.descriptors + first * _DESCRIPTOR_SIZE)
    descriptors = file.read((pages - first) * _DESCRIPTOR_SIZE)
    complete = len(descriptors) // _DESCRIPTOR_SIZE * _DESCRIPTOR_SIZE
    return max(end, _last_end(struct.iter_unpack("<QI12x", descriptors[:complete])))


def _count_bits(file: BinaryIO, size: int) -> int:
    count = 0
    while size > 0:
        data = file.read(min(size, 1 << 16))
        if not data:
            break
        size -= len(data)
        count += bin(int.from_bytes(data, "little")).count("1")
    return count


def _end_of_elf(file: BinaryIO) -> int:
    table, number = _program_headers(file)
    end = table + _SEGMENT.size * number
    return max(end, _last_end((each.offset, each.size) for each in _segments(file)))


def _program_headers(file: BinaryIO) -> tuple[int, int]:
    """
    Where an ELF file has its program headers, and their number.

    :raises struct.error: if the file ends within its header.
    """
    file.seek(0)
    table, sections, number = map(int, struct.unpack_from("<2Q8xH", file.read(64), 32))
    if number == _PN_XNUM:
        file.seek(sections)
        (number,) = struct.unpack_from("<I", file.read(64), 44)
    return table, number


def _segments(file: BinaryIO) -> Iterator[_Segment]:
    """The segments of an ELF file, as far as their headers are in the file."""
    table, number = _program_headers(file)
    file.seek(table)
    headers = file.read(_SEGMENT.size * min(number, _PROGRAM_HEADERS_LIMIT))
    complete = len(headers) // _SEGMENT.size * _SEGMENT.size
    return starmap(_Segment, _SEGMENT.iter_unpack(headers[:complete]))


def _last_end(pieces: Iterable[tuple[int, ...]]) -> int:
    """Where the last of some pieces ends, given the offset and size of each."""
    return max((offset + size for offset, size in pieces), default=0)
