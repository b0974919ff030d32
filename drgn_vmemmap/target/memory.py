# SPDX-License-Identifier: LGPL-2.1-or-later

"""Physical memory, and one small interface to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import drgn

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.target.recorded_pages import ProgramRead, guarded, without_gaps

# Up to this many bytes apart, two pieces are neighbours that one read can fetch.
_NEIGHBOURS = 4096


class StridedRead(NamedTuple):
    """Pieces of memory of one size, one by one or column by column."""

    block: bytes
    """All of them, and the bytes between them."""
    starts: range
    """Where in the block each begins, in bytes: multiples of 8, ascending or descending."""
    size: int
    """Bytes of a piece, a multiple of 8."""

    def columns(self, words: Iterable[int], size: int) -> Iterator[memoryview[int]]:
        """
        :param words: Indices of words in a piece.
        :param size: Bytes of a word: 4 or 8.
        :return: For each index, that word of each piece.
        """
        all_words = memoryview(self.block).cast("I" if size == 4 else "Q")
        first, stride = self.starts.start // size, self.starts.step // size
        return (all_words[first + word :: stride] for word in words)

    def part(self, positions: range) -> StridedRead:
        """Some consecutive pieces."""
        return self._replace(starts=self.starts[positions.start : positions.stop])

    def ascending(self) -> memoryview:
        """The pieces one after the other, that with the lowest start first."""
        first, last = sorted((self.starts[0], self.starts[-1]))
        if abs(self.starts.step) == self.size:
            return memoryview(self.block)[first : last + self.size]
        return memoryview(b"".join(self.each()[:: 1 if self.starts.step > 0 else -1]))

    def each(self) -> list[bytes]:
        """The pieces one by one."""
        block, size = self.block, self.size
        return [block[start : start + size] for start in self.starts]

    @classmethod
    def joined(cls, pieces: Sequence[bytes], size: int) -> StridedRead:
        """Pieces that were read one by one."""
        return cls(b"".join(pieces), range(0, size * len(pieces), size), size)


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

    def read_data(self, address: int, size: int) -> bytes:
        """
        Read what is neither a page table nor a struct page, as :meth:`read` does.

        Of that, makedumpfile excludes pages of zeros only. Where an ELF dump leaves memory out, it
        is read as zeros.
        """
        return self.read(address, size)

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

    def read_all(self, addresses: list[int], size: int) -> StridedRead | None:
        """
        Read pieces of one size, at once if one read can fetch them all.

        :param addresses: Their physical addresses in bytes, multiples of 8.
        :param size: Bytes of each, a multiple of 8.
        :return: ``None`` if one of them cannot be had.
        """
        together = self.read_together(addresses, size)
        if together is not None:
            return together
        pieces = [piece for piece in self.read_each(addresses, size) if piece is not None]
        return StridedRead.joined(pieces, size) if len(pieces) == len(addresses) else None

    def _read_or_none(self, address: int, size: int) -> bytes | None:
        try:
            return self.read(address, size)
        except MissingMemory:
            return None


class ProgramMemory(Memory):
    """The physical memory of a drgn program: a dump, a live kernel, a guest, or an image."""

    def __init__(self, prog: drgn.Program) -> None:
        self._read_data = guarded(prog)
        self._read = without_gaps(prog, self._read_data)

    def read(self, address: int, size: int) -> bytes:
        return _read(self._read, address, size)

    def read_data(self, address: int, size: int) -> bytes:
        return _read(self._read_data, address, size)

    def read_each(self, addresses: Sequence[int], size: int) -> list[bytes | None]:
        read = self._read
        try:
            return [read(address, size, True) for address in addresses]
        except Exception:
            return super().read_each(addresses, size)

    def read_together(self, addresses: list[int], size: int) -> StridedRead | None:
        number = len(addresses)
        # One read costs more than the bytes between neighbours.
        limit = number * _NEIGHBOURS
        if number < 2 or abs(addresses[-1] - addresses[0]) >= limit:
            return None
        start, stride = addresses[0], addresses[1] - addresses[0]
        even = abs(stride) >= size and addresses == [*range(start, start + number * stride, stride)]
        ends = (start, addresses[-1]) if even else addresses
        lowest, highest = min(ends), max(ends)
        if highest - lowest >= limit:
            return None
        block = self._read_or_none(lowest, highest - lowest + size)
        if block is None:
            return None
        if even:
            first = start - lowest
            return StridedRead(block, range(first, first + number * stride, stride), size)
        parts = [block[at - lowest : at - lowest + size] for at in addresses]
        return StridedRead.joined(parts, size)


def _read(read: ProgramRead, address: int, size: int) -> bytes:
    try:
        return read(address, size, True)
    except Exception as error:
        # A hole is a FaultError; damaged files make drgn's and libkdumpfile's
        # readers fail with OSError, ValueError and plain Exception too.
        raise MissingMemory(f"physical address {address:#x}") from error
