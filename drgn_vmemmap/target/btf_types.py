# SPDX-License-Identifier: LGPL-2.1-or-later

"""
drgn's types, made from BTF.

A type is built when it is asked for, and the types of a structure's members when those are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import drgn

from drgn_vmemmap.target.btf import Btf, Record
from drgn_vmemmap.target.btf_kinds import WORDS_EACH, BtfError, Kind

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


# What drgn raises for types and objects that cannot exist.
_REFUSED = (ValueError, TypeError, OverflowError)


def _contradicts_itself(type_id: int, error: Exception) -> BtfError:
    return BtfError(f"type {type_id} contradicts itself ({error})")


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
        try:
            return drgn.Object(self._prog, type_, values[name])
        except _REFUSED as error:
            raise _contradicts_itself(record.id, error) from None

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
            except _REFUSED as error:
                raise _contradicts_itself(type_id, error) from None
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
        bit_offset = offset & 0xFFFFFF if record.flag else offset
        member = self._lazily(type_id, bits or None)
        return drgn.TypeMember(member, self._btf.string(name) or None, bit_offset)

    def _enum(self, record: Record) -> drgn.Type:
        size = record.size_or_type
        integer = self._prog.int_type("int" if record.flag else "unsigned int", size, record.flag)
        each = WORDS_EACH[record.kind]
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
        # kind_flag distinguishes a union from a structure.
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

    def _lazily(self, type_id: int, bits: int | None = None) -> Callable[[], drgn.Object]:
        """
        A function that makes a member or parameter when drgn asks for it.

        It raises :class:`BtfError` if there can be none of its type.

        :param bits: Size of a bit field; ``None`` for anything else.
        """

        def member() -> drgn.Object:
            try:
                return drgn.Object(self._prog, self.type(type_id), bit_field_size=bits)
            except _REFUSED as error:
                raise _contradicts_itself(type_id, error) from None

        return member

    def _qualified(self, record: Record) -> drgn.Type:
        type_ = self.type(record.size_or_type)
        return type_.qualified(type_.qualifiers | _QUALIFIERS[record.kind])
