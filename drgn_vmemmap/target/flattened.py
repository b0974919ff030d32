# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Flattened dumps: streams of pieces, each with its place in the dump and its size.

``makedumpfile -F`` writes them to pipes. drgn reads them as they are.
"""

from __future__ import annotations

import struct
from io import SEEK_END, BytesIO
from typing import BinaryIO

FLATTENED = b"makedumpfile\0"
"""How such a file begins."""

_HEADER_SIZE = 4096
_PIECE = struct.Struct(">qq")
_FIRST_PIECE = _HEADER_SIZE + _PIECE.size


def first_bytes(file: BinaryIO, size: int) -> bytes:
    """
    The first bytes of a dump, flattened or not, as its first piece has them.

    :param size: How many, at most.
    """
    file.seek(_FIRST_PIECE if is_flattened(file) else 0)
    return file.read(size)


def rearranged(file: BinaryIO, size: int) -> BinaryIO:
    """
    The beginning of a dump, which may be flattened.

    :param size: How many bytes of the dump are needed, at most.
    :raises OSError: if a piece ends where no file can.
    """
    return BytesIO(part_of(file, 0, size)) if is_flattened(file) else file


def is_flattened(file: BinaryIO) -> bool:
    """Whether a dump is flattened."""
    file.seek(0)
    return file.read(len(FLATTENED)) == FLATTENED


def part_of(file: BinaryIO, start: int, size: int) -> bytes:
    """
    A part of a dump, which may be flattened: pieces may be in any order, and written twice.

    :param start: Where it begins in the dump.
    :param size: How many bytes, at most.
    :raises OSError: if a piece ends where no file can.
    """
    if not is_flattened(file):
        file.seek(min(start, file.seek(0, SEEK_END)))
        return file.read(size)
    part, stop = bytearray(), start + size
    file.seek(_HEADER_SIZE)
    while len(header := file.read(_PIECE.size)) == _PIECE.size:
        offset, length = _PIECE.unpack(header)
        if offset < 0 or length <= 0:
            break
        at, end = file.tell(), file.tell() + length
        first, last = max(offset, start), min(offset + length, stop)
        if first < last:
            file.seek(at + first - offset)
            piece = file.read(last - first)
            part.extend(bytes(max(0, first - start - len(part))))
            part[first - start : first - start + len(piece)] = piece
        file.seek(end)
    return bytes(part)
