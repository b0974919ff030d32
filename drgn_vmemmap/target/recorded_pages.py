# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What a dump has recorded: which pages, and what parts of them.

What an ELF file leaves out at the end of a segment may be a page of zeros, or excluded by
makedumpfile. drgn reads zeros. Of a flattened one, libkdumpfile reads more as zeros.

Pages that the bitmap of a kdump-compressed file lacks are not asked for: after some hundred of
them, the libkdumpfile of Debian 13 fails to decompress others, too.

That format has pages only, not parts of them. An extract has zeros for the rest, and lists the
parts that were recorded where makedumpfile lists what it erased: ``offset_eraseinfo`` of
``struct kdump_sub_header``. What was not recorded is not in the dump, and is not read as zero.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import drgn

from drgn_vmemmap.errors import CannotAnalyse, printable
from drgn_vmemmap.target.elf_file import flattened_memory, left_out
from drgn_vmemmap.target.file_errors import FILE_ERRORS, is_unreadable
from drgn_vmemmap.target.flattened import first_bytes, part_of, rearranged
from drgn_vmemmap.target.kdump_file import KDUMP, Bitmap, layout_of, page_bitmap
from drgn_vmemmap.target.open_files import dump_file
from drgn_vmemmap.target.page_reader import PAGE_SHIFT, PAGE_SIZE, by_page

_T = TypeVar("_T")

ProgramRead = Callable[[int, int, bool], bytes]
"""As :meth:`drgn.Program.read()`: an address, a size in bytes, and whether that is physical."""

Parts = Mapping[int, "tuple[range, ...]"]
"""Recorded bytes of pages, by the page's PFN."""


class Marks(NamedTuple):
    """What a file says of the pages that are recorded in part."""

    parts: Parts
    unknown: range
    """
    PFNs whose lines are damaged or cut off, and all between them: those of them that are not in
    ``parts`` may be recorded in part, and are not read.
    """


_NO_MARKS = Marks({}, range(0))

# Physical addresses have at most 52 bits.
_PFN_LIMIT = 1 << 52 - PAGE_SHIFT

_TITLE = b"drgn-vmemmap: bytes that are recorded of these pages\n"

# A page takes a line of some 30 bytes: these are a million pages.
_SIZE_LIMIT = 32 << 20


def marks_of(pieces: Mapping[int, bytes]) -> bytes:
    """
    The list of the pages that are recorded in part.

    :param pieces: Memory by its physical address, ascending; pieces do not touch.
    """
    parts: dict[int, list[range]] = {}
    for address, data in pieces.items():
        for pfn, part in by_page(address, len(data)):
            if len(part) < PAGE_SIZE:
                parts.setdefault(pfn, []).append(part)
    return _TITLE + b"".join(_line(pfn, of_page) for pfn, of_page in parts.items())


def _line(pfn: int, parts: list[range]) -> bytes:
    return f"{pfn:x} {' '.join(f'{part.start:x}-{part.stop:x}' for part in parts)}\n".encode()


def guarded(prog: drgn.Program) -> ProgramRead:
    """
    Make a reader of a program's physical memory that refuses what was not recorded.

    :raises CannotAnalyse: if the program's dump cannot be read again.
    """
    read: ProgramRead = prog.read
    path = dump_file(prog)
    if path is None:
        return read
    memory = _known_of(path, flattened_memory)
    if memory is not None:
        return _within(read, memory)
    pages, marks = _known_of(path, page_bitmap), marks_in(path)
    return read if pages is None and marks == _NO_MARKS else _guard(read, pages, marks)


def marks_in(path: str) -> Marks:
    """The pages of a file that were recorded in part."""
    return _known_of(path, _read_marks)


def _within(read: ProgramRead, memory: list[range]) -> ProgramRead:
    """
    :param memory: Physical addresses that may be read, ascending; ranges do not touch.
    """
    starts = [each.start for each in memory]

    def recorded(address: int, size: int, physical: bool) -> bytes:
        before = bisect_right(starts, address) - 1
        if before < 0 or memory[before].stop < address + size:
            raise drgn.FaultError("not recorded", address)
        return read(address, size, physical)

    return recorded


def _guard(read: ProgramRead, pages: Bitmap | None, marks: Marks) -> ProgramRead:
    parts, unknown = marks

    def recorded(address: int, size: int, physical: bool) -> bytes:
        first, last = address >> PAGE_SHIFT, address + size - 1 >> PAGE_SHIFT
        if pages is not None and not _are_set(pages, first, last):
            raise drgn.FaultError("not recorded", address)
        for pfn, wanted in by_page(address, size) if parts or unknown else ():
            of_page = parts.get(pfn, () if pfn in unknown else None)
            if of_page is not None and not any(
                part.start <= wanted.start and wanted.stop <= part.stop for part in of_page
            ):
                raise drgn.FaultError("not recorded", address)
        return read(address, size, physical)

    return recorded


