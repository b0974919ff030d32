# SPDX-License-Identifier: LGPL-2.1-or-later

"""Physical memory, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import drgn

# Up to this many bytes apart, two pieces are neighbours that one read can fetch.
_NEIGHBOURS = 4096


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


class Memory(ABC):
    """Something that can read physical memory."""

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """
        :param address: Physical address in bytes.
        :param size: Bytes to read.
        :return: Exactly *size* bytes.
        :raises MissingMemory: if any of them cannot be had.
        """

    def read_each(self, addresses: Sequence[int], size: int) -> list[bytes | None]:
        """
        Read pieces of one size.

        :param addresses: Their physical addresses in bytes.
        :param size: Bytes of each.
        :return: As many pieces, ``None`` for each that cannot be had.
        """
        return [self._read_or_none(address, size) for address in addresses]

    def _read_or_none(self, address: int, size: int) -> bytes | None:
        try:
            return self.read(address, size)
        except MissingMemory:
            return None


class ProgramMemory(Memory):
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

    def read_each(self, addresses: Sequence[int], size: int) -> list[bytes | None]:
        # One read costs more than the bytes between neighbours.
        if len(addresses) > 1:
            first, last = min(addresses), max(addresses)
            if last - first < len(addresses) * _NEIGHBOURS:
                block = self._read_or_none(first, last - first + size)
                if block is not None:
                    starts = [address - first for address in addresses]
                    return [block[start : start + size] for start in starts]
        return super().read_each(addresses, size)
