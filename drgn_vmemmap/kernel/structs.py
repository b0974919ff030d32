# SPDX-License-Identifier: LGPL-2.1-or-later

"""C structures: where their members lie, and how to take them from bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

FORMATS: Mapping[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""Format characters of unsigned numbers, by their size in bytes."""


class Member(NamedTuple):
    """Where a member lies in its structure."""

    offset: int
    """In bytes."""
    size: int
    """In bytes; of one element, if it is an array."""
    length: int
    """Elements; 1 if it is no array."""

    @property
    def is_number(self) -> bool:
        """Whether it has the size of a number, and is no array."""
        return self.length == 1 and self.size in FORMATS

    @property
    def end(self) -> int:
        """Offset in bytes of what comes after it."""
        return self.offset + self.size * self.length

    def covers(self, offset: int) -> bool:
        """Whether a byte of the structure belongs to it."""
        return self.offset <= offset < self.end


class Struct(NamedTuple):
    """A C structure: its size in bytes, and where its members lie."""

    size: int
    members: Mapping[str, Member]

    def offset(self, name: str, index: int = 0) -> int:
        """Offset in bytes of a member, or of an element of an array."""
        member = self.members[name]
        return member.offset + index * member.size

    def value(self, data: bytes, name: str, index: int = 0, at: int = 0) -> int:
        """
        :param data: Bytes, with the structure among them.
        :param at: Where in them it begins.
        :return: Unsigned value of a member, or of an element of an array.
        """
        offset = at + self.offset(name, index)
        return int.from_bytes(data[offset : offset + self.members[name].size], "little")

    def value_or_0(self, data: bytes, name: str, index: int = 0) -> int:
        """As :meth:`value()`; 0 if the structure does not have the member."""
        return self.value(data, name, index) if name in self.members else 0

    def elements(self, data: bytes, name: str) -> list[int]:
        """
        :param data: The structure's bytes.
        :return: Unsigned values of an array's elements; of larger ones, their first 8 bytes.
        """
        member = self.members[name]
        starts = range(member.offset, member.offset + member.size * member.length, member.size)
        return list(_numbers(data, starts, min(member.size, 8)))

    def column(self, data: bytes, name: str) -> list[int]:
        """
        :param data: Bytes of consecutive structures.
        :return: Unsigned values of a member, one of each complete structure.
        """
        return list(self._column(data, name))

    def values(self, data: bytes, name: str) -> set[int]:
        """
        :param data: Bytes of consecutive structures.
        :return: The different values that a member has in them.
        """
        column = self._column(data, name)
        # Fast path: mostly, it is the same in all of them.
        return {column[0]} if column[1:] == column[:-1] else set(column)

    def _column(self, data: bytes, name: str) -> Sequence[int]:
        member = self.members[name]
        starts = range(member.offset, len(data) // self.size * self.size, self.size)
        return _numbers(data, starts, member.size)


def _numbers(data: bytes, starts: range, size: int) -> Sequence[int]:
    """
    Unsigned numbers.

    :param size: Bytes of each.
    """
    if not starts:
        return []
    # Fast path: they are aligned, as C aligns them.
    is_aligned = size in FORMATS and starts.start % size == 0 and starts.step % size == 0
    end = starts[-1] + size
    if is_aligned and end <= len(data):
        words = memoryview(data[:end]).cast(FORMATS[size])
        return words[starts.start // size :: starts.step // size]
    return [int.from_bytes(data[start : start + size], "little") for start in starts]


class PageTest(NamedTuple):
    """A masked comparison that recognises a kind of struct page."""

    offset: int
    """In bytes from the head page on; it may lie in the second struct page."""
    size: int
    """In bytes."""
    mask: int
    value: int

    def matches(self, pages: bytes) -> bool:
        """
        :param pages: The head page and the one after it.
        """
        word = int.from_bytes(pages[self.offset : self.offset + self.size], "little")
        return word & self.mask == self.value

    def matches_any(self, pages: bytes, stride: int) -> bool:
        """
        :param pages: Several head pages, each with the one after it.
        :param stride: Bytes from one head page to the next.
        """
        for offset, others in _other_bytes(self):
            if not pages[offset::stride].translate(None, others):
                return False
        words = set(_numbers(pages, range(self.offset, len(pages), stride), self.size))
        return any(word & self.mask == self.value for word in words)


@cache
def _other_bytes(test: PageTest) -> list[tuple[int, bytes]]:
    """Offsets of the bytes that a test compares, and the values of each that do not pass it."""
    masks, values = (number.to_bytes(test.size, "little") for number in (test.mask, test.value))
    return [
        (offset, bytes(byte for byte in range(256) if byte & mask != value))
        for offset, (mask, value) in enumerate(zip(masks, values), test.offset)
        if mask
    ]
