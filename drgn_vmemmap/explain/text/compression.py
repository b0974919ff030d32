# SPDX-License-Identifier: LGPL-2.1-or-later

"""Compressed texts: unpacked as far as they go, and no further than a limit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any

TEXT_LIMIT = 1 << 27
"""The most bytes of text that are read; a longer text is said to be cut."""

_PIECE = 1 << 16

_NESTING_LIMIT = 4


class NotText(ValueError):
    """The input is no text; the message says what it is instead, in one line."""


class ZlibFile:
    """Reads a zlib stream piece by piece."""

    def __init__(self, file: io.BytesIO) -> None:
        self._data = file.read()
        self._stream = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """
        :raises zlib.error: if the stream is damaged.
        """
        part = self._stream.decompress(self._data, size)
        self._data = self._stream.unconsumed_tail
        if not part and not self._stream.eof:
            raise zlib.error("the stream ends early")
        return part


_OPEN: dict[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    # As the lzma program of old compresses.
    b"\x5d\0\0": lzma.open,
    # As the kernel compresses records in pstore.
    b"\x78\x01": ZlibFile,
    b"\x78\x9c": ZlibFile,
    b"\x78\xda": ZlibFile,
}
"""Functions that open compressed files, by the first bytes of these."""


def unpacked(data: bytes) -> tuple[bytes, str | None]:
    """
    Undo compression, repeated compression too.

    :return: The bytes, and why they are not all, in words.
    :raises NotText: if they are too damaged, or compressed too often.
    """
    problem = None
    for _ in range(_NESTING_LIMIT):
        opener = next((open_ for magic, open_ in _OPEN.items() if data.startswith(magic)), None)
        if opener is None:
            break
        data, problem = _read(opener(io.BytesIO(data)))
    else:
        raise NotText("this is no text but a file compressed many times over")
    if len(data) > TEXT_LIMIT:
        return data[:TEXT_LIMIT], f"only the first {TEXT_LIMIT >> 20} MiB of the text were read"
    return data, problem


def _read(file: Any) -> tuple[bytes, str | None]:
    """Read a compressed file as far as it goes."""
    data = bytearray()
    try:
        while len(data) <= TEXT_LIMIT:
            part = file.read(_PIECE)
            if not part:
                return bytes(data), None
            data += part
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        if not data:
            raise NotText("this is no text but a compressed file that is damaged") from None
        return bytes(data), "the compressed text is damaged or cut off: the rest of it is lost"
    return bytes(data), None
