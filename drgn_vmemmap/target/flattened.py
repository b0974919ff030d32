# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Flattened dumps: streams of pieces, each with its place in the dump and its size.

``makedumpfile -F`` writes them to pipes. drgn reads them as they are.
"""

from __future__ import annotations

import struct
from io import BytesIO
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
    file.seek(0)
    is_flattened = file.read(len(FLATTENED)) == FLATTENED
    file.seek(_FIRST_PIECE if is_flattened else 0)
    return file.read(size)


def rearranged(file: BinaryIO, size: int) -> BinaryIO:
    """
    The beginning of a dump, which may be flattened: pieces may be in any order, and written twice.

    :param size: How many bytes of the dump are needed, at most.
    :raises OSError: if a piece ends where no file can.
    """
    file.seek(0)
    if file.read(len(FLATTENED)) != FLATTENED:
        return file
    beginning = bytearray()
    file.seek(_HEADER_SIZE)
    while len(header := file.read(_PIECE.size)) == _PIECE.size:
        offset, length = _PIECE.unpack(header)
        if offset < 0 or length <= 0:
            break
        end = file.tell() + length
        if offset < size:
            piece = file.read(min(length, size - offset))
            beginning.extend(bytes(max(0, offset - len(beginning))))
            beginning[offset : offset + len(piece)] = piece
        file.seek(end)
    return BytesIO(beginning)
