# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What of a recording may be written: no user data.

Memory that the vmemmap or its page tables claim may belong to somebody else on a kernel that is
broken. Each recorded frame is judged by its own struct page, and by its content: a page table has
entries, and vmemmap has struct pages. Of a frame that is somebody else's nothing is written; of
the others, the words that are what they should be.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Callable, NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.content import WORD, Content
from drgn_vmemmap.extract.owners import FrameOwners, Owner
from drgn_vmemmap.target.page_reader import by_page
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# Owners of frames that may hold page tables, vmemmap, and other data of the kernel's, if their
# content is such.
_OF_KERNEL = (Owner.BOOT, Owner.KERNEL, Owner.UNKNOWN)
_OF_TABLES = (*_OF_KERNEL, Owner.TABLE)
_OF_VMEMMAP = (*_OF_KERNEL, Owner.DEVICE, Owner.UNUSED)
_OF_DATA = (Owner.SLAB, Owner.TAIL)


class Withheld(NamedTuple):
    """Memory that was recorded and is not written."""

    frame: int
    """PFN."""
    size: int
    """In bytes."""
    what: str
    """What the frame should have been."""
    owner: Owner
    """The frame's owner: the kernel, if only the content is not what it should be."""

    def __str__(self) -> str:
        whose = (
            f"it holds no {self.what}" if self.owner in _OF_TABLES else f"it is {self.owner.value}"
        )
        return f"{self.size} bytes of frame {self.frame:#x}, claimed as {self.what}: {whose}"


class Filtered(NamedTuple):
    """The part of a recording that may be written."""

    reads: Mapping[tuple[int, int], bytes]
    """By physical address and size in bytes."""
    withheld: list[Withheld]


class LogMemory(NamedTuple):
    """Where the kernel's log is: it has the command line, and what users sent to it."""

    wanted: Collection[int]
    """PFNs of the frames that were read for it, if it is to be written."""
    text: Mapping[int, Collection[range]]
    """Physical addresses of its text in each frame, by PFN, if it is not."""


NO_LOG = LogMemory((), {})


