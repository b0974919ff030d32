# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Types without debuginfo: BTF, decoded lazily.

Follows ``include/uapi/linux/btf.h`` and ``Documentation/bpf/btf.rst`` of the
kernel. Opening BTF finds out where each type begins; a type is built when it
is asked for, and the types of a structure's members when those are.
"""

from __future__ import annotations

import enum
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import drgn

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_MAGIC_SWAPPED = 0x9FEB
_VERSION = 1

_NAME_OFFSET, _INFO, _SIZE_OR_TYPE, _EXTRA = range(4)
"""32-bit words of a type; what its kind adds comes behind."""


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


class BtfError(Exception):
    """BTF that cannot be used; the message says why."""


class _Sizes(dict[int, int]):
    """How many words a type has, by its second one; there are few of them."""

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
        self._words = array("I", data[header + types : header + types + types_size])
        self._strings = data[header + strings : header + strings + strings_size]
        self._starts = self._find_starts()
        # Name of each type, as an offset of the string table: searched as bytes, all at once.
        names = array("I", [0, *map(self._words.__getitem__, self._starts[1:])])
        self._names = names.tobytes()

    def _find_starts(self) -> array[int]:
        """Index of the first word of each type; type 0 is void and has none."""
        words, sizes = self._words, _Sizes()
        starts = array("I", [0])
        append = starts.append
        position, end = 0, len(words)
        try:
            while position < end:
                append(position)
                position += sizes[words[position + _INFO]]
        except ValueError as error:
            raise BtfError(f"type {len(starts) - 1} is of {error}") from None
        except IndexError:
            raise BtfError("it is cut off") from None
        if position != end:
            raise BtfError("it is cut off")
        return starts

    def __len__(self) -> int:
        """How many types there are, void among them."""
        return len(self._starts)

    def record(self, type_id: int) -> Record:
        """
        :raises BtfError: if there is no such type.
        """
        if not 0 < type_id < len(self._starts):
            raise BtfError(f"it refers to type {type_id}, which it does not have")
        start = self._starts[type_id]
        end = self._starts[type_id + 1] if type_id + 1 < len(self._starts) else len(self._words)
        info = self._words[start + _INFO]
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

    def find(self, name: str) -> Iterator[Record]:
        """Types of a name, whatever their kinds."""
        wanted = b"\0" + name.encode() + b"\0"
        position = self._strings.find(wanted)
        while position >= 0:
            for type_id in self._named(position + 1):
                yield self.record(type_id)
            position = self._strings.find(wanted, position + 1)

    def find_enumerator(self, name: str) -> Record | None:
        """The enumeration that has an enumerator of a name."""
        name_offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        if name_offset:
            for position in _positions(self._words.tobytes(), name_offset):
                record = self.record(max(1, bisect_right(self._starts, position, 1) - 1))
                index = position - self._starts[record.id] - _EXTRA
                each = _WORDS_EACH.get(record.kind, 1)
                is_enum = record.kind in (Kind.ENUM, Kind.ENUM64)
                if is_enum and index >= 0 and index % each == 0:
                    return record
        return None

    def _named(self, name_offset: int) -> Iterator[int]:
        """IDs of the types whose name is at an offset of the string table."""
        return _positions(self._names, name_offset)


def _positions(words: bytes, wanted: int) -> Iterator[int]:
    """Indices at which a word is among 32-bit words."""
    data = wanted.to_bytes(4, "little")
    position = words.find(data)
    while position >= 0:
        if position % 4 == 0:
            yield position // 4
        position = words.find(data, position + 1)


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
        for record in self._btf.find(name):
            if record.kind in wanted:
                type_ = self.type(record.id)
                if type_.kind in kinds:
                    return type_
        return None

    def variable_type(self, name: str) -> drgn.Type | None:
        """Type of a variable or function, for those that BTF knows."""
        for record in self._btf.find(name):
            if record.kind in (Kind.VAR, Kind.FUNC):
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
