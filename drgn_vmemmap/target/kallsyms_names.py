# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The names of kallsyms, searched as the kernel searches them.

Follows ``kernel/kallsyms.c`` and ``scripts/kallsyms.c``. Names are compressed: each is a
sequence of tokens, in order of the symbols' addresses. ``kallsyms_seqs_of_names`` has their
positions in order of the names, so that a name is found by a binary search; older kernels do not
have it, and all names are split once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from drgn_vmemmap.target.page_reader import PAGE_SIZE, Read

SEQUENCE_SIZE = 3
"""Bytes that ``kallsyms_seqs_of_names`` has for each symbol."""

NAME_LIMIT = 512
"""``KSYM_NAME_LEN`` of ``include/linux/kallsyms.h``; a name with its type is as long."""

# kallsyms_markers has a place in kallsyms_names for each block of 256 symbols.
_BLOCK_SHIFT = 8
_BLOCK = 1 << _BLOCK_SHIFT

# A symbol takes a byte for its length, and one at least for its type and name.
_SYMBOL_MIN = 2
_SYMBOL_MAX = 2 + NAME_LIMIT

# Debian's kernels have 2 MB of names.
_NAMES_LIMIT = 1 << 26

# The most symbols of one name that are found: static functions often have the same name.
_ALIKE_LIMIT = 1 << 12


class KallsymsError(Exception):
    """The tables are not there, not as these modules know them, or damaged."""


class DamagedKallsyms(KallsymsError):
    """The tables are so damaged that no other reader can use them, whatever their order is."""


def source_name(name: str) -> str:
    """
    The name that a symbol has in the source.

    ThinLTO makes global what was local to a file, if a function that uses it is inlined into
    another file, and adds a number to its name.
    """
    stem, _, number = name.rpartition(".llvm.")
    return stem if number.isdigit() and stem else name


