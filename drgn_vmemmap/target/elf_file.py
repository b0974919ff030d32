# SPDX-License-Identifier: LGPL-2.1-or-later

"""How an ELF file is laid out, and which memory a dump in that format leaves out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import starmap
from typing import BinaryIO, NamedTuple

from drgn_vmemmap.ranges import joined
from drgn_vmemmap.target.file_errors import FILE_ERRORS, is_unreadable
from drgn_vmemmap.target.flattened import first_bytes, is_flattened, rearranged

ELF = b"\x7fELF\x02\x01"
"""How an ELF file of a 64-bit, little-endian machine begins."""

TYPE = slice(16, 18)
"""Where its header has the file's type."""

CORE = b"\4\0"
"""``ET_CORE``, the type of dumps."""

# Extended numbering of program headers: sh_info of section 0 has their number.
_PN_XNUM = 0xFFFF
_PROGRAM_HEADERS_LIMIT = 1 << 20

_SEGMENT = struct.Struct("<I4xQ8xQQQ8x")
_HEADERS_LIMIT = (1 + _PROGRAM_HEADERS_LIMIT) * _SEGMENT.size
_PT_LOAD = 1


def end_of_elf(file: BinaryIO) -> int:
    """
    Where an ELF file must end at least.

    :raises struct.error: if the file ends within its header.
    """
    table, number = _program_headers(file)
    ends = (each.offset + each.size for each in _segments(file))
    return max(table + number * _SEGMENT.size, max(ends, default=0))


def left_out(path: str) -> list[range]:
    """
    Memory that an ELF dump describes, but does not hold.

    Where makedumpfile excludes many pages in a row, they are the end of a segment, and not in the
    file. drgn reads zeros there.

    :return: Its physical addresses, ascending; ranges do not touch.
    :raises OSError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if first_bytes(file, len(ELF)) != ELF:
                return []
            headers = rearranged(file, _HEADERS_LIMIT)
            loads = (each for each in _segments(headers) if each.type == _PT_LOAD)
            return joined(each.gap for each in loads)
    except FILE_ERRORS as error:
        if is_unreadable(error):
            raise
        return []


def flattened_memory(path: str) -> list[range] | None:
    """
    Memory that a flattened ELF dump describes.

    libkdumpfile, which reads such a dump, reads whole pages: of those that a segment begins or ends
    in, what the dump does not describe is read as zeros, and so are some pages before a segment.

    :return: Its physical addresses, ascending; ranges do not touch. ``None`` for any other file.
    :raises OSError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if first_bytes(file, len(ELF)) != ELF or not is_flattened(file):
                return None
            segments = _segments(rearranged(file, _HEADERS_LIMIT))
            return joined(each.memory for each in segments if each.type == _PT_LOAD)
    except FILE_ERRORS as error:
        if is_unreadable(error):
            raise
        return []


def is_without_segments(path: str) -> bool:
    """Whether an ELF dump has no segments of memory: Xen's ``xl dump-core`` writes sections."""
    try:
        with open(path, "rb") as file:
            start = file.read(TYPE.stop)
            is_core = start.startswith(ELF) and start[TYPE] == CORE
            return is_core and all(each.type != _PT_LOAD for each in _segments(file))
    except FILE_ERRORS:
        return False


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
    def memory(self) -> range:
        """The physical addresses that it stands for."""
        return range(self.physical, self.physical + max(self.size, self.memory_size))

    @property
    def gap(self) -> range:
        """The physical addresses of what is not in the file."""
        return range(self.physical + self.size, self.physical + self.memory_size)


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
