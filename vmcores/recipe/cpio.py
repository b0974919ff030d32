# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes cpio archives of the "newc" kind, the one that the kernel unpacks as its initramfs."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class Archive:
    """
    An archive being written; everything in it belongs to root.

    Directories above a member are made on the way. Call close() at the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._names: set[str] = set()

    def directory(self, name: str) -> None:
        """Add an empty directory, unless it is there."""
        if name and name not in self._names:
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def text(self, name: str, text: str) -> None:
        """Add a text file (scripts: everything is executable here)."""
        self.data(name, text.encode())

    def data(self, name: str, data: bytes) -> None:
        """Add a file of these bytes."""
        self._add(name, stat.S_IFREG | 0o755, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def copy(self, name: str, source: Path) -> None:
        """Add a file of this machine, or what a symbolic link leads to."""
        self.data(name, source.read_bytes())

    def close(self) -> None:
        """Write the end of the archive."""
        self._add("TRAILER!!!", 0, b"")

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self.directory(os.path.dirname(name))
        self._names.add(name)
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device (2), its own (2), name's size, sum
        fields = (len(self._names), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._file.write(_padded(header + encoded) + _padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