def blocks(count: int) -> int:
    """How many blocks the names of some symbols are in."""
    return -(-count // _BLOCK)


class TableLayout(NamedTuple):
    """Virtual addresses of the tables; 0 for one that the kernel does not have."""

    names: int
    names_end: int
    """Where the next table begins; before it, a few bytes may be alignment."""
    markers: int
    sequences: int


class Names:
    """``kallsyms_names``, compressed by tokens."""

    def __init__(self, read: Read, tokens: Sequence[bytes], count: int) -> None:
        self.read, self.tokens, self.count = read, tokens, count

    def expand(self, symbol: bytes) -> bytes:
        """Type and name of a symbol."""
        return b"".join([self.tokens[token] for token in symbol])

    def split(self, data: bytes, count: int) -> Iterator[bytes]:
        """
        The first symbols of some, still compressed.

        :raises KallsymsError: if they do not end in these bytes.
        """
        position, end = 0, len(data)
        for _ in range(count):
            start = position + 1
            if start >= end:
                raise KallsymsError("the names do not end")
            length = data[position]
            # Linux commit 73bbb94466fd ("kallsyms: support "big" kernel symbols") (in v6.1)
            if length & 0x80:
                length = length & 0x7F | data[start] << 7
                start += 1
            position = start + length
            if not length or position > end:
                raise KallsymsError("the names do not end")
            yield data[start:position]


class Search(ABC):
    """Finds the numbers of symbols, in order of their addresses, by name."""

    def __init__(self, names: Names, layout: TableLayout) -> None:
        self._names, self.layout = names, layout

    @abstractmethod
    def find(self, name: bytes) -> list[int]:
        """
        Numbers of the symbols with a name; without any, perhaps of those with it in the source.

        :raises KallsymsError: if the tables contradict themselves.
        """

    @abstractmethod
    def _symbol(self, number: int) -> bytes:
        """Type and name of a symbol."""

    def type_of(self, number: int) -> str:
        """A symbol's letter."""
        return self._symbol(number)[:1].decode("ascii", "replace")


class BinarySearch(Search):
    """``kallsyms_lookup_names()``"""

    def __init__(self, names: Names, layout: TableLayout) -> None:
        super().__init__(names, layout)
        self._markers = self._read_markers()
        self._blocks: dict[int, list[bytes]] = {}

    def find(self, name: bytes) -> list[int]:
        first = self._first_from(name)
        numbers: list[int] = []
        promoted: list[int] = []
        for place in range(first, min(first + _ALIKE_LIMIT, self._names.count)):
            number, found = self._by_name(place)
            if found == name:
                numbers.append(number)
            elif not found.startswith(name + b"."):
                break
            elif source_name(found.decode("ascii", "replace")) == name.decode("ascii"):
                promoted.append(number)
        return numbers or promoted

    def _first_from(self, name: bytes) -> int:
        """
        Place of the first name that is not before *name*.

        With CONFIG_LTO_CLANG, some kernels sort the names without what follows a dot: among those
        that are the same up to a dot, the order is not known.
        """
        low, high = 0, self._names.count
        lowest, highest = b"", b"\xff"
        while low < high:
            middle = (low + high) // 2
            _, found = self._by_name(middle)
            stem = found.partition(b".")[0]
            if not lowest <= stem <= highest:
                raise KallsymsError("the names are not in order")
            if found < name:
                low, lowest = middle + 1, stem
            else:
                high, highest = middle, stem
        return low

    def _by_name(self, place: int) -> tuple[int, bytes]:
        """Number and name of a symbol, by its place among the sorted names."""
        address = self.layout.sequences + SEQUENCE_SIZE * place
        number = int.from_bytes(self._names.read(address, SEQUENCE_SIZE), "big")
        return number, self._symbol(number)[1:]

    def _symbol(self, number: int) -> bytes:
        if number >= self._names.count:
            raise KallsymsError(f"there is no symbol {number}")
        block = number >> _BLOCK_SHIFT
        if block not in self._blocks:
            self._blocks[block] = self._read_block(block)
        return self._names.expand(self._blocks[block][number & (_BLOCK - 1)])

    def _read_block(self, block: int) -> list[bytes]:
        start, end = self._markers[block : block + 2]
        data = self._names.read(self.layout.names + start, end - start)
        return [*self._names.split(data, min(_BLOCK, self._names.count - block * _BLOCK))]

    def _read_markers(self) -> array[int]:
        """Where the blocks begin among the names, and where the last one ends."""
        count, layout = self._names.count, self.layout
        if not layout.names < layout.markers < layout.names + count * _SYMBOL_MAX:
            raise KallsymsError("the markers are not after the names")
        markers = array("I", self._names.read(layout.markers, 4 * blocks(count)))
        markers.append(layout.names_end - layout.names)
        sizes = [end - start for start, end in zip(markers, markers[1:])]
        *all_but_last, last = sizes
        fits = all(_BLOCK * _SYMBOL_MIN <= size <= _BLOCK * _SYMBOL_MAX for size in all_but_last)
        if markers[0] or not fits or not 0 < last <= _BLOCK * _SYMBOL_MAX:
            raise KallsymsError("the markers do not divide the names")
        return markers


class LinearSearch(Search):
    """For a kernel that has no ``kallsyms_seqs_of_names``: all names are split, few expanded."""

    def __init__(self, names: Names, layout: TableLayout) -> None:
        super().__init__(names, layout)
        self._symbols = [*names.split(self._read_names(), names.count)]
        self._by_ends = self._sort_by_ends()

    def _read_names(self) -> bytes:
        """All names, and what follows them as far as it is in the dump."""
        address, most = self.layout.names, min(self._names.count * _SYMBOL_MAX, _NAMES_LIMIT)
        end = min(self.layout.names_end, address + most)
        pieces = []
        while address < end:
            size = min(end, (address | PAGE_SIZE - 1) + 1) - address
            try:
                pieces.append(self._names.read(address, size))
            except KallsymsError:
                break
            address += size
        return b"".join(pieces)

    def _sort_by_ends(self) -> Mapping[tuple[int, int], list[int]]:
        """Numbers of symbols by their first and last tokens."""
        by_ends: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for number, symbol in enumerate(self._symbols):
            by_ends[symbol[0], symbol[-1]].append(number)
        return by_ends

    def find(self, name: bytes) -> list[int]:
        tokens = [*enumerate(self._names.tokens)]
        # The first one begins with the type.
        firsts = [number for number, token in tokens if token and name.startswith(token[1:])]
        lasts = [n for n, token in tokens if token and (name.endswith(token) or token[1:] == name)]
        return [
            number
            for first in firsts
            for last in lasts
            for number in self._by_ends.get((first, last), ())
            if self._symbol(number)[1:] == name
        ]

    def _symbol(self, number: int) -> bytes:
        return self._names.expand(self._symbols[number])
