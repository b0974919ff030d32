# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The memmap: which PFNs it describes, section by section.

Follows ``struct mem_section`` of ``include/linux/mmzone.h`` with
``CONFIG_SPARSEMEM_EXTREME``, as x86-64 always has it: an array of pointers to
roots, each a page of sections.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.kernel import Kernel
from drgn_vmemmap.memory import MissingMemory
from drgn_vmemmap.pagetable import Walker
from drgn_vmemmap.x86_64 import PAGE_SIZE

_MARKED_PRESENT = 1 << 0
_HAS_MEM_MAP = 1 << 1


class Section(NamedTuple):
    """A piece of physical memory that has a memmap."""

    pfns: range
    flags: int
    """Raw ``section_mem_map``: flags in its low bits."""


class MissingSections(NamedTuple):
    """Sections whose presence the dump does not tell."""

    pfns: range


def present_sections(kernel: Kernel, walker: Walker) -> Iterator[Section | MissingSections]:
    """The sections that have a memmap, in ascending order of PFN."""
    facts = kernel.sections
    per_root = PAGE_SIZE // facts.section.size
    count = -(-kernel.paging.max_pfn // facts.pages)
    for first in range(0, count, per_root):
        numbers = range(first, min(first + per_root, count))
        pfns = range(numbers[0] * facts.pages, (numbers[-1] + 1) * facts.pages)
        try:
            data = _root(kernel, walker, first // per_root)
        except MissingMemory:
            yield MissingSections(pfns)
            continue
        for number, start in zip(numbers, range(0, len(data), facts.section.size)):
            flags = facts.section.value(data[start:], "section_mem_map")
            if flags & _MARKED_PRESENT and flags & _HAS_MEM_MAP:
                yield Section(range(number * facts.pages, (number + 1) * facts.pages), flags)


def _root(kernel: Kernel, walker: Walker, index: int) -> bytes:
    """One page of sections; empty if there is none."""
    facts = kernel.sections
    (root,) = struct.unpack("<Q", walker.read(facts.roots + index * 8, 8))
    return walker.read(root, PAGE_SIZE) if root else b""
