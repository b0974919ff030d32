# SPDX-License-Identifier: LGPL-2.1-or-later

"""Physical memory, behind one small interface."""

from __future__ import annotations

from typing import Protocol

import drgn


class MissingMemory(Exception):
    """
    Memory that the analysis needs and that the target cannot give.

    A dump can be filtered or truncated, and a guest can go away in mid-look.
    """

    def __init__(self, what: str) -> None:
        """
        :param what: What is missing, such as ``physical address 0x1000``.
        """
        super().__init__(f"{what} is not in the dump")


class Memory(Protocol):
    """Something that can read physical memory."""

    def read(self, address: int, size: int) -> bytes:
        """
        :param address: Physical address in bytes.
        :param size: Bytes to read.
        :return: Exactly *size* bytes.
        :raises MissingMemory: if any of them cannot be had.
        """
        ...


class ProgramMemory:
    """The physical memory of a drgn program: a dump, a live kernel, a guest, or an image."""

    def __init__(self, prog: drgn.Program) -> None:
        self._read = prog.read

    def read(self, address: int, size: int) -> bytes:
        try:
            data: bytes = self._read(address, size, True)
            return data
        except Exception as error:
            # A hole is a FaultError; damaged files make drgn's and libkdumpfile's
            # readers fail with OSError, ValueError and plain Exception too.
            raise MissingMemory(f"physical address {address:#x}") from error
