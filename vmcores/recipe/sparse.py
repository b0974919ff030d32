# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copying memory so that what is all zero becomes a hole: a guest is mostly that."""

from __future__ import annotations

from typing import BinaryIO

#: Bytes of one hole, or of one write. A multiple of every file system's block size.
BLOCK = 16384
_ZERO = bytes(BLOCK)


def copy(source: BinaryIO, target: BinaryIO) -> int:
    """
    Copy a stream from where it stands to its end into a new file, leaving out blocks of zeros.

    :returns: bytes, holes included
    """
    size = 0
    while block := source.read(BLOCK):
        if block == _ZERO:
            target.seek(BLOCK, 1)
        else:
            target.write(block)
        size += len(block)
    target.truncate(size)
    return size
