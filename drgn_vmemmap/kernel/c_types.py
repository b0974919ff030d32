# SPDX-License-Identifier: LGPL-2.1-or-later

"""C types as drgn has them: where members lie, and the values of enumerators."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import drgn

from drgn_vmemmap.kernel.structs import Member

# Unions within unions: struct page has them four deep.
_NESTING_LIMIT = 8

# struct task_struct has some 350, those of its unnamed members among them.
_MEMBERS_LIMIT = 4096

_COMPOUND = (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION)


def find_member(type_: drgn.Type, designator: str) -> Member | None:
    """
    Where a member such as ``flags.f`` lies, or ``None`` if the type has no such member.

    drgn's own search has no limit, and unnamed members of a damaged type can be of its own type.

    :raises ValueError: if the type has more members than any type of a kernel.
    """
    offset = 0
    for wanted in designator.split("."):
        members = _members(_resolved(type_), offset)
        found = next((each for each in members if each[0] == wanted), None)
        if found is None:
            return None
        _, member, offset = found
        type_ = member.type
    try:
        return _placed(type_, offset)
    except TypeError:
        return None  # of an incomplete type


def named_members(type_: drgn.Type) -> Iterator[tuple[str, Member]]:
    """
    Members of a type by their names, those of its unnamed members among them.

    :raises ValueError: if the type has more members than any type of a kernel.
    """
    for name, member, offset in _members(type_):
        # A folio has its struct pages as members, too.
        if member.type.type_name() != "struct page":
            yield name, _placed(member.type, offset)


def _members(type_: drgn.Type, start: int = 0) -> Iterator[tuple[str, drgn.TypeMember, int]]:
    """
    Members of a type by their names, those of its unnamed members among them.

    :param start: Where the type lies, in bytes.
    :return: Their names, themselves, and where they lie.
    :raises ValueError: if there are more than any type of a kernel has.
    """
    visited = count(1)

    def members(
        type_: drgn.Type, start: int, depth: int
    ) -> Iterator[tuple[str, drgn.TypeMember, int]]:
        if type_.kind not in _COMPOUND or depth > _NESTING_LIMIT:
            return
        for member in type_.members or ():
            if next(visited) > _MEMBERS_LIMIT:
                raise ValueError(f"{type_.type_name()} has more members than any type")
            offset = start + member.bit_offset // 8
            if member.name is None:
                yield from members(member.type, offset, depth + 1)
            else:
                yield member.name, member, offset

    return members(type_, start, 0)


def enumerators(prog: drgn.Program, type_name: str) -> dict[str, int]:
    """Values of an enumeration by their names; empty if this kernel has none of that name."""
    try:
        found = prog.type(type_name).enumerators or ()
    except LookupError:
        return {}
    return {enumerator.name: enumerator.value for enumerator in found}


def _placed(type_: drgn.Type, offset: int) -> Member:
    """A member of a type at an offset in bytes."""
    element, length = _resolved(type_), 1
    if element.kind == drgn.TypeKind.ARRAY:
        length, element = element.length or 0, element.type
    return Member(offset, drgn.sizeof(element), length)


def _resolved(type_: drgn.Type) -> drgn.Type:
    """A type without its typedefs."""
    while type_.kind == drgn.TypeKind.TYPEDEF:
        type_ = type_.type
    return type_
