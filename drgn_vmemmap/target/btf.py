# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Types without debuginfo: BTF, decoded lazily.

Follows ``include/uapi/linux/btf.h`` and ``Documentation/bpf/btf.rst`` of the
kernel. Types are not indexed: where they begin is found as far as it is needed. A type is built
when it is asked for, and the types of a structure's members when those are.
"""

from __future__ import annotations

import enum
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import drgn

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_MAGIC_SWAPPED = 0x9FEB
_VERSION = 1

_NAME_OFFSET, _INFO, _SIZE_OR_TYPE, _EXTRA = range(4)
"""32-bit words of a type; what its kind adds comes after them."""


class Kind(enum.IntEnum):
    """``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
"""Words that a kind adds to a type, once."""

_WORDS_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
"""Words that a kind adds to a type for each of its members."""

_QUALIFIERS = {
    Kind.CONST: drgn.Qualifiers.CONST,
    Kind.VOLATILE: drgn.Qualifiers.VOLATILE,
    Kind.RESTRICT: drgn.Qualifiers.RESTRICT,
}

_KINDS_BY_DRGN = {
    drgn.TypeKind.INT: (Kind.INT,),
    drgn.TypeKind.BOOL: (Kind.INT,),
    drgn.TypeKind.FLOAT: (Kind.FLOAT,),
    drgn.TypeKind.STRUCT: (Kind.STRUCT,),
    drgn.TypeKind.UNION: (Kind.UNION,),
    drgn.TypeKind.ENUM: (Kind.ENUM, Kind.ENUM64),
    drgn.TypeKind.TYPEDEF: (Kind.TYPEDEF,),
}

_INT_SIGNED = 1 << 0
_INT_BOOL = 1 << 2

# Qualifiers, typedefs and pointers nest a few deep in C; deeper is a circle.
_DEPTH_LIMIT = 64


# So many types show whether all are sorted by name.
_SORTED_SAMPLE = 64


class BtfError(Exception):
    """BTF that cannot be used; the message says why."""


class _Sizes(dict[int, int]):
    """How many words a type has, by its second one, of which there are few different ones."""

    def __missing__(self, info: int) -> int:
        """
        :raises ValueError: for a kind that is not known.
        """
        number = info >> 24 & 0x1F
        try:
            kind = Kind(number)
        except ValueError:
            raise ValueError(f"kind {number}, which is not known") from None
        each = _WORDS_EACH.get(kind, 0)
        size = self[info] = _EXTRA + _WORDS.get(kind, 0) + each * (info & 0xFFFF)
        return size


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
    """What the kind adds, as 32-bit words."""


