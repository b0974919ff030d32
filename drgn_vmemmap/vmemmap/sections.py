# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The memmap: which PFNs it describes, section by section.

Follows ``struct mem_section`` of ``include/linux/mmzone.h`` with
``CONFIG_SPARSEMEM_EXTREME``, as x86-64 always has it: an array of pointers to
roots, each a page of sections.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, repeat
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_MARKED_PRESENT = 1 << 0
_HAS_MEM_MAP = 1 << 1

# SUBSECTION_SHIFT of include/linux/mmzone.h: 2 MiB, here in pages.
_SUBSECTION_SHIFT = 9


class SectionRange(NamedTuple):
    """A section, or adjacent sections from boot that are alike: physical memory with a memmap."""

    pfns: range
    flags: int
    """Raw ``section_mem_map`` of each: flags in its low bits."""
    parts: Sequence[range] | None = None
    """PFNs that have a memmap, ascending; ``None`` if that is not in the dump."""
    order: int = 0
    """Order of the compound pages for which its memmap was made; 0 for any."""

    @property
    def possible_parts(self) -> Sequence[range]:
        """PFNs that may have a memmap, ascending: all, if the dump does not show which do."""
        return (self.pfns,) if self.parts is None else self.parts


class MissingSections(NamedTuple):
    """Sections that may have a memmap: their ``struct mem_section`` is not in the dump."""

    pfns: range
    """PFNs that a message names: of sections that may not exist, only those below ``max_pfn``."""
    described: range
    """All PFNs that they would describe."""

    def joined(self, after: MissingSections) -> MissingSections | None:
        """These sections and those after them as one stretch; ``None`` if they do not touch."""
        if (self.pfns.stop, self.described.stop) != (after.pfns.start, after.described.start):
            return None
        return MissingSections(
            range(self.pfns.start, after.pfns.stop),
            range(self.described.start, after.described.stop),
        )


class SectionIndex:
    """Finds the section of a PFN."""

    def __init__(self, sections: Iterable[SectionRange]) -> None:
        """
        :param sections: In ascending order.
        """
        self._sections = list(sections)
        self._starts = [section.pfns.start for section in self._sections]

    def at(self, pfn: int) -> SectionRange | None:
        """The section of a PFN, with those that are alike; ``None`` if no section has it."""
        index = bisect_right(self._starts, pfn) - 1
        return self._sections[index] if index >= 0 and pfn in self._sections[index].pfns else None


def present_sections(snapshot: Snapshot) -> Iterator[SectionRange | MissingSections]:
    """The sections that have a memmap, or may have one, in ascending order of PFN."""
    pending: SectionRange | MissingSections | None = None
    for each in _sections(snapshot):
        both = None
        if isinstance(pending, MissingSections) and isinstance(each, MissingSections):
            both = pending.joined(each)
        if pending is not None and both is None:
            yield pending
        pending = both or each
    if pending is not None:
        yield pending


def _sections(snapshot: Snapshot) -> Iterator[SectionRange | MissingSections]:
    """The sections of each page of sections; those of missing pages are not joined yet."""
    for root in _roots(snapshot):
        if root.data is not None:
            yield from _sections_in(snapshot, root, root.data)
            continue
        missing = _missing(snapshot, root)
        if missing is not None:
            yield missing


def _sections_in(snapshot: Snapshot, root: _Root, data: bytes) -> Iterator[SectionRange]:
    """The sections with a memmap in a page of sections; those from boot that are alike are one."""
    facts, stop = snapshot.kernel.sections, 0
    first = root.numbers.start * _described_by_each(snapshot)
    flags_of_each = facts.section.column(data, "section_mem_map")
    orders: Iterable[int] = repeat(0)
    if "order" in facts.section.members:
        orders = facts.section.column(data, "order")
    for (flags, order), alike in groupby(zip(flags_of_each, orders)):
        indices = range(stop, stop + len(list(alike)))
        stop = indices.stop
        if not flags & _MARKED_PRESENT or not flags & _HAS_MEM_MAP:
            continue
        starts = range(first, first + stop * facts.pages, facts.pages)[indices.start :]
        if flags & facts.early:
            pfns = range(starts.start, starts.stop)
            yield SectionRange(pfns, flags, (pfns,), order)
            continue
        for index, start in zip(indices, starts):
            pfns = range(start, start + facts.pages)
            section = data[index * facts.section.size : (index + 1) * facts.section.size]
            yield SectionRange(pfns, flags, _parts(snapshot, pfns, flags, section), order)


def _missing(snapshot: Snapshot, root: _Root) -> MissingSections | None:
    """The PFNs that missing pages of sections may describe; ``None`` if there can be none."""
    end, each = snapshot.kernel.sections.memory_end, _described_by_each(snapshot)
    numbers = root.numbers
    if not root.exists:
        numbers = range(numbers.start, min(numbers.stop, -(-end // each)))
    described = range(numbers.start * each, numbers.stop * each)
    # A device's memory may lie after max_pfn.
    certain = range(described.start, min(described.stop, end))
    return MissingSections(certain or described, described) if described else None


def _described_by_each(snapshot: Snapshot) -> int:
    """How many PFNs a page of sections describes."""
    facts = snapshot.kernel.sections
    return snapshot.geometry.page_size // facts.section.size * facts.pages


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
    starts = (start for number, start in enumerate(pfns[::size]) if bits >> number & 1)
    return tuple(joined(range(start, start + size) for start in starts))


class _Root(NamedTuple):
    """A page of sections, or consecutive ones of which the dump says nothing."""

    numbers: range
    data: bytes | None
    """The bytes of one page; ``None`` if they are not in the dump, or another page's."""
    exists: bool
    """Whether it is known that there is one."""


def _roots(snapshot: Snapshot) -> Iterator[_Root]:
    """
    Each page of sections that there is, or may be.

    Each is one of its own (``sparse_index_init()``): pointers that lead to the page of another one
    are damaged.
    """
    facts, page_size = snapshot.kernel.sections, snapshot.geometry.page_size
    known: set[int] = set()
    for start in range(0, facts.root_count, page_size // 8):
        indices = range(start, min(start + page_size // 8, facts.root_count))
        try:
            data = snapshot.read(facts.roots + start * 8, len(indices) * 8)
        except MissingMemory:
            yield _Root(indices, None, False)
            continue
        if data == bytes(len(data)):
            continue
        for index, (root,) in zip(indices, struct.iter_unpack("<Q", data)):
            number = range(index, index + 1)
            if root in known:
                yield _Root(number, None, True)
            elif root:
                known.add(root)
                try:
                    yield _Root(number, snapshot.read(root, page_size), True)
                except MissingMemory:
                    yield _Root(number, None, True)
