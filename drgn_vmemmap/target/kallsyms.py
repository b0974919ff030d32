# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kernel's own table of symbols, searched in the dump as the kernel searches it.

Follows ``kernel/kallsyms.c`` and ``scripts/kallsyms.c``. Names are compressed: each is a
sequence of tokens, in order of the symbols' addresses. ``kallsyms_seqs_of_names`` has their
positions in order of the names, so that a name is found by a binary search; older kernels do not
have it, and all names are split once. Nothing that is read is trusted: a table that contradicts
itself, or does not give the address of ``_stext`` that VMCOREINFO has, is refused.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

Read = Callable[[int, int], bytes]
"""Reads some bytes of the kernel's memory at a virtual address."""

# Memory is read, and goes missing, in pieces of this size.
_PAGE_SHIFT = 12
_PAGE_SIZE = 1 << _PAGE_SHIFT

# kallsyms_seqs_of_names has 3 bytes for each symbol.
_COUNT_LIMIT = 1 << 24
_SEQUENCE_SIZE = 3

# KSYM_NAME_LEN of include/linux/kallsyms.h; a name with its type is as long.
_NAME_LIMIT = 512

# kallsyms_markers has a place in kallsyms_names for each block of so many symbols.
_BLOCK_SHIFT = 8
_BLOCK = 1 << _BLOCK_SHIFT

# A symbol takes a byte for its length, and one at least for its type and name.
_SYMBOL_MIN = 2
_SYMBOL_MAX = 2 + _NAME_LIMIT

_TOKENS = 256

# Tokens are parts of names: Debian's kernels have 1 kB of them.
_TOKENS_LIMIT = 1 << 16

# So many symbols of one name are all that are given: static functions are often called alike.
_ALIKE_LIMIT = 1 << 12

_ALL_BITS = (1 << 64) - 1


class KallsymsError(Exception):
    """The tables are not there, not as this module knows them, or damaged."""


class KernelSymbol(NamedTuple):
    """A symbol as kallsyms has it."""

    name: str
    type: str
    """Its letter, as in ``nm``."""
    address: int


class Span(NamedTuple):
    """Where a table is, in bytes."""

    address: int
    size: int


