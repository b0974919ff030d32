# SPDX-License-Identifier: LGPL-2.1-or-later

"""Vmcore files whose headers are damaged."""

from __future__ import annotations

import os
import shutil
import struct
from functools import cached_property
from pathlib import Path

_CUT = struct.Struct("<I")
"""How many bytes the file lacks at its end; more than it has mean none."""


class DamagedFile:
    """A vmcore file, some parts of which are taken from an input."""

    def __init__(self, path: Path, sound: Path, parts: tuple[range, ...]) -> None:
        """
        :param path: Where to write it.
        :param sound: The file as it was.
        :param parts: Bytes of the file that are damaged.
        """
        self.path = path
        self._sound = sound
        self._parts = parts

    @cached_property
    def seed(self) -> bytes:
        """The input that leaves the file as it was."""
        data = self._sound.read_bytes()
        return _CUT.pack(0) + b"".join(data[part.start : part.stop] for part in self._parts)

    def write(self, data: bytes) -> None:
        """
        Write the file.

        :param data: The parts one after the other; those at its end may be missing.
        """
        data += self.seed[len(data) :]
        (cut,) = _CUT.unpack_from(data)
        # A new file each time: libkdumpfile may have mapped the last one.
        self.path.unlink(missing_ok=True)
        shutil.copyfile(self._sound, self.path)
        with open(self.path, "r+b") as file:
            position = _CUT.size
            for part in self._parts:
                file.seek(part.start)
                file.write(data[position : position + len(part)])
                position += len(part)
            size = os.fstat(file.fileno()).st_size
            if cut <= size:
                file.truncate(size - cut)
