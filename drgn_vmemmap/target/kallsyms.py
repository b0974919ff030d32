# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kernel's own table of symbols in a dump: where its parts are, and the symbols in them.

Follows ``kernel/kallsyms.c`` and ``scripts/kallsyms.c``. Nothing that is read is trusted: a
table that contradicts itself, or does not give the address of ``_stext`` that VMCOREINFO has, is
refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.target.kallsyms_names import (
    NAME_LIMIT,
    SEQUENCE_SIZE,
    BinarySearch,
    DamagedKallsyms,
    KallsymsError,
    LinearSearch,
    Names,
    Search,
    TableLayout,
    blocks,
)
from drgn_vmemmap.target.page_reader import PageReader, Read

# Debian's kernels have 200,000 symbols, those with everything built in a million.
_COUNT_LIMIT = 1 << 21

_TOKENS = 256

# Tokens are parts of names: Debian's kernels have 1 kB of them.
_TOKENS_LIMIT = 1 << 16

_ALL_BITS = (1 << 64) - 1

_SHORT = struct.Struct("<H")


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
        self._symbols = symbols
        # How far the tables reach, and may be read in pages, follows from the number of symbols.
        self._memory = PageReader(read, limits=range(0))
        self._count = self._number_of_symbols()
        self._memory = PageReader(read, self._bounds())
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
            spans.append(Span(layout.markers, 4 * blocks(self._count)))
        if layout.sequences:
            spans.append(Span(layout.sequences, SEQUENCE_SIZE * self._count))
        return spans

    def _read(self, address: int, size: int) -> bytes:
        try:
            return self._memory.read(address, size)
        except MissingMemory as error:
            raise KallsymsError(str(error)) from None

    def _table(self, name: str) -> int:
        try:
            return self._symbols[name]
        except KeyError:
            raise KallsymsError(f"VMCOREINFO does not have the address of {name}") from None

    def _number_of_symbols(self) -> int:
        count = int.from_bytes(self._read(self._table("kallsyms_num_syms"), 4), "little")
        if not 0 < count <= _COUNT_LIMIT:
            raise DamagedKallsyms(f"the number of symbols is {count}")
        return count

    def _bounds(self) -> range:
        """Addresses from the first of the tables to the end of the last."""
        tables = [a for name, a in self._symbols.items() if name.startswith("kallsyms_")]
        end = self._table("kallsyms_token_index") + 2 * _TOKENS
        if self._end_of_offsets() > end:
            end = self._end_of_offsets() + SEQUENCE_SIZE * self._count
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
            raise DamagedKallsyms(f"the token table has {size} bytes")
        return size

    def _read_tokens(self) -> list[bytes]:
        table = self._read(self._table("kallsyms_token_table"), self._token_table_size())
        index = self._read(self._table("kallsyms_token_index"), 2 * _TOKENS)
        tokens = [table[start : table.find(b"\0", start)] for (start,) in _SHORT.iter_unpack(index)]
        if table[-1] or max(map(len, tokens)) > NAME_LIMIT:
            raise DamagedKallsyms("the token table does not end")
        return tokens

    def _choose_search(self) -> Search:
        """The search that this kernel's tables allow, tried with ``_stext``."""
        names = Names(self._read, self._tokens, self._count)
        problem = None
        for layout in self._layouts():
            search: type[Search] = BinarySearch if layout.sequences else LinearSearch
            try:
                chosen = search(names, layout)
                if chosen.find(b"_stext"):
                    return chosen
                problem = "_stext is not among the names"
            except KallsymsError as error:
                problem = str(error)
        raise KallsymsError(f"the order of the tables is not known: {problem}")

    def _layouts(self) -> Iterator[TableLayout]:
        """
        Where the tables that VMCOREINFO does not have may be, newest kernel first.

        Each begins at a multiple of 4 or 8 bytes after the one before it.
        """
        names, tokens = self._table("kallsyms_names"), self._table("kallsyms_token_table")
        sequences_size = SEQUENCE_SIZE * self._count
        markers_size = 4 * blocks(self._count)
        for alignment in (4, 8):
            markers = tokens - _aligned(markers_size, alignment)
            # Linux commit 404bad70fcf7 ("scripts/kallsyms: change the output order") (in v6.4)
            # moved kallsyms_seqs_of_names to the end.
            last = _aligned(self._end_of_offsets(), alignment)
            if last > tokens:
                yield TableLayout(names, markers, markers, last)
                continue
            # Linux commit 60443c88f3a8 ("kallsyms: Improve the performance of
            # kallsyms_lookup_name()") (in v6.2) added kallsyms_seqs_of_names, and commit
            # 19bd8981dc2e (in v6.2) made its elements 3 bytes.
            sequences = tokens - _aligned(sequences_size, alignment)
            markers_before = sequences - _aligned(markers_size, alignment)
            yield TableLayout(names, markers_before, markers_before, sequences)
        yield TableLayout(names, tokens, 0, 0)

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


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