class Filter:
    """Judges the frames of a recording."""

    def __init__(
        self,
        snapshot: Snapshot,
        owners: FrameOwners,
        content: Content,
        tables: Collection[int],
        vmemmap: Mapping[int, int],
        log: LogMemory = NO_LOG,
    ) -> None:
        """
        :param snapshot: Of the memory that was recorded, not of the recording.
        :param tables: PFNs of the frames that were read as page tables.
        :param vmemmap: PFNs of the frames that back the vmemmap, or that a zone keeps as tails; of
            each, how many of its bytes are before the first struct page that begins in it.
        :param log: Where the kernel's log is, as far as it matters.
        """
        self._memory, self._geometry = snapshot.memory, snapshot.geometry
        self._image = snapshot.kernel.image
        self._owners, self._content = owners, content
        self._tables, self._vmemmap, self._log = frozenset(tables), vmemmap, log
        self._right: dict[int, bool] = {}
        """Results of :meth:`_has_struct_pages_alone`, by PFN."""

    def apply(self, pieces: Mapping[int, bytes]) -> Filtered:
        """
        :param pieces: Recorded memory by its physical address.
        """
        self._right.clear()
        by_frame: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for address, data in pieces.items():
            for frame, offsets in by_page(address, len(data)):
                start = (frame << self._geometry.page_shift) + offsets.start
                part = data[start - address : start - address + len(offsets)]
                by_frame[frame].append((start, part))
        reads: dict[tuple[int, int], bytes] = {}
        withheld = []
        for frame, parts in by_frame.items():
            owner = self._owners.owner(frame)
            kept = [piece for start, part in parts for piece in self._kept(start, part, owner)]
            missing = sum(len(part) for _, part in parts) - sum(len(part) for _, part in kept)
            if missing:
                withheld.append(Withheld(frame, missing, self._what(frame), owner))
            else:
                kept = parts
            reads.update({(start, len(part)): part for start, part in kept})
        return Filtered(reads, withheld)

    def _frame(self, address: int) -> int:
        return address >> self._geometry.page_shift

    def _what(self, frame: int) -> str:
        if frame in self._tables:
            return "page table"
        return "vmemmap" if frame in self._vmemmap else "data of the kernel"

    def _kept(self, start: int, part: bytes, owner: Owner) -> Iterator[tuple[int, bytes]]:
        """The pieces of a part of a frame that may be written."""
        frame = self._frame(start)
        if frame in self._tables:
            if owner in _OF_TABLES:
                yield from _words(start, part, self._entry_test(frame))
        elif frame in self._vmemmap:
            if owner in _OF_VMEMMAP:
                yield from self._struct_pages(start, part)
        elif self._is_trusted(frame, owner):
            yield from self._all_but_log(start, part)
        elif owner in _OF_TABLES:
            # Tables over other memory are read to find the kernel's data.
            yield from _words(start, part, self._content.is_data_or_entry)
        elif owner in _OF_DATA:
            yield from _words(start, part, self._content.is_data)

    def _is_trusted(self, frame: int, owner: Owner) -> bool:
        """
        Whether a frame may be written whatever its content is: the kernel's image, and its log.

        Other memory from boot has the command line, and the text of a large log.
        """
        if owner is Owner.BOOT:
            return frame in self._image or frame in self._log.wanted
        return owner is Owner.UNKNOWN and frame in self._image

    def _all_but_log(self, start: int, part: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces of a part of a frame, without the log's text."""
        end = start + len(part)
        for text in self._log.text.get(self._frame(start), ()):
            low, high = max(start, text.start), min(end, text.stop)
            if low < high:
                yield from self._all_but_log(start, part[: low - start])
                yield from self._all_but_log(high, part[high - start :])
                return
        if part:
            yield start, part

    def _entry_test(self, frame: int) -> Callable[[int], bool]:
        """The test for entries of a table: it admits damaged ones if most words are entries."""
        start, page_size = frame << self._geometry.page_shift, self._geometry.page_size
        words = self._memory.read_each(range(start, start + page_size, WORD), WORD)
        is_table = self._content.is_table(int.from_bytes(word or b"", "little") for word in words)
        return self._content.is_damaged_entry if is_table else self._content.is_entry

    def _struct_pages(self, start: int, part: bytes) -> Iterator[tuple[int, bytes]]:
        """The right struct pages in a part of a frame; of the others, only the marks of tails."""
        # Fast path: mostly, all are right.
        if self._has_struct_pages_alone(self._frame(start)):
            yield start, part
            return
        size, page_size = self._geometry.struct_size, self._geometry.page_size
        page = start & -page_size
        first = page + self._vmemmap[self._frame(start)] - size
        for begin in range(first, start + len(part), size):
            low, high = max(begin, start), min(begin + size, start + len(part))
            if low >= high:
                continue
            piece = part[low - start : high - start]
            if self._is_struct_page(max(begin, page), min(begin + size, page + page_size), begin):
                yield low, piece
            else:
                yield from _words(low, piece, self._content.is_tail_mark)

    def _has_struct_pages_alone(self, frame: int) -> bool:
        """Whether a frame is all in the dump, and each struct page that begins in it is right."""
        if frame not in self._right:
            page_size = self._geometry.page_size
            self._right[frame] = False
            with contextlib.suppress(MissingMemory):
                if not self._vmemmap[frame]:
                    page = self._memory.read(frame << self._geometry.page_shift, page_size)
                    self._right[frame] = self._content.are_struct_pages(page)
        return self._right[frame]

    def _is_struct_page(self, start: int, end: int, begin: int) -> bool:
        """
        Whether some words can be of a struct page, as far as they are in the dump.

        :param begin: Address where the struct page begins, if only on the page before.
        """
        try:
            return self._content.is_struct_page(
                self._memory.read(start, end - start), start - begin
            )
        except MissingMemory:
            words = range(start, end, WORD)
            return all(
                data is None or self._content.is_struct_page(data, address - begin)
                for address, data in zip(words, self._memory.read_each(words, WORD))
            )


def _words(start: int, part: bytes, is_right: Callable[[int], bool]) -> Iterator[tuple[int, bytes]]:
    """The words that are right, whatever the others are; of parts of words, those that are 0."""
    # Fast path: mostly, all are right.
    if not (start | len(part)) % WORD and all(
        not word or is_right(word) for word in set(memoryview(part).cast("Q"))
    ):
        yield start, part
        return
    for address in range(start & -WORD, start + len(part), WORD):
        first, last = max(start, address), min(start + len(part), address + WORD)
        piece = part[first - start : last - start]
        word = int.from_bytes(piece, "little")
        if not word or (len(piece) == WORD and is_right(word)):
            yield first, piece
