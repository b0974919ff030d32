# SPDX-License-Identifier: LGPL-2.1-or-later

"""Physical memory, and one small interface to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import drgn

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.target.partial_pages import guarded

# Up to this many bytes apart, two pieces are neighbours that one read can fetch.
_NEIGHBOURS = 4096


class StridedRead(NamedTuple):
    """Pieces of memory of one size, one by one or column by column."""

    words: memoryview[int]
    """All of them, and what lies between: words of 8 bytes."""
    first: int
    """Where in the words the first piece begins."""
    stride: int
    """Words from the beginning of one piece to that of the next; it may be negative."""
    size: int
    """Words of a piece."""

    def columns(self, words: Iterable[int]) -> Iterator[memoryview[int]]:
        """
        :param words: Indices of words in a piece.
        :return: For each index, that word of each piece.
        """
        all_words, first, stride = self.words, self.first, self.stride
        return (all_words[first + word :: stride] for word in words)

    def each(self) -> list[bytes | None]:
        """As :meth:`Memory.read_each()` has them."""
        starts = range(len(self.words))[self.first :: self.stride]
        return [self.words[start : start + self.size].tobytes() for start in starts]


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

    def read_together(self, addresses: list[int], size: int) -> StridedRead | None:
        """
        Read pieces of one size at once.

        :param addresses: Their physical addresses in bytes, multiples of 8.
        :param size: Bytes of each, a multiple of 8.
        :return: ``None`` unless one read can fetch them all.
        """
        return None

    def _read_or_none(self, address: int, size: int) -> bytes | None:
        try:
            return self.read(address, size)
        except MissingMemory:
            return None


class ProgramMemory(Memory):
    """The physical memory of a drgn program: a dump, a live kernel, a guest, or an image."""

    def __init__(self, prog: drgn.Program) -> None:
        self._read = guarded(prog)

    def read(self, address: int, size: int) -> bytes:
        try:
            data: bytes = self._read(address, size, True)
            return data
        except Exception as error:
            # A hole is a FaultError; damaged files make drgn's and libkdumpfile's
            # readers fail with OSError, ValueError and plain Exception too.
            raise MissingMemory(f"physical address {address:#x}") from error

    def read_each(self, addresses: Sequence[int], size: int) -> list[bytes | None]:
        read = self._read
        try:
            return [read(address, size, True) for address in addresses]
        except Exception:
            return super().read_each(addresses, size)

    def read_together(self, addresses: list[int], size: int) -> StridedRead | None:
        number = len(addresses)
        if number < 2:
            return None
        start, stride = addresses[0], addresses[1] - addresses[0]
        even = abs(stride) >= size and addresses == [*range(start, start + number * stride, stride)]
        ends = (start, addresses[-1]) if even else addresses
        lowest, highest = min(ends), max(ends)
        # One read costs more than the bytes between neighbours.
        if highest - lowest >= number * _NEIGHBOURS:
            return None
        block = self._read_or_none(lowest, highest - lowest + size)
        if block is None:
            return None
        first = start - lowest
        if not even:
            starts = [address - lowest for address in addresses]
            block = b"".join([block[start : start + size] for start in starts])
            first, stride = 0, size
        return StridedRead(memoryview(block).cast("Q"), first // 8, stride // 8, size // 8)
