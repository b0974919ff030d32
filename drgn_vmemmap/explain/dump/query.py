# SPDX-License-Identifier: LGPL-2.1-or-later

"""Queries: addresses and frames to be explained, as people and oopses write them."""

from __future__ import annotations

import re
from typing import NamedTuple

from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT

_QUERY = re.compile(r"(?:(pfn|phys):)?(0x)?([0-9a-f]{1,16})", re.IGNORECASE)

# An oops writes all 16 digits of an address; a number with much fewer may be anything.
_ADDRESS_DIGITS = 12
_ALL_DIGITS = 16


class Query(NamedTuple):
    """An address or a frame that is to be explained."""

    text: str
    """As it was given."""
    address: int | None
    """A virtual address in bytes."""
    physical: int | None
    """A physical address in bytes."""

    @classmethod
    def of_address(cls, address: int) -> Query:
        """A virtual address in bytes."""
        return cls(f"{address:#x}", address, None)

    @classmethod
    def of_physical(cls, physical: int) -> Query:
        """A physical address in bytes."""
        return cls(f"phys:{physical:#x}", None, physical)

    @classmethod
    def of_pfn(cls, pfn: int) -> Query:
        """A frame."""
        return cls(f"pfn:{pfn:#x}", None, pfn << PAGE_SHIFT)


def parse(text: str) -> Query:
    """
    :param text: ``pfn:0x2c00``, ``phys:0x2c00000``, or a virtual address with or without ``0x``.
    :raises ValueError: if it is none of them, or can be read in two ways; the message says so.
    """
    match = _QUERY.fullmatch(text)
    if match is None:
        raise ValueError(_no_address(text))
    kind, is_hex, digits = match[1], match[2], match[3]
    value = int(digits, 16)
    if kind is None:
        if not is_hex and len(digits) < _ADDRESS_DIGITS:
            raise ValueError(_no_address(text))
        if not is_hex and len(digits) < _ALL_DIGITS and digits.lower().startswith("ff"):
            raise ValueError(
                f"{text!r} has {len(digits)} of the {_ALL_DIGITS} digits of a kernel address: the "
                "rest was cut off"
            )
        return Query(text, value, None)
    # The kernel's log has PFNs in hex without 0x, and reports for machines have them in decimal.
    if not is_hex and digits.isdecimal() and digits[0] != "0" and int(digits) != value:
        raise ValueError(
            f"{text!r} can be hex or decimal: give {kind}:{value:#x} or {kind}:{int(digits):#x}"
        )
    physical = value << PAGE_SHIFT if kind.lower() == "pfn" else value
    if physical >> x86_64.PHYSICAL_BITS:
        raise ValueError(
            f"{text!r} is beyond the {x86_64.PHYSICAL_BITS} bits of physical addresses"
        )
    return Query(text, None, physical)


def _no_address(text: str) -> str:
    return (
        f"{text!r} is no address: give pfn:0x..., phys:0x..., or a virtual address in hex, "
        "with 0x or all of its 16 digits"
    )
