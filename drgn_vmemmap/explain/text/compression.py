# SPDX-License-Identifier: LGPL-2.1-or-later

"""Compressed texts: unpacked as far as they go, and no further than a limit."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import re
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from drgn_vmemmap.explain.text.limits import Allowance
from drgn_vmemmap.explain.text.not_text import NotText, PackedText

_PIECE = 1 << 16

# Where a file is damaged, all is lost that is unpacked together with the damage.
_PACKED_PIECE = 64

_NESTING_LIMIT = 4


class _InPieces(io.BytesIO):
    """A compressed file that is read a little at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(_PACKED_PIECE if size is None or size < 0 else min(size, _PACKED_PIECE))


class ZlibFile:
    """Reads zlib streams, one after another, piece by piece."""

    _WINDOW_BITS = zlib.MAX_WBITS

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file
        self._stream = zlib.decompressobj(self._WINDOW_BITS)

    def read1(self, size: int) -> bytes:
        """
        :raises zlib.error: if a stream is damaged.
        """
        while not self._stream.eof or self._begin_next():
            packed = self._stream.unconsumed_tail or self._file.read(_PIECE)
            part = self._stream.decompress(packed, size)
            if part:
                return part
            if not packed and not self._stream.eof:
                raise zlib.error("the stream ends early")
        return b""

    def _begin_next(self) -> bool:
        """Begin the stream after the one that has ended, if more than padding follows."""
        packed = self._stream.unused_data or self._file.read(_PIECE)
        while packed and not packed.strip(b"\0\r\n"):
            packed = self._file.read(_PIECE)
        if packed:
            self._file.seek(-len(packed.lstrip(b"\0")), io.SEEK_CUR)
            self._stream = zlib.decompressobj(self._WINDOW_BITS)
        return bool(packed)


class DeflateFile(ZlibFile):
    """The same without the stream's header."""

    _WINDOW_BITS = -zlib.MAX_WBITS


# Python's own module from 3.14 on, and the same for older ones, which need not be installed.
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")


def _zstd() -> ModuleType | None:
    """The module that unpacks zstd, if there is one."""
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


class ZstdFile:
    """Reads a file that is compressed with zstd piece by piece."""

    def __init__(self, file: io.BytesIO) -> None:
        """
        :raises PackedText: if there is no module for it.
        """
        module = _zstd()
        if module is None:
            raise PackedText(
                "compressed with zstd: unpack it first, with "
                "zstd -dc FILE | drgn-vmemmap explain --stdin"
            )
        self._file = module.open(file)
        self._error: type[Exception] = module.ZstdError

    def read1(self, size: int) -> bytes:
        """
        :raises ValueError: if the file is damaged.
        """
        try:
            data: bytes = self._file.read1(size)
        except self._error as error:
            raise ValueError(str(error)) from None
        return data


_OPEN: dict[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": ZstdFile,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    # The format of the old lzma program.
    b"\x5d\0\0": lzma.open,
    b"\x78\x01": ZlibFile,
    b"\x78\x9c": ZlibFile,
    b"\x78\xda": ZlibFile,
    # In the QR code of the kernel's panic screen: WINDOW_BITS and COMPR_LEVEL of drm_panic.c.
    b"\x48\x89": ZlibFile,
}
"""Functions that open compressed files, by the first bytes of these."""


def _opener(data: bytes) -> Callable[[io.BytesIO], Any] | None:
    """The function that opens a file, if it is compressed."""
    known = next((open_ for magic, open_ in _OPEN.items() if data.startswith(magic)), None)
    return DeflateFile if known is None and _is_deflated(data) else known


_SAMPLE = 1 << 12
_ASCII_SAMPLE = 64
_NO_ASCII_TEXT = re.compile(rb"[^\t\n\r\x1b -~]")


def _is_deflated(data: bytes) -> bool:
    """
    Whether a file is compressed without a header, and ASCII begins what it unpacks to.

    So are records in pstore (``pstore_compress()`` of ``fs/pstore/platform.c``) that a kernel which
    cannot unpack them shows as files whose names end in ``.enc.z``.
    """
    if data[:_SAMPLE].isascii():
        return False
    try:
        start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[:_SAMPLE], _ASCII_SAMPLE)
    except zlib.error:
        return False
    return len(start) == _ASCII_SAMPLE and not _NO_ASCII_TEXT.search(start)


def unpacked(data: bytes, allowance: Allowance) -> tuple[bytes, str | None]:
    """
    Undo compression, repeated compression too.

    :param allowance: Bytes that are not compressed need none.
    :return: The bytes, and why some are missing, in words; ``None`` if none are.
    :raises NotText: if they are too damaged, or compressed too often.
    """
    problem = None
    for _ in range(_NESTING_LIMIT):
        opener = _opener(data)
        if opener is None:
            return data, problem
        data, damage = _read(opener(_InPieces(data)), allowance.left)
        data, beyond = allowance.take(data)
        problem = damage or beyond or problem
    raise NotText("this is no text but a file compressed many times over")


def _read(file: Any, limit: int) -> tuple[bytes, str | None]:
    """Read a compressed file as far as it goes, and not much further than a limit."""
    data = bytearray()
    try:
        while len(data) <= limit:
            # Unlike read(), this gives what comes before damage.
            part = file.read1(_PIECE)
            if not part:
                return bytes(data), None
            data += part
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        if not data:
            raise NotText("this is no text but a compressed file that is damaged") from None
        return bytes(data), "the compressed text is damaged or cut off: the rest of it is lost"
    return bytes(data), None
