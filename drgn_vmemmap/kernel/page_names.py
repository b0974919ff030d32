# SPDX-License-Identifier: LGPL-2.1-or-later

"""The kernel's own names of what is in a struct page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import drgn

from drgn_vmemmap.kernel.c_types import enumerators, named_members
from drgn_vmemmap.kernel.structs import Member
from drgn_vmemmap.target.btf_kinds import BtfError


class PageNames(NamedTuple):
    """The kernel's own names of what is in a struct page."""

    page: Sequence[tuple[str, Member]]
    """Members of ``struct page``, those of its unions among them."""
    folio: Sequence[tuple[str, Member]]
    """Members of ``struct folio``, which lies over a folio's first struct pages."""
    flags: Sequence[tuple[int, str]] = ()
    """Bits of the flags and their names, those of ``enum pageflags`` without ``PG_``."""

    def at(self, offset: int) -> list[str]:
        """Names of the members of a struct page that a byte belongs to."""
        return [name for name, member in self.page if member.covers(offset)]

    def in_folio(self, offset: int) -> list[str]:
        """
        Names of the members of a folio that a byte belongs to.

        :param offset: In bytes, from its head page on.
        """
        return [name for name, member in self.folio if member.covers(offset)]


def page_names(prog: drgn.Program) -> PageNames:
    """
    What the kernel calls the members of its struct pages; nothing where its types are damaged.

    :param prog: A program that ``discover()`` has been given.
    """
    return PageNames(
        _members(prog, "struct page"),
        _members(prog, "struct folio"),
        _flag_names(prog),
    )


def _members(prog: drgn.Program, type_name: str) -> list[tuple[str, Member]]:
    try:
        return list(named_members(prog.type(type_name)))
    except (LookupError, TypeError, ValueError, BtfError):
        return []  # before v5.16, there is no struct folio


def _flag_names(prog: drgn.Program) -> list[tuple[int, str]]:
    """Bits of the flags and their names: the first one where a bit has several."""
    bits: dict[int, str] = {}
    try:
        flags = enumerators(prog, "enum pageflags")
    except (TypeError, BtfError):
        return []
    for name, value in flags.items():
        if name.startswith("PG_"):
            bits.setdefault(value, name.removeprefix("PG_"))
    return sorted(bits.items())
