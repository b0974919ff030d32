# SPDX-License-Identifier: LGPL-2.1-or-later

"""C types as drgn has them: where members lie, and the values of enumerators."""

from __future__ import annotations

from collections.abc import Iterator

import drgn

from drgn_vmemmap.kernel.structs import Member

# Unions within unions: struct page has them four deep.
_NESTING_LIMIT = 8


def find_member(prog: drgn.Program, type_: drgn.Type, designator: str) -> Member | None:
    """Where a member such as ``flags.f`` lies, or ``None`` if the type has no such member."""
    place = drgn.Object(prog, type_, address=0)
    try:
        for name in designator.split("."):
            place = place.member_(name)
        return _placed(place.type_, place.address_ or 0)
    except (LookupError, TypeError):
        return None


def named_members(type_: drgn.Type, start: int = 0, depth: int = 0) -> Iterator[tuple[str, Member]]:
    """
    Members of a type by their names, those of its unnamed members among them.

    :param start: Offset in bytes of the type.
    :param depth: How many unnamed members it lies in.
    """
    for member in type_.members or ():
        offset = start + member.bit_offset // 8
        element = member.type
        if member.name is None:
            if depth < _NESTING_LIMIT:
                yield from named_members(element, offset, depth + 1)
        # A folio has its struct pages as members, too.
        elif element.type_name() != "struct page":
            yield member.name, _placed(element, offset)


def enumerators(prog: drgn.Program, type_name: str) -> dict[str, int]:
    """Values of an enumeration by their names; empty if this kernel has none of that name."""
    try:
        found = prog.type(type_name).enumerators or ()
    except LookupError:
        return {}
    return {enumerator.name: enumerator.value for enumerator in found}


def _placed(type_: drgn.Type, offset: int) -> Member:
    """A member of a type at an offset in bytes."""
    element, length = type_, 1
    while element.kind == drgn.TypeKind.TYPEDEF:
        element = element.type
    if element.kind == drgn.TypeKind.ARRAY:
        length, element = element.length or 0, element.type
    return Member(offset, drgn.sizeof(element), length)