class Kallsyms:
    """The tables of one kernel."""

    def __init__(self, read: Read, symbols: Mapping[str, int]) -> None:
        """
        :param read: Raises an exception of any kind for memory that is not in the dump.
        :param symbols: Addresses that VMCOREINFO has.
        :raises KallsymsError: if the tables cannot be used.
        """
        self._reader, self._symbols = _PageReader(read), symbols
        self._read = self._reader.read
        self._count = self._number_of_symbols()
        self._reader.limit(self._bounds())
        self._tokens = self._read_tokens()
        self._numbers_by_name = self._choose_search()
        self._address_of = self._choose_addresses()

    def find(self, name: str) -> list[KernelSymbol]:
        """
        Symbols of a name, in order of their addresses.

        :raises KallsymsError: if the tables contradict themselves.
        """
        numbers = self._numbers_by_name.find(name.encode("ascii", "replace"))
        types = (self._numbers_by_name.type_of(number) for number in numbers)
        return sorted(
            (KernelSymbol(name, type_, self._address_of(n)) for n, type_ in zip(numbers, types)),
            key=lambda symbol: symbol.address,
        )

    def spans(self) -> list[Span]:
        """Where all the tables are: those that are searched, and those that drgn's helper reads."""
        layout = self._numbers_by_name.layout
        spans = [
            Span(self._symbols["kallsyms_num_syms"], 4),
            Span(layout.names, layout.names_end - layout.names),
            Span(self._symbols["kallsyms_token_table"], self._token_table_size()),
            Span(self._symbols["kallsyms_token_index"], 2 * _TOKENS),
            Span(self._symbols["kallsyms_offsets"], 4 * self._count),
        ]
        if "kallsyms_relative_base" in self._symbols:
            spans.append(Span(self._symbols["kallsyms_relative_base"], 8))
        if layout.markers:
            spans.append(Span(layout.markers, 4 * _blocks(self._count)))
        if layout.sequences:
            spans.append(Span(layout.sequences, _SEQUENCE_SIZE * self._count))
        return spans

    def _table(self, name: str) -> int:
        try:
            return self._symbols[name]
        except KeyError:
            raise KallsymsError(f"VMCOREINFO does not have the address of {name}") from None

    def _number_of_symbols(self) -> int:
        count = int.from_bytes(self._read(self._table("kallsyms_num_syms"), 4), "little")
        if not 0 < count <= _COUNT_LIMIT:
            raise KallsymsError(f"the number of symbols is {count}")
        return count

    def _bounds(self) -> range:
        """What lies between the first and the last of the tables, and nothing else."""
        tables = [a for name, a in self._symbols.items() if name.startswith("kallsyms_")]
        end = self._table("kallsyms_token_index") + 2 * _TOKENS
        if self._end_of_offsets() > end:
            end = self._end_of_offsets() + _SEQUENCE_SIZE * self._count
        return range(min(tables), end)

    def _end_of_offsets(self) -> int:
        """The end of ``kallsyms_offsets``, and of the base that follows it in some kernels."""
        if "kallsyms_relative_base" in self._symbols:
            return self._symbols["kallsyms_relative_base"] + 8
        return self._table("kallsyms_offsets") + 4 * self._count

    def _token_table_size(self) -> int:
        """``kallsyms_token_index`` follows ``kallsyms_token_table`` in all kernels."""
        size = self._table("kallsyms_token_index") - self._table("kallsyms_token_table")
        if not 0 < size <= _TOKENS_LIMIT:
            raise KallsymsError(f"the token table has {size} bytes")
        return size

    def _read_tokens(self) -> list[bytes]:
        table = self._read(self._table("kallsyms_token_table"), self._token_table_size())
        index = self._read(self._table("kallsyms_token_index"), 2 * _TOKENS)
        tokens = [table[start : table.find(b"\0", start)] for (start,) in _SHORT.iter_unpack(index)]
        if table[-1] or max(map(len, tokens)) > _NAME_LIMIT:
            raise KallsymsError("the token table does not end")
        return tokens

    def _choose_search(self) -> _Search:
        """The search that this kernel's tables allow, tried with ``_stext``."""
        names = _Names(self._read, self._tokens, self._count)
        problem = None
        for layout in self._layouts():
            search: type[_Search] = _BinarySearch if layout.sequences else _LinearSearch
            try:
                chosen = search(names, layout)
                if chosen.find(b"_stext"):
                    return chosen
                problem = "_stext is not among the names"
            except KallsymsError as error:
                problem = str(error)
        raise KallsymsError(f"the order of the tables is not known: {problem}")

    def _layouts(self) -> Iterator[_Layout]:
        """
        Where the tables that VMCOREINFO does not have may be, newest kernel first.

        Each begins at a multiple of 4 or 8 bytes after the one before it.
        """
        names, tokens = self._table("kallsyms_names"), self._table("kallsyms_token_table")
        sequences_size = _SEQUENCE_SIZE * self._count
        markers_size = 4 * _blocks(self._count)
        for alignment in (4, 8):
            markers = tokens - _aligned(markers_size, alignment)
            # Linux commit 404bad70fcf7 ("scripts/kallsyms: change the output order") (in v6.4)
            # moved kallsyms_seqs_of_names to the end.
            last = _aligned(self._end_of_offsets(), alignment)
            if last > tokens:
                yield _Layout(names, markers, markers, last)
                continue
            # Linux commit 60443c88f3a8 ("kallsyms: Improve the performance of
            # kallsyms_lookup_name()") (in v6.2) added kallsyms_seqs_of_names, and commit
            # 19bd8981dc2e (in v6.2) made its elements 3 bytes.
            sequences = tokens - _aligned(sequences_size, alignment)
            markers_before = sequences - _aligned(markers_size, alignment)
            yield _Layout(names, markers_before, markers_before, sequences)
        yield _Layout(names, tokens, 0, 0)

    def _choose_addresses(self) -> Callable[[int], int]:
        """The meaning of ``kallsyms_offsets`` that gives ``_stext`` its address."""
        stext = self._table("_stext")
        numbers = self._numbers_by_name.find(b"_stext")
        for meaning in self._meanings_of_offsets():
            if stext in map(meaning, numbers):
                return meaning
        raise KallsymsError("_stext is not where VMCOREINFO has it")

    def _meanings_of_offsets(self) -> Iterator[Callable[[int], int]]:
        offsets = self._table("kallsyms_offsets")

        def offset(number: int) -> int:
            address = offsets + 4 * number
            return int.from_bytes(self._read(address, 4), "little", signed=True)

        # Linux commit a081b5789255 ("kallsyms: Get rid of kallsyms relative base") (in v7.0)
        if "kallsyms_relative_base" not in self._symbols:
            yield lambda number: offsets + 4 * number + offset(number) & _ALL_BITS
            return
        base = int.from_bytes(self._read(self._symbols["kallsyms_relative_base"], 8), "little")

        def with_absolute(number: int) -> int:
            value = offset(number)
            return value if value >= 0 else base - 1 - value & _ALL_BITS

        # With CONFIG_KALLSYMS_ABSOLUTE_PERCPU, an offset that is not negative is an address.
        yield with_absolute
        yield lambda number: base + (offset(number) & 0xFFFFFFFF) & _ALL_BITS


_SHORT = struct.Struct("<H")


