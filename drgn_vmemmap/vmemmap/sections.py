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
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_MARKED_PRESENT = 1 << 0
_HAS_MEM_MAP = 1 << 1


class Section(NamedTuple):
    """A piece of physical memory that has a memmap."""

    pfns: range
    flags: int
    """Raw ``section_mem_map``: flags in its low bits."""


class MissingSections(NamedTuple):
    """Sections that may have a memmap: their ``struct mem_section`` is not in the dump."""

    pfns: range


def present_sections(snapshot: Snapshot) -> Iterator[Section | MissingSections]:
    """The sections that have a memmap, in ascending order of PFN."""
    facts = snapshot.kernel.sections
    per_root = snapshot.geometry.page_size // facts.section.size
    for index, data in _roots(snapshot):
        first = index * per_root
        if data is None:
            # Only what is certainly memory is missing.
            end = min((first + per_root) * facts.pages, facts.memory_end)
            if first * facts.pages < end:
                yield MissingSections(range(first * facts.pages, end))
            continue
        start = first * facts.pages
        for flags in facts.section.column(data, "section_mem_map"):
            if flags & _MARKED_PRESENT and flags & _HAS_MEM_MAP:
                yield Section(range(start, start + facts.pages), flags)
            start += facts.pages


def _roots(snapshot: Snapshot) -> Iterator[tuple[int, bytes | None]]:
    """Index and bytes of each page of sections; ``None`` for one that is not in the dump."""
    facts, page_size = snapshot.kernel.sections, snapshot.geometry.page_size
    for start in range(0, facts.root_count, page_size // 8):
        indices = range(start, min(start + page_size // 8, facts.root_count))
        try:
            data = snapshot.read(facts.roots + start * 8, len(indices) * 8)
        except MissingMemory:
            yield from ((index, None) for index in indices)
            continue
        if data == bytes(len(data)):
            continue
        for index, (root,) in zip(indices, struct.iter_unpack("<Q", data)):
            if root:
                try:
                    yield index, snapshot.read(root, page_size)
                except MissingMemory:
                    yield index, None
