# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What a dump has recorded: which pages, and what parts of them.

What an ELF file leaves out at the end of a segment may be a page of zeros, or excluded by
makedumpfile. drgn reads zeros.

Pages that the bitmap of a kdump-compressed file lacks are not asked for: after some hundred of
them, the libkdumpfile of Debian 13 fails to decompress others, too.

That format has pages only, not parts of them. An extract has zeros for the rest, and lists the
parts that were recorded where makedumpfile lists what it erased: ``offset_eraseinfo`` of
``struct kdump_sub_header``. What was not recorded is not in the dump, and is not read as zero.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import drgn

from drgn_vmemmap.errors import CannotAnalyse, printable
from drgn_vmemmap.target.elf_file import left_out
from drgn_vmemmap.target.kdump_file import KDUMP, Bitmap, page_bitmap
from drgn_vmemmap.target.open_files import dump_file
from drgn_vmemmap.target.page_reader import PAGE_SHIFT, PAGE_SIZE

_T = TypeVar("_T")

Read = Callable[[int, int, bool], bytes]

Parts = Mapping[int, "tuple[range, ...]"]
"""Recorded bytes of pages, by the page's PFN."""

_TITLE = b"drgn-vmemmap: bytes that are recorded of these pages\n"

# Where struct kdump_sub_header has offset_eraseinfo and size_eraseinfo.
_SUB_HEADER, _ERASE_INFO = 4096, 64

# A page takes a line of some 30 bytes: these are a million pages.
_SIZE_LIMIT = 32 << 20


def marks_of(pieces: Mapping[int, bytes]) -> bytes:
    """
    The list of the pages that are recorded in part.

    :param pieces: Memory by its physical address, ascending; pieces do not touch.
    """
    parts: dict[int, list[range]] = {}
    for address, data in pieces.items():
        for pfn, part in _by_page(address, len(data)):
            if len(part) < PAGE_SIZE:
                parts.setdefault(pfn, []).append(part)
    return _TITLE + b"".join(_line(pfn, of_page) for pfn, of_page in parts.items())


def _line(pfn: int, parts: list[range]) -> bytes:
    return f"{pfn:x} {' '.join(f'{part.start:x}-{part.stop:x}' for part in parts)}\n".encode()


def _by_page(address: int, size: int) -> Iterator[tuple[int, range]]:
    """Split consecutive bytes by page: each page's PFN, and the offsets of its bytes in it."""
    end = address + size
    while address < end:
        pfn, start = address >> PAGE_SHIFT, address & (PAGE_SIZE - 1)
        stop = min(PAGE_SIZE, start + end - address)
        yield pfn, range(start, stop)
        address += stop - start


def guarded(prog: drgn.Program) -> Read:
    """
    Make a reader of a program's physical memory that refuses what was not recorded.

    :return: As :meth:`drgn.Program.read()`.
    """
    read: Read = prog.read
    path = dump_file(prog)
    pages = None if path is None else _known_of(path, page_bitmap)
    if path is None or pages is None:
        return read
    return _guard(read, pages, parts_in(path))


def parts_in(path: str) -> Parts:
    """The pages of a file that were recorded in part."""
    return _known_of(path, _read_marks)


def _guard(read: Read, pages: Bitmap, parts: Parts) -> Read:
    def recorded(address: int, size: int, physical: bool) -> bytes:
        first, last = address >> PAGE_SHIFT, address + size - 1 >> PAGE_SHIFT
        if not _are_set(pages, first, last):
            raise drgn.FaultError("not recorded", address)
        for pfn, wanted in _by_page(address, size) if parts else ():
            of_page = parts.get(pfn)
            if of_page is not None and not any(
                part.start <= wanted.start and wanted.stop <= part.stop for part in of_page
            ):
                raise drgn.FaultError("not recorded", address)
        return read(address, size, physical)

    return recorded


def without_gaps(prog: drgn.Program, read: Read) -> Read:
    """
    What reads a program's physical memory, and nothing that an ELF dump leaves out.

    :param read: Reads all of it, what is left out as zeros.
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
            f"{printable(path)} cannot be read again, to know what is not in it: {error.strerror}"
        ) from error


@lru_cache(maxsize=12)
def _found(find: Callable[[str], Any], path: str, size: int, modified: int) -> Any:
    """
    :param size: Of the file.
    :param modified: When it was modified; after another change, the fact is found again.
    """
    return find(path)


def _read_marks(path: str) -> Parts:
    """The marks of a file; none if it has none."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(_SUB_HEADER + 128)
        if not header.startswith(KDUMP) or len(header) < _SUB_HEADER + 128:
            return {}
        start, length = struct.unpack_from("<qQ", header, _SUB_HEADER + _ERASE_INFO)
        if not 0 < start < size or not 0 < length <= min(size - start, _SIZE_LIMIT):
            return {}
        file.seek(start)
        title, *lines = file.read(length).splitlines(keepends=True)
    return dict(_parse(line) for line in lines) if title == _TITLE else {}


def _parse(line: bytes) -> tuple[int, tuple[range, ...]]:
    """A page and its recorded parts; a damaged line names none."""
    try:
        pfn, *parts = line.split()
        pairs = [part.split(b"-") for part in parts]
        return int(pfn, 16), tuple(range(int(start, 16), int(stop, 16)) for start, stop in pairs)
    except ValueError:
        return -1, ()