class Btf:
    """A BTF blob."""

    def __init__(self, data: bytes) -> None:
        """
        :param data: The blob, from its header on.
        :raises BtfError: if it is cut off, of another byte order, or of a kind that is not known.
        """
        if len(data) < _HEADER.size:
            raise BtfError("it is cut off")
        magic, version, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(
            data
        )
        if magic == _MAGIC_SWAPPED:
            raise BtfError("it is of another byte order")
        if magic != _MAGIC or version != _VERSION:
            raise BtfError("it does not begin as BTF does")
        if max(types + types_size, strings + strings_size) + header > len(data) or types_size % 4:
            raise BtfError("it is cut off")
        self._bytes = data[header + types : header + types + types_size]
        self._words = array("I", self._bytes)
        self._strings = data[header + strings : header + strings + strings_size]
        self._sizes = _Sizes()
        self._starts = array("I", [0])
        """Index of the first word of each type that was reached; type 0 is void and has none."""
        self._reached = 0
        """Index of the first word that was not."""

    def _reach(self, type_id: int, position: int) -> None:
        """
        Find where types begin, one after the other, until a type and a word are reached.

        Types that are used often come first, so that most are never reached; since BTF is sorted
        by name (Linux 7.0), that is no longer so.

        :raises BtfError: if types are cut off, or of a kind that is not known.
        """
        words, sizes, starts = self._words, self._sizes, self._starts
        append, reached, end = starts.append, self._reached, len(words)
        try:
            while reached < end and (reached <= position or len(starts) <= type_id):
                size = sizes[words[reached + _INFO]]
                append(reached)
                reached += size
        except ValueError as error:
            raise BtfError(f"type {len(starts)} is of {error}") from None
        except IndexError:
            raise BtfError("it is cut off") from None
        if reached > end:
            raise BtfError("it is cut off")
        self._reached = reached

    def __len__(self) -> int:
        """How many types there are, void among them."""
        self._reach(0, len(self._words))
        return len(self._starts)

    def record(self, type_id: int) -> Record:
        """
        :raises BtfError: if there is no such type.
        """
        self._reach(type_id, -1)
        if not 0 < type_id < len(self._starts):
            raise BtfError(f"it refers to type {type_id}, which it does not have")
        start = self._starts[type_id]
        info = self._words[start + _INFO]
        end = start + self._sizes[info]
        return Record(
            id=type_id,
            kind=Kind(info >> 24 & 0x1F),
            name=self.string(self._words[start + _NAME_OFFSET]),
            flag=bool(info >> 31),
            size_or_type=self._words[start + _SIZE_OR_TYPE],
            words=self._words[start + _EXTRA : end],
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
        return (record for record in self._search_sorted(name) if record.kind in kinds)

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

    def _search_sorted(self, name: str) -> Iterator[Record]:
        """Types of a name, where types are sorted by name."""
        wanted, end = name.encode(), len(self)
        named = range(self._first_named or 1, end)
        for type_id in range(_first(named, lambda other: self._name(other) >= wanted), end):
            if self._name(type_id) != wanted:
                break
            yield self.record(type_id)

    def _search(self, name: str, kinds: Collection[Kind]) -> Iterator[Record]:
        """Types of a name and of some kinds, where they are in no order."""
        for position in self._mentions(name):
            # The number of a type, which is here in a member or parameter, has no kind.
            if self._words[position + _INFO] >> 24 & 0x1F in kinds:
                record = self._record_at(position)
                if self._starts[record.id] == position:
                    yield record

    def find_enumerator(self, name: str) -> Record | None:
        """The enumeration that has an enumerator of a name."""
        for position in self._mentions(name):
            record = self._record_at(position)
            index = position - self._starts[record.id] - _EXTRA
            each = _WORDS_EACH.get(record.kind, 1)
            is_enum = record.kind in (Kind.ENUM, Kind.ENUM64)
            if is_enum and index >= 0 and index % each == 0:
                return record
        return None

    def _mentions(self, name: str) -> Iterator[int]:
        """Where the types have a name, which the string table has at most once."""
        offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        return self._positions(offset) if offset else iter(())

    def _name(self, type_id: int) -> bytes:
        """A type's name; empty if it has none."""
        offset = self._words[self._starts[type_id] + _NAME_OFFSET]
        return self._strings[offset : self._strings.find(b"\0", offset)]

    def _positions(self, word: int) -> Iterator[int]:
        """Where a word is among those of the types, the last one left out."""
        data, end = word.to_bytes(4, "little"), len(self._bytes) - 4
        position = self._bytes.find(data, 0, end)
        while position >= 0:
            if position % 4 == 0:
                yield position // 4
            position = self._bytes.find(data, position + 1, end)

    def _record_at(self, position: int) -> Record:
        """The type that a word belongs to."""
        self._reach(0, position)
        return self.record(bisect_right(self._starts, position, 1) - 1)


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


class BtfTypes:
    """drgn's types of a program, made from BTF."""

    def __init__(self, prog: drgn.Program, btf: Btf) -> None:
        self._prog = prog
        self._btf = btf
        self._types: dict[int, drgn.Type] = {}
        self._depth = 0
        self._makers: Mapping[Kind, Callable[[Record], drgn.Type]] = {
            Kind.INT: self._int,
            Kind.PTR: lambda record: prog.pointer_type(self.type(record.size_or_type)),
            Kind.ARRAY: lambda record: prog.array_type(self.type(record.words[0]), record.words[2]),
            Kind.STRUCT: lambda record: self._compound(record, prog.struct_type),
            Kind.UNION: lambda record: self._compound(record, prog.union_type),
            Kind.ENUM: self._enum,
            Kind.ENUM64: self._enum,
            Kind.FWD: self._forward,
            Kind.TYPEDEF: lambda record: prog.typedef_type(
                record.name, self.type(record.size_or_type)
            ),
            Kind.FUNC: lambda record: self.type(record.size_or_type),
            Kind.FUNC_PROTO: self._function,
            Kind.VAR: lambda record: self.type(record.size_or_type),
            Kind.FLOAT: lambda record: prog.float_type(record.name, record.size_or_type),
            Kind.TYPE_TAG: lambda record: self.type(record.size_or_type),
            **dict.fromkeys(_QUALIFIERS, self._qualified),
        }

    def find_type(
        self, prog: drgn.Program, kinds: drgn.TypeKindSet, name: str, filename: str | None
    ) -> drgn.Type | None:
        """A type finder for :meth:`drgn.Program.register_type_finder()`."""
        if filename:
            return None
        wanted = {kind for of_drgn in kinds for kind in _KINDS_BY_DRGN.get(of_drgn, ())}
        for record in self._btf.find(name, wanted):
            type_ = self.type(record.id)
            if type_.kind in kinds:
                return type_
        return None

    def variable_type(self, name: str) -> drgn.Type | None:
        """Type of a variable or function, for those that BTF knows."""
        for record in self._btf.find(name, (Kind.VAR, Kind.FUNC)):
            return self.type(record.id)
        return None

    def enumerator(self, name: str) -> drgn.Object | None:
        """A constant of an enumeration, wherever it is."""
        record = self._btf.find_enumerator(name)
        if record is None:
            return None
        type_ = self.type(record.id)
        values = {enumerator.name: enumerator.value for enumerator in type_.enumerators or ()}
        return drgn.Object(self._prog, type_, values[name])

    def type(self, type_id: int) -> drgn.Type:
        """
        :raises BtfError: if BTF contradicts itself.
        """
        if type_id == 0:
            return self._prog.void_type()
        if type_id not in self._types:
            record = self._btf.record(type_id)
            self._depth += 1
            try:
                if self._depth > _DEPTH_LIMIT:
                    raise BtfError(f"type {type_id} is made of itself")
                self._types[type_id] = self._makers[record.kind](record)
            except KeyError:
                raise BtfError(f"type {type_id} ({record.kind.name}) is used as a type") from None
            except (ValueError, TypeError, OverflowError) as error:
                raise BtfError(f"type {type_id} contradicts itself ({error})") from None
            finally:
                self._depth -= 1
        return self._types[type_id]

    def _int(self, record: Record) -> drgn.Type:
        encoding = record.words[0] >> 24
        if encoding & _INT_BOOL:
            return self._prog.bool_type(record.name, record.size_or_type)
        signed = bool(encoding & _INT_SIGNED)
        return self._prog.int_type(record.name, record.size_or_type, signed)

    def _compound(self, record: Record, make: Callable[..., drgn.Type]) -> drgn.Type:
        words = record.words
        return make(
            record.name or None,
            record.size_or_type,
            [self._member(record, *words[index : index + 3]) for index in range(0, len(words), 3)],
        )

    def _member(self, record: Record, name: int, type_id: int, offset: int) -> drgn.TypeMember:
        # With kind_flag, the upper 8 bits of the offset are the size of a bit field.
        bits = offset >> 24 if record.flag else 0
        member: Callable[[], drgn.Type | drgn.Object] = self._lazily(type_id)
        if bits:
            member = self._lazily_bit_field(type_id, bits)
        bit_offset = offset & 0xFFFFFF if record.flag else offset
        return drgn.TypeMember(member, self._btf.string(name) or None, bit_offset)

    def _enum(self, record: Record) -> drgn.Type:
        size = record.size_or_type
        integer = self._prog.int_type("int" if record.flag else "unsigned int", size, record.flag)
        each = _WORDS_EACH[record.kind]
        enumerators = []
        for index in range(0, len(record.words), each):
            name, *parts = record.words[index : index + each]
            value = sum(part << 32 * position for position, part in enumerate(parts))
            width = 32 * len(parts)
            if record.flag and value >> (width - 1):
                value -= 1 << width
            enumerators.append(drgn.TypeEnumerator(self._btf.string(name), value))
        return self._prog.enum_type(record.name or None, integer, enumerators)

    def _forward(self, record: Record) -> drgn.Type:
        # kind_flag tells a union from a structure.
        if record.flag:
            return self._prog.union_type(record.name)
        return self._prog.struct_type(record.name)

    def _function(self, record: Record) -> drgn.Type:
        pairs = [record.words[index : index + 2] for index in range(0, len(record.words), 2)]
        # A last parameter without name and type says that more may follow.
        variadic = bool(pairs) and not any(pairs[-1])
        return self._prog.function_type(
            self.type(record.size_or_type),
            [
                drgn.TypeParameter(self._lazily(type_id), self._btf.string(name) or None)
                for name, type_id in (pairs[:-1] if variadic else pairs)
            ],
            variadic,
        )

    def _lazily(self, type_id: int) -> Callable[[], drgn.Type]:
        return lambda: self.type(type_id)

    def _lazily_bit_field(self, type_id: int, bits: int) -> Callable[[], drgn.Object]:
        return lambda: drgn.Object(self._prog, self.type(type_id), bit_field_size=bits)

    def _qualified(self, record: Record) -> drgn.Type:
        type_ = self.type(record.size_or_type)
        return type_.qualified(type_.qualifiers | _QUALIFIERS[record.kind])