def without_gaps(prog: drgn.Program, read: ProgramRead) -> ProgramRead:
    """
    Make a reader of a program's physical memory that refuses what an ELF dump leaves out.

    :param read: Reads all of it, what is left out as zeros.
    :raises CannotAnalyse: if the program's dump cannot be read again.
    """
    path = dump_file(prog)
    gaps: list[range] = [] if path is None else _known_of(path, left_out)
    if not gaps:
        return read
    starts = [gap.start for gap in gaps]

    def recorded(address: int, size: int, physical: bool) -> bytes:
        before = bisect_left(starts, address + size) - 1
        if before >= 0 and gaps[before].stop > address:
            raise drgn.FaultError("not recorded", address)
        return read(address, size, physical)

    return recorded


def _are_set(bitmap: Bitmap, first: int, last: int) -> bool:
    """Whether a bitmap has all bits from one to another."""
    if last >> 3 >= len(bitmap):
        return False
    if first == last:
        return bool(bitmap[first >> 3] >> (first & 7) & 1)
    bits = int.from_bytes(bitmap[first >> 3 : (last >> 3) + 1], "little") >> (first & 7)
    wanted = (1 << last - first + 1) - 1
    return bits & wanted == wanted


def _known_of(path: str, find: Callable[[str], _T]) -> _T:
    """
    A fact about a file, found once as long as the file does not change.

    :param find: Finds it, given the file's path.
    :raises CannotAnalyse: if the file cannot be read: what is not in it would be read as zeros.
    """
    try:
        status = os.stat(path)
        found: _T = _found(find, path, status.st_size, status.st_mtime_ns)
        return found
    except OSError as error:
        raise CannotAnalyse(
            f"{printable(path)} cannot be read again, to find out what it lacks: {error.strerror}"
        ) from error


@lru_cache(maxsize=12)
def _found(find: Callable[[str], Any], path: str, size: int, modified: int) -> Any:
    """
    :param size: Of the file.
    :param modified: When it was modified; after another change, the fact is found again.
    """
    return find(path)


def _read_marks(path: str) -> Marks:
    """The marks of a file, which may be flattened; none if it has none."""
    try:
        with open(path, "rb") as file:
            if first_bytes(file, len(KDUMP)) != KDUMP:
                return _NO_MARKS
            start, length = layout_of(rearranged(file, 2 * PAGE_SIZE)).erased
            if not start or not length:
                return _NO_MARKS
            data = part_of(file, start, min(length, _SIZE_LIMIT))
    except FILE_ERRORS as error:
        if is_unreadable(error):
            raise
        return _NO_MARKS
    if data.startswith(_TITLE):
        return _parsed(data[len(_TITLE) :], is_cut_off=len(data) < length)
    # Of a list that is cut off within its title, no page is known to be recorded.
    return _NO_MARKS if len(data) == length or data != _TITLE[: len(data)] else _parsed(b"", True)


def _parsed(data: bytes, is_cut_off: bool) -> Marks:
    """
    The marks in a list.

    :param data: The list without its title.
    """
    parts: dict[int, tuple[range, ...]] = {}
    ascending: list[int] = []
    first = stop = _PFN_LIMIT
    # What is not there counts as a damaged line at the end.
    for line in (*data.splitlines(keepends=True), *[b""] * is_cut_off):
        pfn, of_page = _parse(line)
        is_damaged = pfn < 0 or (bool(ascending) and pfn <= ascending[-1])
        if pfn >= 0:
            parts.setdefault(pfn, of_page)
            # Lines ascend: this one is damaged, or one before it is.
            while ascending and ascending[-1] >= pfn:
                ascending.pop()
        if is_damaged:
            first = min(first, ascending[-1] + 1 if ascending else 0)
            stop = _PFN_LIMIT
        elif first < stop == _PFN_LIMIT:
            stop = pfn
        if pfn >= 0:
            ascending.append(pfn)
    return Marks(parts, range(first, stop))


def _parse(line: bytes) -> tuple[int, tuple[range, ...]]:
    """A page and its recorded parts; a damaged line names none."""
    try:
        number, *parts = line.split()
        pairs = [part.split(b"-") for part in parts]
        of_page = tuple(range(int(start, 16), int(stop, 16)) for start, stop in pairs)
        pfn = int(number, 16)
    except ValueError:
        return -1, ()
    is_whole = line.endswith(b"\n") and pfn < _PFN_LIMIT
    return (pfn, of_page) if is_whole else (-1, ())
