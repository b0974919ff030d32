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

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE

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
    for index, data in _roots(kernel, walker):
        first = index * per_root
        if data is None:
            # What is not memory for certain is not missed.
            end = min((first + per_root) * facts.pages, facts.memory_end)
            if first * facts.pages < end:
                yield MissingSections(range(first * facts.pages, end))
            continue
        start = first * facts.pages
        for flags in facts.section.column(data, "section_mem_map"):
            if flags & _MARKED_PRESENT and flags & _HAS_MEM_MAP:
                yield Section(range(start, start + facts.pages), flags)
            start += facts.pages


def _roots(kernel: Kernel, walker: Walker) -> Iterator[tuple[int, bytes | None]]:
    """Index and bytes of each page of sections; ``None`` for one that is not in the dump."""
    facts = kernel.sections
    for start in range(0, facts.root_count, PAGE_SIZE // 8):
        indices = range(start, min(start + PAGE_SIZE // 8, facts.root_count))
        try:
            data = walker.read(facts.roots + start * 8, len(indices) * 8)
        except MissingMemory:
            yield from ((index, None) for index in indices)
            continue
        if data == bytes(len(data)):
            continue
        for index, (root,) in zip(indices, struct.iter_unpack("<Q", data)):
            if root:
                try:
                    yield index, walker.read(root, PAGE_SIZE)
                except MissingMemory:
                    yield index, None
