# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ELF vmcores that QEMU writes: their notes, and the memory in them by physical address."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vmcores.recipe.errors import RecipeError

PT_LOAD, PT_NOTE = 1, 4
ET_CORE, EM_X86_64 = 4, 62
_IDENTITY = b"\x7fELF\x02\x01\x01"  # of 64 bits, little-endian, version 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")


class Segment(NamedTuple):
    """A program header. Addresses, offsets and sizes are in bytes."""

    type: int
    flags: int
    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int


@dataclass(frozen=True)
class Note:
    """A note: whose it is, its number, and the bytes."""

    name: str
    type: int
    data: bytes


def segments(file: BinaryIO) -> tuple[int, list[Segment]]:
    """Return the file offset of the program headers, and the headers."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if header[:6] != _IDENTITY[:6]:
        raise RecipeError("not an ELF file of 64 bits")
    (table,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    file.seek(table)
    data = file.read(size * count)
    return table, [Segment(*_PROGRAM_HEADER.unpack_from(data, size * i)) for i in range(count)]


def notes(file: BinaryIO) -> Iterator[Note]:
    """Yield the notes of a vmcore."""
    yield from parse_notes(raw_notes(file))


def raw_notes(file: BinaryIO) -> bytes:
    """Return the notes of a vmcore as they stand there."""
    segment = next(segment for segment in segments(file)[1] if segment.type == PT_NOTE)
    file.seek(segment.offset)
    return file.read(segment.file_size)


def parse_notes(data: bytes) -> Iterator[Note]:
    """Yield the notes in these bytes, up to their end or to a note without a name."""
    position = 0
    while position + _NOTE.size <= len(data):
        name_size, size, kind = _NOTE.unpack_from(data, position)
        if not name_size:
            return
        start = position + _NOTE.size
        content = start + name_size + -name_size % 4
        name = data[start : start + name_size].rstrip(b"\0").decode("ascii", "replace")
        yield Note(name, kind, data[content : content + size])
        position = content + size + -size % 4


def vmcoreinfo(path: Path) -> bytes | None:
    """Return the text of a vmcore's note VMCOREINFO, or None if it has no such note."""
    with open(path, "rb") as file:
        return next((note.data for note in notes(file) if note.name == "VMCOREINFO"), None)


def read_physical(path: Path, address: int, size: int) -> bytes:
    """Read memory of a vmcore that lies within one of its segments."""
    with open(path, "rb") as file:
        for segment in segments(file)[1]:
            start = address - segment.physical
            if segment.type == PT_LOAD and 0 <= start <= segment.file_size - size:
                file.seek(segment.offset + start)
                return file.read(size)
    raise RecipeError(f"{path.name} does not hold {size} bytes at physical {address:#x}")


def write_headers(
    file: BinaryIO, notes: bytes, ranges: Sequence[tuple[int, int]], align: int
) -> int:
    """
    Write all of a vmcore but its memory into a new file.

    :param ranges: physical address and bytes of each range of memory that will follow
    :param align: of the memory's place in the file, in bytes
    :returns: the file offset at which the first range begins; the others follow without a gap
    """
    count = len(ranges) + 1
    notes_offset = _HEADER.size + count * _PROGRAM_HEADER.size
    start = offset = -(-(notes_offset + len(notes)) // align) * align
    headers = [Segment(PT_NOTE, 0, notes_offset, 0, 0, len(notes), len(notes), 4)]
    for physical, size in ranges:
        headers.append(Segment(PT_LOAD, 0, offset, 0, physical, size, size, 0))
        offset += size
    sizes = (_HEADER.size, _PROGRAM_HEADER.size, count, 0, 0, 0)
    file.write(_HEADER.pack(_IDENTITY, ET_CORE, EM_X86_64, 1, 0, _HEADER.size, 0, 0, *sizes))
    file.writelines(_PROGRAM_HEADER.pack(*header) for header in headers)
    file.write(notes)
    return start


def append_notes(path: Path, more: bytes) -> None:
    """
    Give a vmcore more notes.

    The segment of notes is written anew, with them, at the end of the file: no memory moves.

    :param more: ready-made notes
    """
    with open(path, "r+b") as file:
        table, headers = segments(file)
        index = next(i for i, segment in enumerate(headers) if segment.type == PT_NOTE)
        old = headers[index]
        file.seek(old.offset)
        data = file.read(old.file_size) + more
        file.seek(0, 2)
        file.write(bytes(-file.tell() % 8))
        new = old._replace(offset=file.tell(), file_size=len(data), memory_size=len(data))
        file.write(data)
        file.seek(table + index * _PROGRAM_HEADER.size)
        file.write(_PROGRAM_HEADER.pack(*new))