def _blocks(count: int) -> int:
    return -(-count // _BLOCK)


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


class _PageReader:
    """Reads memory a page at a time, and keeps it: a read costs a walk of the page tables."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._pages: dict[int, tuple[int, bytes]] = {}
        self._limits = range(0)

    def limit(self, limits: range) -> None:
        """
        Read pages, where they are within limits.

        :param limits: Addresses.
        """
        self._limits = limits

    def read(self, address: int, size: int) -> bytes:
        """
        :raises KallsymsError: if it cannot be read.
        """
        number = address >> _PAGE_SHIFT
        if number not in self._pages:
            page = range(number << _PAGE_SHIFT, number + 1 << _PAGE_SHIFT)
            start = max(page.start, self._limits.start)
            stop = min(page.stop, self._limits.stop)
            if not start <= address <= address + size <= stop:
                return self._exactly(address, size)
            try:
                self._pages[number] = start, self._exactly(start, stop - start)
            except KallsymsError:
                # Of an extract, a part of the page may be there.
                return self._exactly(address, size)
        start, data = self._pages[number]
        offset = address - start
        if offset < 0 or offset + size > len(data):
            return self._exactly(address, size)
        return data[offset : offset + size]

    def _exactly(self, address: int, size: int) -> bytes:
        try:
            return bytes(self._read(address, size))
        # Damaged files make drgn's and libkdumpfile's readers fail in many ways.
        except Exception:
            raise KallsymsError(f"{size} bytes at {address:#x} are not in the dump") from None


class _Layout(NamedTuple):
    """Addresses of tables; 0 for one that the kernel does not have."""

    names: int
    names_end: int
    """Before what follows the names; a few bytes of alignment may be between."""
    markers: int
    sequences: int


class _Names:
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


class _Search(ABC):
    """Finds the numbers of symbols, in order of their addresses, by name."""

    def __init__(self, names: _Names, layout: _Layout) -> None:
        self._names, self.layout = names, layout

    @abstractmethod
    def find(self, name: bytes) -> list[int]:
        """
        :raises KallsymsError: if the tables contradict themselves.
        """

    @abstractmethod
    def _symbol(self, number: int) -> bytes:
        """Type and name of a symbol."""

    def type_of(self, number: int) -> str:
        """A symbol's letter."""
        return self._symbol(number)[:1].decode("ascii", "replace")


class _BinarySearch(_Search):
    """``kallsyms_lookup_names()``"""

    def __init__(self, names: _Names, layout: _Layout) -> None:
        super().__init__(names, layout)
        self._markers = self._read_markers()
        self._blocks: dict[int, list[bytes]] = {}

    def find(self, name: bytes) -> list[int]:
        first = self._first_from(name)
        numbers: list[int] = []
        for place in range(first, min(first + _ALIKE_LIMIT, self._names.count)):
            number, found = self._by_name(place)
            if found != name:
                break
            numbers.append(number)
        if not numbers:
            self._check_suffixes(name, first)
        return numbers

    def _check_suffixes(self, name: bytes, place: int) -> None:
        """
        With CONFIG_LTO_CLANG, names are sorted without what follows a dot.

        :raises KallsymsError: if a name that seems absent may be among those with a suffix.
        """
        for near in range(max(0, place - 1), min(place + 1, self._names.count)):
            if self._by_name(near)[1].startswith(name + b"."):
                raise KallsymsError("names with suffixes may be in another order")

    def _first_from(self, name: bytes) -> int:
        """Place of the first name that is not before *name*."""
        low, high = 0, self._names.count
        lowest, highest = b"", b"\xff"
        while low < high:
            middle = (low + high) // 2
            _, found = self._by_name(middle)
            if not lowest <= found <= highest:
                raise KallsymsError("the names are not in order")
            if found < name:
                low, lowest = middle + 1, found
            else:
                high, highest = middle, found
        return low

    def _by_name(self, place: int) -> tuple[int, bytes]:
        """Number and name of a symbol, by its place among the sorted names."""
        address = self.layout.sequences + _SEQUENCE_SIZE * place
        number = int.from_bytes(self._names.read(address, _SEQUENCE_SIZE), "big")
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
        markers = array("I", self._names.read(layout.markers, 4 * _blocks(count)))
        markers.append(layout.names_end - layout.names)
        sizes = [end - start for start, end in zip(markers, markers[1:])]
        *all_but_last, last = sizes
        fits = all(_BLOCK * _SYMBOL_MIN <= size <= _BLOCK * _SYMBOL_MAX for size in all_but_last)
        if markers[0] or not fits or not 0 < last <= _BLOCK * _SYMBOL_MAX:
            raise KallsymsError("the markers do not divide the names")
        return markers


class _LinearSearch(_Search):
    """For a kernel that has no ``kallsyms_seqs_of_names``: all names are split, few expanded."""

    def __init__(self, names: _Names, layout: _Layout) -> None:
        super().__init__(names, layout)
        self._symbols = [*names.split(self._read_names(), names.count)]
        self._by_ends = self._sort_by_ends()

    def _read_names(self) -> bytes:
        """All names, and what follows them as far as it is in the dump."""
        address, limit = self.layout.names, self._names.count * _SYMBOL_MAX
        end = min(self.layout.names_end, address + limit)
        pieces = []
        while address < end:
            size = min(end, (address | _PAGE_SIZE - 1) + 1) - address
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
