# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copying memory so that what is all zero becomes a hole: a guest is mostly that."""

from __future__ import annotations

import sys
from typing import BinaryIO

#: Bytes of one hole, or of one write. A multiple of every file system's block size.
BLOCK = 16384
_ZERO = bytes(BLOCK)


def copy(source: BinaryIO, target: BinaryIO, size: int = sys.maxsize) -> int:
    """
    Copy from where a file stands to where another, a new one, stands; zeros become holes.

    :param size: bytes to copy; all that there are, if that is less
    :returns: bytes copied, holes included
    """
    begin = target.tell()
    left = size
    while block := source.read(min(BLOCK, left)):
        if block == _ZERO:
            target.seek(BLOCK, 1)
        else:
            target.write(block)
        left -= len(block)
    target.truncate(begin + size - left)
    return size - left
