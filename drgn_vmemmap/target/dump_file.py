# SPDX-License-Identifier: LGPL-2.1-or-later

"""Why a file cannot be analysed, or only in part, as its first bytes show."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from typing import BinaryIO

from drgn_vmemmap.target.elf_file import CORE, ELF, TYPE, end_of_elf
from drgn_vmemmap.target.file_errors import FILE_ERRORS
from drgn_vmemmap.target.flattened import FLATTENED, first_bytes
from drgn_vmemmap.target.foreign_files import START_SIZE, what_it_is
from drgn_vmemmap.target.kdump_file import (
    HEADER_SIZE,
    KDUMP,
    Kdump,
    block_size,
    end_of,
    layout_of,
)
from drgn_vmemmap.target.page_reader import PAGE_SIZE

_ANY_ELF = b"\x7fELF"

# status of struct disk_dump_header, e_flags of an ELF header, and the flags that makedumpfile
# sets in them: DUMP_DH_COMPRESSED_INCOMPLETE and DUMP_ELF_INCOMPLETE.
_STATUS, _KDUMP_INCOMPLETE = 424, 0x8
_ELF_FLAGS, _ELF_INCOMPLETE = 48, 0x1


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
            if start.startswith(KDUMP):
                return _why_not_a_kdump(file)
            if start.startswith(FLATTENED):
                return _why_not_of_x86_64(block_size(first_bytes(file, HEADER_SIZE)))
    except OSError:
        return None
    return what_it_is(start)


def is_kdump(path: str) -> bool:
    """Whether this is a regular file of the format that libkdumpfile reads."""
    # What is read of a pipe is gone.
    return os.path.isfile(path) and _start_of(path, len(KDUMP)) == KDUMP


def _start_of(path: str, size: int) -> bytes:
    """The first bytes of a file, at most *size*; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def is_block_device(path: str) -> bool:
    """Whether this is a disk, or a part of one: kdump can write to it without a file system."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def is_dump(path: str) -> bool:
    """Whether a file begins as dumps do: as a kdump-compressed one, or as an ELF core file."""
    with open(path, "rb") as file:
        start = file.read(TYPE.stop)
    return start.startswith(KDUMP) or (start.startswith(_ANY_ELF) and start[TYPE] == CORE)


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
            if start.startswith(KDUMP):
                end = end_of(file)
            elif start.startswith(ELF):
                end = end_of_elf(file)
            else:
                end = 0
            status = os.fstat(file.fileno())
            # The size of a device is not known.
            return max(0, end - status.st_size) if stat.S_ISREG(status.st_mode) else 0
    except FILE_ERRORS:
        return 0


def is_marked_incomplete(path: str) -> bool:
    """Whether makedumpfile could not write all of a dump, as it says in the dump's header."""
    header = _start_of(path, _STATUS + 4)
    if header.startswith(KDUMP) and len(header) == _STATUS + 4:
        return bool(header[_STATUS] & _KDUMP_INCOMPLETE)
    has_flags = header.startswith(ELF) and len(header) > _ELF_FLAGS
    return has_flags and bool(header[_ELF_FLAGS] & _ELF_INCOMPLETE)


def is_flattened(path: str) -> bool:
    """Whether this is a stream of makedumpfile, whose pieces are not where they belong."""
    return _start_of(path, len(FLATTENED)) == FLATTENED


def is_part(path: str) -> bool:
    """Whether a kdump-compressed file is one of several that makedumpfile split a dump into."""
    try:
        with open(path, "rb") as file:
            return file.read(len(KDUMP)) == KDUMP and layout_of(file).is_split
    except FILE_ERRORS:
        return False


def _why_not_a_kdump(file: BinaryIO) -> str | None:
    """
    Why libkdumpfile must not open a file, as a predicate; ``None`` if it may.

    It maps the file. A part that begins in the file and ends beyond its last page raises SIGBUS,
    which ends the process.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        kdump: Kdump | None = layout_of(file)
    except struct.error:
        kdump = None
    if kdump is None or size < kdump.descriptors:
        return "is cut off before its first page: copy it again"
    reason = _why_not_of_x86_64(kdump.block_size)
    if reason is not None:
        return reason
    mapped = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    if any(start < mapped < start + length for start, length in kdump.parts):
        return "is cut off within its notes: copy it again"
    return None


def _why_not_of_x86_64(page_size: int | None) -> str | None:
    """Why a dump with pages of some size is not analysed; ``None`` if it may be."""
    if page_size in (None, PAGE_SIZE):
        return None
    return f"has pages of {page_size:,} bytes: only x86-64 can be analysed, whose pages have 4,096"
