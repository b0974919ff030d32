# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A guest whose memory is a sparse file, for guests with far more memory than this machine has.

What the guest never touches is a hole in the file, and becomes one in the vmcore, which is written
from the file: QEMU's own dump would read all that nothingness.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vmcores.recipe import elf, sparse

#: Of the guest's physical addresses. What does not fit below LOW goes on at HIGH; between them are
#: the devices.
LOW, HIGH = 3 << 30, 4 << 30


def arguments(path: Path, size: int) -> tuple[str, ...]:
    """Return QEMU's arguments that put ``size`` bytes of memory into a new file."""
    backend = f"memory-backend-file,id=memory,share=on,mem-path={path},size={size}"
    machine = f"pc,memory-backend=memory,max-ram-below-4g={LOW}"
    return ("-object", backend, "-machine", machine)


def write_vmcore(output: Path, memory: Path, notes: bytes) -> None:
    """
    Write a vmcore of a guest that stands still.

    :param output: the vmcore
    :param memory: the guest's memory
    :param notes: what QEMU says of the guest's processors and kernel, as ELF notes
    """
    size = memory.stat().st_size
    ranges = [(0, min(size, LOW)), (HIGH, size - LOW)]
    with open(memory, "rb", buffering=0) as source, open(output, "wb") as target:
        there = [(address, length) for address, length in ranges if length > 0]
        start = elf.write_headers(target, notes, there, align=sparse.BLOCK)
        for begin, end in _extents(source):
            source.seek(begin)
            target.seek(start + begin)
            sparse.copy(source, target, end - begin)
        target.truncate(start + size)


def _extents(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield where each stretch of a file that is no hole begins and ends."""
    end = 0
    while True:
        try:
            begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the file's end
                return
            raise
        end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
        yield begin, end
