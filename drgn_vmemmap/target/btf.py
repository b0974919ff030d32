# SPDX-License-Identifier: LGPL-2.1-or-later

"""
BTF, the kernel's own description of its types, read and decoded lazily.

Follows ``include/uapi/linux/btf.h`` and ``Documentation/bpf/btf.rst`` of the kernel. Types are
not indexed: where they begin is found as far as it is needed, and no more of them is read.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import NamedTuple

from drgn_vmemmap.target.btf_kinds import (
    EXTRA,
    INFO,
    NAME_OFFSET,
    SIZE_OR_TYPE,
    WORDS_EACH,
    BtfError,
    Kind,
    Sizes,
    kind_of,
    known_kind,
)

_HEADER = struct.Struct("<HBBIIIII")
# Newer kernels may have a longer header: where the layout of their kinds is, and its size.
_LAYOUT = struct.Struct("<II")
_MAGIC = 0xEB9F
_MAGIC_SWAPPED = 0x9FEB
_VERSION = 1

HEADER_SIZE = _HEADER.size
"""In bytes."""

Read = Callable[[int, int], bytes]
"""Reads a part of a blob: an offset and a size in bytes; raises :class:`BtfError` if it cannot."""

# Types are read in pieces of so many bytes.
_PIECE = 1 << 16

# How many types are compared to see whether all are sorted by name.
_SORTED_SAMPLE = 64


def size_of(header: bytes) -> int:
    """
    Size of a blob in bytes, by its header.

    :raises BtfError: if this is no header of BTF.
    """
    magic, version, _, size, types, types_size, strings, strings_size = _HEADER.unpack(header)
    if magic == _MAGIC_SWAPPED:
        raise BtfError("it is of another byte order")
    if magic != _MAGIC or version != _VERSION:
        raise BtfError("it does not begin as BTF does")
    return int(size + max(types + types_size, strings + strings_size))


class Record(NamedTuple):
    """One type as BTF has it."""

    id: int
    kind: Kind
    name: str
    """Empty if it is anonymous."""
    flag: bool
    """``kind_flag``."""
    size_or_type: int
    """Size in bytes, or ID of the type that it refers to, by kind."""
    words: array[int]
    """The words of 32 bits that the kind adds."""


class Btf:
    """A BTF blob."""

    def __init__(self, size: int, read: Read) -> None:
        """
        :param size: Bytes of the blob, from its header on.
        :raises BtfError: if it is cut off, of another byte order, or of a kind that is not known.
        """
        if size < _HEADER.size:
            raise BtfError("it is cut off")
        found = read(0, _HEADER.size)
        *_, header, types, types_size, strings, strings_size = _HEADER.unpack(found)
        if size_of(found) > size or types_size % 4:
            raise BtfError("it is cut off")
        self._read = read
        self._offset, self._size = header + types, types_size
        """Where in the blob the types are, in bytes."""
        self._bytes = bytearray()
        """The types, as far as they were read."""
        self._words = array("I")
        """The types as words of 32 bits, as far as they were read."""
        self._strings = read(header + strings, strings_size)
        self._sizes = Sizes(self._layout(header, size_of(found)))
        self._starts = array("I", [0])
        """Index of the first word of each type that was reached; type 0 is void and has none."""
        self._reached = 0
        """Index of the first word that was not reached."""

    def _layout(self, header: int, end: int) -> bytes:
        """
        How large the types of each kind are, as far as the blob says so; see :class:`Sizes`.

        :param header: Size of its header.
        :param end: Of the blob.
        """
        if header < _HEADER.size + _LAYOUT.size:
            return b""
        start, size = _LAYOUT.unpack(self._read(_HEADER.size, _LAYOUT.size))
        return self._read(header + start, size) if header + start + size <= end else b""

    def _load(self, words: int) -> bool:
        """
        Read so many words of the types, or more.

        :return: Whether there are so many.
        """
        while len(self._words) < words and len(self._bytes) < self._size:
            start = len(self._bytes)
            piece = self._read(self._offset + start, min(_PIECE, self._size - start))
            self._bytes += piece
            self._words.frombytes(piece)
        return len(self._words) >= words

    def _reach(self, type_id: int, position: int) -> None:
        """
        Find where types begin, until a type and a word are reached.

        Types that are used often come first, so that most are never reached; since BTF is sorted
        by name (Linux 7.0), that is no longer so.

        :raises BtfError: if types are cut off, or of a kind that is not known.
        """
        end = self._size // 4
        while self._reached < end and (self._reached <= position or len(self._starts) <= type_id):
            if not self._load(self._reached + EXTRA):
                raise BtfError("it is cut off")
            self._find_starts()

    def _find_starts(self) -> None:
        """
        Find where types begin in the next piece of words, as far as they were read.

        :raises BtfError: if the first of them is cut off, or of a kind that is not known.
        """
        first = reached = self._reached
        append, sizes, problem = self._starts.append, self._sizes, "it is cut off"
        with memoryview(self._words)[INFO:] as infos:
            last = min(len(self._words), reached + _PIECE // 4) - EXTRA
            try:
                while reached <= last:
                    size = sizes[infos[reached]]
                    append(reached)
                    reached += size
            except ValueError as error:
                problem = f"type {len(self._starts)} is of {error}"
        if reached > self._size // 4:
            reached = self._starts.pop()
        if reached == first:
            raise BtfError(problem)
        self._reached = reached

    def __len__(self) -> int:
        """How many types there are, void among them."""
        self._reach(0, self._size // 4)
        return len(self._starts)

    def record(self, type_id: int) -> Record:
        """
        :raises BtfError: if there is no such type.
        """
        self._reach(type_id, -1)
        if not 0 < type_id < len(self._starts):
            raise BtfError(f"it refers to type {type_id}, which it does not have")
        start = self._starts[type_id]
        info = self._words[start + INFO]
        end = start + self._sizes[info]
        self._load(end)
        return Record(
            id=type_id,
            kind=known_kind(info),
            name=self.string(self._words[start + NAME_OFFSET]),
            flag=bool(info >> 31),
            size_or_type=self._words[start + SIZE_OR_TYPE],
            words=self._words[start + EXTRA : end],
        )

    def string(self, offset: int) -> str:
        """
        :raises BtfError: if the string table has no string there.
        """
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise BtfError(f"its string table has no string at {offset}")
        return self._strings[offset:end].decode("ascii", "backslashreplace")

    def find(self, name: str, kinds: Collection[Kind]) -> Iterator[Record]:
        """Types of a name and of some kinds."""
        if self._first_named is None:
            return self._search(name, kinds)
        return self._search_sorted(name, kinds)

    @cached_property
    def _first_named(self) -> int | None:
        """The first type that has a name, if types are sorted by name; ``None`` if not."""
        # Linux commit 342bf525ba0d ("btf: Verify BTF sorting") (in v7.0): types without a name
        # come first.
        self._reach(_SORTED_SAMPLE, -1)
        if any(map(self._name, range(1, min(_SORTED_SAMPLE, len(self._starts))))):
            return None
        types = range(1, len(self))
        first = _first(types, lambda type_id: self._name(type_id) > b"")
        step = max(1, (len(self) - first) // _SORTED_SAMPLE)
        names = [self._name(type_id) for type_id in range(first, len(self), step)]
        return first if names == sorted(names) else None

    def _search_sorted(self, name: str, kinds: Collection[Kind]) -> Iterator[Record]:
        """Types of a name and of some kinds, where types are sorted by name."""
        wanted, end = name.encode(), len(self)
        named = range(self._first_named or 1, end)
        for type_id in range(_first(named, lambda other: self._name(other) >= wanted), end):
            if self._name(type_id) != wanted:
                break
            if kind_of(self._words[self._starts[type_id] + INFO]) in kinds:
                yield self.record(type_id)

    def _search(self, name: str, kinds: Collection[Kind]) -> Iterator[Record]:
        """Types of a name and of some kinds, where they are in no order."""
        for position in self._mentions(name):
            self._load(position + EXTRA)
            # In a member or parameter, the word after the name is a type's ID, without a kind.
            if kind_of(self._words[position + INFO]) in kinds:
                type_id = self._type_at(position)
                if self._starts[type_id] == position:
                    yield self.record(type_id)

    def find_enumerator(self, name: str) -> Record | None:
        """The enumeration that has an enumerator of a name."""
        for position in self._mentions(name):
            type_id = self._type_at(position)
            start = self._starts[type_id]
            kind, index = kind_of(self._words[start + INFO]), position - start - EXTRA
            is_enum = kind in (Kind.ENUM, Kind.ENUM64)
            if is_enum and index >= 0 and index % WORDS_EACH[Kind(kind)] == 0:
                return self.record(type_id)
        return None

    def _mentions(self, name: str) -> Iterator[int]:
        """Words of the types that refer to a name, which the string table has at most once."""
        offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        return self._positions(offset) if offset else iter(())

    def _name(self, type_id: int) -> bytes:
        """A type's name; empty if it has none."""
        offset = self._words[self._starts[type_id] + NAME_OFFSET]
        return self._strings[offset : self._strings.find(b"\0", offset)]

    def _positions(self, word: int) -> Iterator[int]:
        """Where a word is among those of the types, the last one left out."""
        data, end, start = word.to_bytes(4, "little"), self._size - 4, 0
        while True:
            position = self._bytes.find(data, start, end)
            if position >= 0 and position % 4 == 0:
                yield position // 4
            if position >= 0:
                start = position + 1
                continue
            start = max(start, len(self._bytes) & -4)
            if not self._load(start // 4 + 1):
                return

    def _type_at(self, position: int) -> int:
        """ID of the type that a word belongs to."""
        self._reach(0, position)
        return bisect_right(self._starts, position, 1) - 1


def _first(numbers: range, holds: Callable[[int], bool]) -> int:
    """The first of some numbers for which something holds, as for all after it; or their end."""
    low, high = numbers.start, numbers.stop
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
