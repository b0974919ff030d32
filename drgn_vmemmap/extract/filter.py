# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What may be written of what was recorded: nothing of a user's.

Memory that the vmemmap or its page tables claim may belong to somebody else on a kernel that is
broken. Each recorded frame is judged by its own struct page, and by its content: a page table has
entries, and vmemmap has struct pages. What is neither is withheld, word by word.
"""

from __future__ import annotations

import contextlib
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.ownership import FrameOwners, Owner, is_struct_page
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, is_of_kernel
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_WORD = 8

# Owners of frames that may hold vmemmap or page tables, if their content is such.
_KERNELS = (Owner.KERNEL, Owner.UNKNOWN)


class Withheld(NamedTuple):
    """Memory that was recorded and is not written."""

    frame: int
    """PFN."""
    size: int
    """In bytes."""
    what: str
    """What the frame should have been."""
    owner: Owner
    """Whose it is; the kernel's, if it is its content that is something else."""

    def __str__(self) -> str:
        whose = (
            f"it holds no {self.what}"
            if self.owner is Owner.KERNEL
            else f"it is {self.owner.value}"
        )
        return f"{self.size} bytes of frame {self.frame:#x}, claimed as {self.what}: {whose}"


class Filtered(NamedTuple):
    """What is left of a recording."""

    reads: Mapping[tuple[int, int], bytes]
    """By physical address and size in bytes."""
    withheld: list[Withheld]


class Filter:
    """Judges the frames of a recording."""

    def __init__(
        self,
        snapshot: Snapshot,
        owners: FrameOwners,
        tables: Collection[int],
        vmemmap: Mapping[int, int],
    ) -> None:
        """
        :param snapshot: Of the memory that was recorded, not of the recording.
        :param tables: PFNs of the frames that were read as page tables.
        :param vmemmap: PFNs of the frames that back the vmemmap, or that a zone keeps as tails; of
            each, how many of its bytes are before the first struct page that begins in it.
        """
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._owners = owners
        self._tables, self._vmemmap = frozenset(tables), vmemmap

    def apply(self, pieces: Mapping[int, bytes]) -> Filtered:
        """
        :param pieces: Recorded memory by its physical address.
        """
        by_frame: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for address, data in pieces.items():
            for start, part in _by_page(address, data):
                by_frame[start >> PAGE_SHIFT].append((start, part))
        reads: dict[tuple[int, int], bytes] = {}
        withheld = []
        for frame, parts in by_frame.items():
            kept = parts
            owner, what = self._owners.owner(frame), self._what(frame)
            if not self._may_be_written(frame, owner, parts):
                kept = [word for start, part in parts for word in self._words(start, part, owner)]
                missing = sum(len(part) for _, part in parts) - sum(len(part) for _, part in kept)
                if missing:
                    withheld.append(Withheld(frame, missing, what, owner))
            reads.update({(start, len(part)): part for start, part in kept})
        return Filtered(reads, withheld)

    def _what(self, frame: int) -> str:
        if frame in self._tables:
            return "page table"
        return "vmemmap" if frame in self._vmemmap else "data of the kernel"

    def _may_be_written(self, frame: int, owner: Owner, parts: list[tuple[int, bytes]]) -> bool:
        """Whether a frame is what it was read as, by its struct page and by most of its content."""
        if frame in self._tables:
            return owner in _KERNELS and self._is_table(parts)
        if frame in self._vmemmap:
            return owner in _KERNELS and self._is_vmemmap(frame, parts)
        return owner in (*_KERNELS, Owner.SLAB, Owner.TAIL)

    def _is_table(self, parts: list[tuple[int, bytes]]) -> bool:
        words = (int.from_bytes(data, "little") for data in self._elements(parts, _WORD))
        entries = [entry for entry in words if entry]
        return 2 * sum(map(is_of_kernel, entries)) >= len(entries)

    def _is_vmemmap(self, frame: int, parts: list[tuple[int, bytes]]) -> bool:
        size = self._kernel.page.size
        pages = [page for page in self._elements(parts, size, self._vmemmap[frame]) if any(page)]
        return 2 * sum(is_struct_page(self._kernel, page) for page in pages) >= len(pages)

    def _elements(
        self, parts: list[tuple[int, bytes]], size: int, before: int = 0
    ) -> Iterator[bytes]:
        """
        The elements of one size that were read, if only in part.

        :param before: How many bytes of the frame are before the first one that begins in it.
        """
        first, count = (parts[0][0] & -PAGE_SIZE) + before, (PAGE_SIZE - before) // size
        numbers = {
            number
            for start, part in parts
            for number in range((start - first) // size, -(-(start + len(part) - first) // size))
            if 0 <= number < count
        }
        for number in sorted(numbers):
            with contextlib.suppress(MissingMemory):
                yield self._snapshot.memory.read(first + number * size, size)

    def _words(self, start: int, part: bytes, owner: Owner) -> Iterator[tuple[int, bytes]]:
        """The words of a frame that are what they should be, whatever the others are."""
        frame = start >> PAGE_SHIFT
        for address in range(start & -_WORD, start + len(part), _WORD):
            first, last = max(start, address), min(start + len(part), address + _WORD)
            piece = part[first - start : last - start]
            if len(piece) < _WORD:
                if not any(piece):
                    yield first, piece
                continue
            (word,) = struct.unpack("<Q", piece)
            if frame in self._tables:
                right = is_of_kernel(word)
            elif frame in self._vmemmap:
                right = not word or self._is_word_of_tail(word)
            else:
                right = False
            if right:
                yield first, piece

    def _is_word_of_tail(self, word: int) -> bool:
        """Whether a word is the mark of a tail, and nothing else."""
        geometry = self._snapshot.geometry
        if self._kernel.tails_hold_mask:
            return word in self._masks()
        return bool(word & 1) and geometry.pfn_of(word - 1) is not None

    def _masks(self) -> frozenset[int]:
        return frozenset(self._kernel.tail_info(0, order) for order in range(32))


def _by_page(address: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of some bytes by page, with their addresses."""
    position = 0
    while position < len(data):
        start = address + position
        size = min(PAGE_SIZE - start % PAGE_SIZE, len(data) - position)
        yield start, data[position : position + size]
        position += size
