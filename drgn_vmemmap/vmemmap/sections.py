# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The memmap: which PFNs it describes, section by section.

Follows ``struct mem_section`` of ``include/linux/mmzone.h`` with
``CONFIG_SPARSEMEM_EXTREME``, as x86-64 always has it: an array of pointers to
roots, each a page of sections.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_MARKED_PRESENT = 1 << 0
_HAS_MEM_MAP = 1 << 1

# SUBSECTION_SHIFT of include/linux/mmzone.h: 2 MiB, here in pages.
_SUBSECTION_SHIFT = 9


class Section(NamedTuple):
    """A piece of physical memory that has a memmap."""

    pfns: range
    flags: int
    """Raw ``section_mem_map``: flags in its low bits."""
    parts: Sequence[range] | None = None
    """PFNs that have a memmap, ascending; ``None`` if that is not in the dump."""


class MissingSections(NamedTuple):
    """Sections that may have a memmap: their ``struct mem_section`` is not in the dump."""

    pfns: range
    """What a message names: of sections that may not exist, those below ``max_pfn``."""
    described: range
    """All PFNs that they would describe."""


def present_sections(snapshot: Snapshot) -> Iterator[Section | MissingSections]:
    """The sections that have a memmap, in ascending order of PFN."""
    facts = snapshot.kernel.sections
    per_root = snapshot.geometry.page_size // facts.section.size * facts.pages
    for root in _roots(snapshot):
        start = root.number * per_root
        data = root.data
        if data is None:
            described = range(start, start + per_root)
            certain = range(start, min(start + per_root, facts.memory_end))
            # A device's memory may lie after max_pfn.
            if certain or root.exists:
                yield MissingSections(certain or described, described)
            continue
        for index, flags in enumerate(facts.section.column(data, "section_mem_map")):
            if flags & _MARKED_PRESENT and flags & _HAS_MEM_MAP:
                pfns = range(start, start + facts.pages)
                entry = data[index * facts.section.size : (index + 1) * facts.section.size]
                yield Section(pfns, flags, _parts(snapshot, pfns, flags, entry))
            start += facts.pages


def _parts(snapshot: Snapshot, pfns: range, flags: int, section: bytes) -> Sequence[range] | None:
    """
    Which PFNs of a section have a memmap: memory of a device may be less than a section.

    Follows ``pfn_section_valid()`` of ``include/linux/mmzone.h``, and ``section_activate()`` of
    ``mm/sparse.c``: sections from boot have all of it. Other memory is plugged a section at a time.

    :param section: Its ``struct mem_section``.
    """
    facts = snapshot.kernel.sections
    if flags & (facts.early | facts.online) or facts.usage is None:
        return (pfns,)
    subsection_map = facts.usage.members["subsection_map"]
    address = facts.section.value(section, "usage") + subsection_map.offset
    try:
        data = snapshot.read(address, -(-len(pfns) >> _SUBSECTION_SHIFT + 3))
    except MissingMemory:
        return None
    bits, size = int.from_bytes(data, "little"), 1 << _SUBSECTION_SHIFT
    parts: list[range] = []
    for number, start in enumerate(pfns[::size]):
        if not bits >> number & 1:
            continue
        if parts and parts[-1].stop == start:
            parts[-1] = range(parts[-1].start, start + size)
        else:
            parts.append(range(start, start + size))
    return tuple(parts)


class _Root(NamedTuple):
    """A page of sections."""

    number: int
    data: bytes | None
    """``None`` if it is not in the dump."""
    exists: bool
    """Whether it is known that there is one."""


def _roots(snapshot: Snapshot) -> Iterator[_Root]:
    """Each page of sections that there is, or may be."""
    facts, page_size = snapshot.kernel.sections, snapshot.geometry.page_size
    for start in range(0, facts.root_count, page_size // 8):
        indices = range(start, min(start + page_size // 8, facts.root_count))
        try:
            data = snapshot.read(facts.roots + start * 8, len(indices) * 8)
        except MissingMemory:
            yield from (_Root(index, None, False) for index in indices)
            continue
        if data == bytes(len(data)):
            continue
        for index, (root,) in zip(indices, struct.iter_unpack("<Q", data)):
            if root:
                try:
                    yield _Root(index, snapshot.read(root, page_size), True)
                except MissingMemory:
                    yield _Root(index, None, True)
