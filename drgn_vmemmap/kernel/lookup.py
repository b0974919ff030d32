# SPDX-License-Identifier: LGPL-2.1-or-later

"""Looks up what a kernel may or may not have: variables, flags, types and members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingFacts, MissingMemory
from drgn_vmemmap.kernel.c_types import enumerators, find_member
from drgn_vmemmap.kernel.structs import Struct
from drgn_vmemmap.kernel.unrecognised import Part, Unrecognised
from drgn_vmemmap.target.memory import ProgramMemory

IMAGE_BASE = 0xFFFFFFFF80000000
"""``__START_KERNEL_map``: the image is mapped from here, ``phys_base`` further on in memory."""

# The largest structure that is looked up is struct pglist_data, of 1,024 nodes.
_STRUCT_LIMIT = 1 << 22

# Enumerators that are looked up are numbers of bits, zones or destructors.
_ENUMERATOR_LIMIT = 63


class Lookup:
    """
    The names of one kernel.

    Its methods raise :class:`drgn.FaultError` where memory that is needed is not in the dump.
    """

    def __init__(self, prog: drgn.Program, vmcoreinfo: Mapping[str, str]) -> None:
        """
        :param prog: Any target of drgn, with types.
        :param vmcoreinfo: Its VMCOREINFO, by key.
        """
        self.prog = prog
        self.vmcoreinfo = vmcoreinfo
        self.unrecognised: list[Unrecognised] = []
        """Parts that each known kernel has and this one lacks."""

    def lacks(self, part: Part, names: str) -> None:
        """Note that names that each known kernel has were not recognised."""
        self.unrecognised.append(Unrecognised(part, names))

    def number(self, name: str) -> int:
        """
        A ``NUMBER()`` of VMCOREINFO; 0 if it is not there.

        :raises MissingFacts: if it is no number.
        """
        try:
            return int(self.vmcoreinfo.get(f"NUMBER({name})", "0"))
        except ValueError:
            raise MissingFacts(f"VMCOREINFO's {name} is no number: damaged dump") from None

    def address(self, name: str) -> int | None:
        """Virtual address of a variable; ``None`` if this kernel has none of that name."""
        try:
            address: int | None = self.prog.variable(name).address_
            return address
        except LookupError:
            pass
        try:
            return int(self.prog.symbol(name).address)
        except LookupError:
            return None

    def has_any(self, *names: str) -> bool:
        """Whether this kernel has one of some variables."""
        return any(self.address(name) is not None for name in names)

    def variable(self, name: str, size: int) -> int | None:
        """Value of an unsigned variable of *size* bytes; ``None`` if there is none."""
        address = self.address(name)
        if address is None:
            return None
        return int.from_bytes(self.prog.read(address, size), "little")

    def recorded(self, name: str, size: int) -> int | None:
        """
        Value of an unsigned variable in the kernel's image.

        :param size: In bytes.
        :return: ``None`` if there is none, or if it is not in the dump.
        """
        address = self.address(name)
        if address is None:
            return None
        # Where a page is not in the dump, drgn is not asked for it: see target/recorded_pages.py.
        physical = address - IMAGE_BASE + self.number("phys_base")
        try:
            return int.from_bytes(ProgramMemory(self.prog).read(physical, size), "little")
        except MissingMemory:
            return None

    def has_type(self, name: str) -> bool:
        """Whether this kernel has a type."""
        try:
            self.prog.type(name)
        except LookupError:
            return False
        return True

    def constant(self, name: str, default: int) -> int:
        """
        Value of an enumerator that is a small number, whichever enumeration has it.

        :raises CannotAnalyse: if it is larger than the number of a bit can be.
        """
        try:
            return _checked(name, int(self.prog.constant(name)))
        except LookupError:
            return default

    def flag(self, bit_name: str) -> int:
        """Mask of the flag whose bit number is an enumerator; 0 if there is none."""
        bit = self.constant(bit_name, -1)
        return 0 if bit < 0 else 1 << bit

    def page_flag(self, name: str) -> int:
        """Mask of one of a page's flags; 0 if this kernel does not have it."""
        bit = self._page_flags.get(name)
        return 0 if bit is None else 1 << bit

    @cached_property
    def _page_flags(self) -> dict[str, int]:
        return self.enumerators("enum pageflags")

    def enumerators(self, type_name: str) -> dict[str, int]:
        """
        Values of an enumeration of small numbers, by name; empty if this kernel does not have it.

        :raises CannotAnalyse: if one is larger than the number of a bit can be.
        """
        found = enumerators(self.prog, type_name)
        return {name: _checked(name, value) for name, value in found.items()}

    def struct(
        self,
        type_name: str,
        optional: Sequence[str] = (),
        parts: Mapping[str, Sequence[Part]] = MappingProxyType({}),
        **members: Sequence[str],
    ) -> Struct:
        """
        :param members: For each name of ours, the kernels' designators, newest first.
        :param optional: Names of ours whose members some known kernels lack.
        :param parts: Names of ours that the analysis can do without, and what they stand for.
        :raises CannotAnalyse: if the structure, or another member, is missing.
        """
        found = {}
        try:
            type_ = self.prog.type(type_name)
        except LookupError:
            raise CannotAnalyse(f"this kernel has no {type_name}: it is not supported") from None
        for name, designators in members.items():
            places = (find_member(type_, designator) for designator in designators)
            member = next(filter(None, places), None)
            if member is not None:
                found[name] = member
            elif name in parts:
                for part in parts[name]:
                    self.lacks(part, f"{' or '.join(designators)} in {type_name}")
            elif name not in optional:
                raise not_supported(type_name, *designators)
        size = type_.size or 0
        if not 0 < size <= _STRUCT_LIMIT or any(member.end > size for member in found.values()):
            raise CannotAnalyse(f"{type_name} is {size} bytes, which is impossible: damaged types")
        return Struct(size, found)


def _checked(name: str, value: int) -> int:
    """
    :raises CannotAnalyse: if an enumerator is larger than the number of a bit can be.
    """
    if value > _ENUMERATOR_LIMIT:
        raise CannotAnalyse(f"{name} is {value}, which is impossible: damaged types")
    return value


def not_supported(where: str, *names: str) -> CannotAnalyse:
    """The error for a kernel that has none of some names, one of which each known kernel has."""
    return CannotAnalyse(f"this kernel's {where} has no {' or '.join(names)}: it is not supported")
