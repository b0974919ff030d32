# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Where x86-64 puts its regions of memory, unless ``CONFIG_RANDOMIZE_MEMORY`` moves them.

Follows ``Documentation/arch/x86/x86_64/mm.rst``; what is moved, and between which ends,
``arch/x86/mm/kaslr.c``.
"""

from __future__ import annotations

from typing import NamedTuple


class Region(NamedTuple):
    """A region of the kernel's virtual memory."""

    name: str
    start: int
    """First virtual address in bytes."""
    end: int
    """The address after its last one."""


VMEMMAP = "the vmemmap"

_FIXED = (
    Region("the CPU entry areas", 0xFFFFFE0000000000, 0xFFFFFE8000000000),
    Region("the kernel's image", 0xFFFFFFFF80000000, 0xFFFFFFFFC0000000),
    Region("the modules", 0xFFFFFFFFC0000000, 0xFFFFFFFFFF000000),
)

_REGIONS = {
    4: (
        Region("the direct map", 0xFFFF888000000000, 0xFFFFC88000000000),
        Region("vmalloc memory", 0xFFFFC90000000000, 0xFFFFE90000000000),
        Region(VMEMMAP, 0xFFFFEA0000000000, 0xFFFFEB0000000000),
        Region("KASAN's shadow", 0xFFFFEC0000000000, 0xFFFFFC0000000000),
        *_FIXED,
    ),
    5: (
        Region("the direct map", 0xFF11000000000000, 0xFF91000000000000),
        Region("vmalloc memory", 0xFFA0000000000000, 0xFFD2000000000000),
        Region(VMEMMAP, 0xFFD4000000000000, 0xFFD6000000000000),
        Region("KASAN's shadow", 0xFFDF000000000000, 0xFFFFFC0000000000),
        *_FIXED,
    ),
}


MOVED_END = _FIXED[0].start
"""The address after all regions that KASLR moves."""


def default_region(address: int, levels: int) -> Region | None:
    """
    The region that an address is in where nothing is moved.

    :param levels: Of the page tables: 4 or 5.
    """
    regions = (region for region in _REGIONS[levels] if region.start <= address < region.end)
    return next(regions, None)


def vmemmap_start(levels: int) -> int:
    """Where the vmemmap begins if nothing is moved."""
    return next(region.start for region in _REGIONS[levels] if region.name == VMEMMAP)


def may_be_moved(address: int, levels: int) -> bool:
    """Whether regions that KASLR moves can be there."""
    return _REGIONS[levels][0].start <= address < MOVED_END
