# SPDX-License-Identifier: LGPL-2.1-or-later

"""Writing vmcores: ELF files and kdump-compressed files, with pieces of memory to the byte."""

from __future__ import annotations

import importlib.util
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.target.recorded_pages import marks_of

Pieces = Mapping[int, bytes]
"""Memory by its physical address; pieces neither touch nor overlap."""

# The ELF header counts program headers in 16 bits; one is the note's.
_SEGMENTS_LIMIT = 0xFFFF - 1

# Where struct disk_dump_header and struct kdump_sub_header have these members.
_NODE_NAME, _NODE_NAME_SIZE = 77, 65
_BITMAP_BLOCKS = 436
_PHYS_BASE = 4096
_ERASE_INFO = 4096 + 64


def joined(reads: Mapping[tuple[int, int], bytes]) -> dict[int, bytes]:
    """
    Pieces that touch or overlap, put together.

    :param reads: By physical address and size in bytes. Where they overlap, they agree.
    """
    pieces: dict[int, bytes] = {}
    start, piece = 0, bytearray()
    for (address, size), data in sorted(reads.items()):
        if piece and address > start + len(piece):
            pieces[start] = bytes(piece)
            piece = bytearray()
        if not piece:
            start = address
        piece[address - start : address - start + size] = data
    if piece:
        pieces[start] = bytes(piece)
    return pieces


def write_elf(path: Path, vmcoreinfo: bytes, pieces: Pieces) -> None:
    """
    Write an ELF file.

    :raises CannotAnalyse: if there are too many pieces for the format.
    """
    try:
        from kdumpling import KdumpBuilder
    except ImportError:
        raise _without_kdumpling() from None
    if len(pieces) > _SEGMENTS_LIMIT:
        raise CannotAnalyse(f"{len(pieces)} pieces are too many for an ELF file: use --compress")
    builder = KdumpBuilder(arch="x86_64")
    builder.set_vmcoreinfo(vmcoreinfo)
    for address, data in pieces.items():
        builder.add_memory_segment(address, data, virt_addr=0)
    builder.write(str(path))


def write_kdump(path: Path, vmcoreinfo: bytes, pieces: Pieces, release: str, host: str) -> None:
    """
    Write a kdump-compressed file.

    The format has only pages: what is not recorded of a page is zero, and marked.

    :param release: The kernel's, for the header.
    :param host: The host's name, for the header.
    """
    try:
        from kdumpling.builder import MemorySegment
        from kdumpling.elf import ARCHITECTURES
        from kdumpling.kdump_compressed import (
            CompressionMethod,
            DumpLevel,
            write_kdump_compressed,
        )
    except ImportError:
        raise _without_kdumpling() from None
    pages = list(_in_pages(pieces))
    # Pages of zeros have been read, too, and must not be left out.
    write_kdump_compressed(
        str(path),
        [MemorySegment(address, data) for address, data in pages],
        vmcoreinfo,
        _note(vmcoreinfo),
        ARCHITECTURES["x86_64"],
        CompressionMethod.COMPRESS_ZLIB,
        DumpLevel.DL_NONE,
        compression_level=9,
        osrelease=release,
    )
    last, data = pages[-1]
    _correct_header(path, vmcoreinfo, last + len(data), host)
    _append_marks(path, marks_of(pieces))


def check_writer() -> None:
    """
    Check that vmcores can be written.

    :raises CannotAnalyse: if the library that writes them is not installed.
    """
    if importlib.util.find_spec("kdumpling") is None:
        raise _without_kdumpling()


def _without_kdumpling() -> CannotAnalyse:
    return CannotAnalyse("extract needs kdumpling 0.4.0: pip install kdumpling==0.4.0")


def _in_pages(pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    """Consecutive pages that hold the pieces, with zeros for what was not recorded."""
    start, pages = 0, bytearray()
    for address, data in pieces.items():
        first = address // PAGE_SIZE * PAGE_SIZE
        end = -(-(address + len(data)) // PAGE_SIZE) * PAGE_SIZE
        if pages and first > start + len(pages):
            yield start, bytes(pages)
            pages = bytearray()
        if not pages:
            start = first
        pages.extend(bytes(max(0, end - start - len(pages))))
        pages[address - start : address - start + len(data)] = data
    if pages:
        yield start, bytes(pages)


def _correct_header(path: Path, vmcoreinfo: bytes, end: int, host: str) -> None:
    """
    Set the header fields that kdumpling 0.4.0 gets wrong.

    ``bitmap_blocks`` counts both bitmaps, and ``phys_base`` is the kernel's;
    makedumpfile writes them so, and libkdumpfile relies on it. ``nodename`` is the host's.

    :param end: Physical address of the first byte after the last page.
    """
    pages = -(-end // PAGE_SIZE)
    bitmap_blocks = -(-pages // (8 * PAGE_SIZE))
    phys_base = re.search(rb"^NUMBER\(phys_base\)=(-?\d+)$", vmcoreinfo, re.MULTILINE)
    node_name = host.encode()[: _NODE_NAME_SIZE - 1].ljust(_NODE_NAME_SIZE, b"\0")
    with open(path, "r+b") as file:
        file.seek(_NODE_NAME)
        file.write(node_name)
        file.seek(_BITMAP_BLOCKS)
        file.write(struct.pack("<I", 2 * bitmap_blocks))
        file.seek(_PHYS_BASE)
        file.write(struct.pack("<q", int(phys_base[1]) if phys_base else 0))


def _append_marks(path: Path, marks: bytes) -> None:
    """Append the list of the pages that are recorded in part, as makedumpfile's of erased data."""
    with open(path, "r+b") as file:
        start = file.seek(0, 2)
        file.write(marks)
        file.seek(_ERASE_INFO)
        file.write(struct.pack("<qQ", start, len(marks)))


def _note(vmcoreinfo: bytes) -> bytes:
    """VMCOREINFO as an ELF note: name and description each padded to 4 bytes."""
    name = b"VMCOREINFO\0"
    header = struct.pack("<3I", len(name), len(vmcoreinfo), 0)
    return header + name.ljust(12, b"\0") + vmcoreinfo.ljust(-(-len(vmcoreinfo) // 4) * 4, b"\0")
