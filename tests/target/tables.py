# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kallsyms tables as ``scripts/kallsyms.c`` of each kernel lays them out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from drgn_vmemmap.target.kallsyms import KernelSymbol

START = 0xFFFFFFFF81A00000
TEXT = 0xFFFFFFFF81000000
STEXT = KernelSymbol("_stext", "T", TEXT)

# Each letter that names have is a token, and these are, too.
_LONG_TOKENS = {0x80: b"vmemmap", 0x81: b"_optimize", 0x82: b"Bh", 0x83: b"_"}
_TOKENS = [_LONG_TOKENS.get(code, bytes([code]) if code else b"\x01") for code in range(256)]


@dataclass(frozen=True)
class Order:
    """How the tables of a kernel line follow each other."""

    tables: Sequence[str]
    alignment: int
    absolute: bool = False
    """Offsets that are not negative are addresses."""


_ADDRESSES, _NAMES = ("offsets", "relative_base"), ("num_syms", "names", "markers")
_TOKEN_TABLES, _SORTED = ("token_table", "token_index"), ("seqs_of_names",)

ORDERS = {
    "v6.1": Order((*_ADDRESSES, *_NAMES, *_TOKEN_TABLES), 8, absolute=True),
    "v6.2": Order((*_ADDRESSES, *_NAMES, *_SORTED, *_TOKEN_TABLES), 8, absolute=True),
    "v6.4": Order((*_NAMES, *_TOKEN_TABLES, *_ADDRESSES, *_SORTED), 8, absolute=True),
    "v6.15": Order((*_NAMES, *_TOKEN_TABLES, *_ADDRESSES, *_SORTED), 4),
    "v7.0": Order((*_NAMES, *_TOKEN_TABLES, "offsets", *_SORTED), 4),
}


@dataclass
class Tables:
    """Memory that holds nothing but the tables."""

    data: bytearray = field(default_factory=bytearray)
    places: dict[str, int] = field(default_factory=dict)

    def read(self, address: int, size: int) -> bytes:
        start = address - START
        if start < 0 or start + size > len(self.data):
            raise ValueError("not in the dump")
        return bytes(self.data[start : start + size])

    def symbols(self) -> Mapping[str, int]:
        """What VMCOREINFO has."""
        left_out = ("markers", "seqs_of_names")
        known = {f"kallsyms_{k}": v for k, v in self.places.items() if k not in left_out}
        return {**known, "_stext": STEXT.address}


def tables_of(
    symbols: Sequence[KernelSymbol], order: Order, sorted_by: Callable[[str], str] = str
) -> Tables:
    """
    The tables of some symbols.

    :param symbols: In order of their addresses.
    :param sorted_by: What of a name decides its place among the others.
    """
    tables = Tables()
    names, markers = _names(symbols)
    by_name = sorted(range(len(symbols)), key=lambda n: sorted_by(symbols[n].name))
    contents = {
        "num_syms": struct.pack("<I", len(symbols)),
        "names": names,
        "markers": markers,
        "relative_base": struct.pack("<Q", TEXT),
        "seqs_of_names": b"".join(number.to_bytes(3, "big") for number in by_name),
        "token_table": b"\0".join(_TOKENS) + b"\0",
        "token_index": _token_index(),
    }
    for name in order.tables:
        tables.data += bytes(-len(tables.data) % order.alignment)
        tables.places[name] = START + len(tables.data)
        if name == "offsets":
            contents["offsets"] = _offsets(symbols, order, tables.places[name])
        tables.data += contents[name]
    tables.data += bytes(-len(tables.data) % 4096)
    return tables


def _offsets(symbols: Sequence[KernelSymbol], order: Order, start: int) -> bytes:
    if "relative_base" not in order.tables:
        offsets = [s.address - start - 4 * number for number, s in enumerate(symbols)]
    elif order.absolute:
        offsets = [TEXT - 1 - s.address if s.address >> 63 else s.address for s in symbols]
    else:
        offsets = [s.address - TEXT for s in symbols]
    return struct.pack(f"<{len(offsets)}i", *offsets)


def _names(symbols: Sequence[KernelSymbol]) -> tuple[bytes, bytes]:
    """The compressed names, and the markers of each block of 256."""
    data, markers = bytearray(), []
    for number, symbol in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(data))
        name = (symbol.type + symbol.name).encode()
        for code, token in _LONG_TOKENS.items():
            name = name.replace(token, bytes([code]))
        length = len(name)
        data += bytes([length] if length < 0x80 else [length & 0x7F | 0x80, length >> 7])
        data += name
    return bytes(data), struct.pack(f"<{len(markers)}I", *markers)


def _token_index() -> bytes:
    starts, position = [], 0
    for token in _TOKENS:
        starts.append(position)
        position += len(token) + 1
    return struct.pack("<256H", *starts)
