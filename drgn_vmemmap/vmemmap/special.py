# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Vmemmap that is special without being a fault: that of a device's memory, of hot-plugged
memory that hosts its own vmemmap, and of HugeTLB memory from boot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable, NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.paging.mapping import Problem
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot

DEVICE = "device-dax"
"""
Compound pages of a device's memory: tails share a frame as in ``tail-reuse``, but
writable (``vmemmap_populate_compound_pages()`` of ``mm/sparse-vmemmap.c``).
"""

SELF_HOSTED = "self-hosted"
"""Hot-plugged memory that holds its own vmemmap (``memmap_on_memory``)."""

BOOT = "boot-optimized"
"""Gigantic folios whose vmemmap was optimized at boot, before there were frames to free."""

ABOUT = {
    DEVICE: "memory of a device",
    SELF_HOSTED: "hot-plugged memory that hosts its own vmemmap",
    BOOT: "HugeTLB memory whose vmemmap was optimized at boot",
}
"""The kinds in words."""


class SpecialVmemmap(NamedTuple):
    """Consecutive memory whose vmemmap is special."""

    kind: str
    """:data:`DEVICE`, :data:`SELF_HOSTED` or :data:`BOOT`."""
    pfns: range
    freed: int
    """Vmemmap pages that have no frame of their own."""


class UnknownMemory(NamedTuple):
    """Memory of which the dump does not show whether it is special."""

    pfns: range
    question: str
    """The unknown property of these PFNs: the words after "whether PFNs 0x... to 0x..."."""


def find_special(
    snapshot: Snapshot,
    sections: Iterable[SectionRange],
    is_of_folio: Callable[[int], bool],
    tail_frames: frozenset[int],
) -> Iterator[SpecialVmemmap | UnknownMemory]:
    """
    Find special vmemmap by the flags of its sections and of the frames backing it.

    Page tables that are not in the dump count as freeing nothing.

    :param is_of_folio: Whether a PFN is of a HugeTLB folio, whose savings are counted elsewhere.
    :param tail_frames: PFNs of the frames that zones keep for tails, which are counted elsewhere.
    """
    facts = snapshot.kernel.sections
    devices: list[range] = []
    self_hosted: list[range] = []
    unknown: list[range] = []
    for section in sections:
        if section.flags & facts.early and not section.flags & facts.device:
            continue
        if section.parts is None:
            yield UnknownMemory(section.pfns, "all have a memmap")
        of_device = is_device(snapshot, section)
        if of_device is None:
            unknown.append(section.pfns)
        elif of_device:
            devices += section.possible_parts
        else:
            hosts = _is_self_hosted(snapshot, section)
            if hosts is None:
                yield UnknownMemory(section.pfns, "host their own vmemmap")
            elif hosts:
                self_hosted += section.possible_parts
    for pfns in joined(devices):
        yield SpecialVmemmap(DEVICE, pfns, _sharing(snapshot, pfns, is_of_folio, tail_frames))
        if not _tables_are_in_dump(snapshot, pfns):
            yield UnknownMemory(pfns, "of a device all share vmemmap")
    for pfns in joined(self_hosted):
        yield SpecialVmemmap(SELF_HOSTED, pfns, 0)
    for pfns in joined(unknown):
        yield UnknownMemory(pfns, "are a device's memory")


def is_device(snapshot: Snapshot, section: SectionRange) -> bool | None:
    """
    Whether a section holds a device's memory; ``None`` if the dump does not show it.

    A section that holds other memory, too, has a flag (``section_taint_zone_device()`` of
    ``mm/memory_hotplug.c``); in any other, each page of the device is in its zone. A device's
    memory never gets online (``online_mem_sections()`` of ``mm/sparse.c``).
    """
    kernel = snapshot.kernel
    if section.flags & kernel.sections.device:
        return True
    if section.flags & (kernel.sections.early | kernel.sections.online):
        return False
    # The first struct pages may be of what the device keeps for itself, and name no zone.
    step = kernel.architecture.table_span >> snapshot.geometry.page_shift
    known = True
    for pfn in (pfn for part in section.possible_parts for pfn in part[::step]):
        flags = _flags(snapshot, pfn)
        if flags is not None and kernel.page_flags.zone(flags) == kernel.device_zone:
            return True
        known = known and (flags is not None or not _is_mapped(snapshot, pfn))
    return False if known else None


def _sharing(
    snapshot: Snapshot,
    pfns: range,
    is_of_folio: Callable[[int], bool],
    tail_frames: frozenset[int],
) -> int:
    """How many vmemmap pages of a device's memory have no frame of their own."""
    geometry = snapshot.geometry
    pages, mapped, frames = geometry.pages_of(pfns), 0, set[int]()
    for address in snapshot.table_starts(pfns):
        run = snapshot.walker.run_at(address)
        if run.is_last_level:
            first = geometry.page_number_at(run.start)
            found = [
                frame
                for page, frame in enumerate(snapshot.walker.frames(run), first)
                if frame is not None
                and page in pages
                and not is_of_folio(geometry.first_pfn_of(page))
            ]
            mapped += len(found)
            frames.update(found)
    return mapped - len(frames - tail_frames)


def _tables_are_in_dump(snapshot: Snapshot, pfns: range) -> bool:
    """Whether all page tables over the vmemmap of consecutive PFNs are in the dump."""
    return all(snapshot.walker.run_at(start).raw for start in snapshot.table_starts(pfns))


def _is_self_hosted(snapshot: Snapshot, section: SectionRange) -> bool | None:
    """
    Whether the frames backing a section's vmemmap are marked as hosting it themselves.

    :return: ``None`` if the dump does not show it.
    """
    if not snapshot.kernel.self_hosted:
        return False
    first = section.parts[0].start if section.parts else section.pfns.start
    entry = snapshot.walker.entry(snapshot.geometry.address(first))
    if entry.frame is None:
        return None if entry.problem is Problem.UNREADABLE else False
    flags = _flags(snapshot, entry.frame)
    if flags is None:
        return None if _is_mapped(snapshot, entry.frame) else False
    return bool(flags & snapshot.kernel.self_hosted)


def _flags(snapshot: Snapshot, pfn: int) -> int | None:
    """Flags of a struct page; ``None`` if it is not mapped, or not in the dump."""
    try:
        page = snapshot.struct_pages(pfn)
    except MissingMemory:
        return None
    return snapshot.kernel.page.value(page, "flags")


def _is_mapped(snapshot: Snapshot, pfn: int) -> bool:
    """Whether a struct page is mapped to memory, for all that the dump shows."""
    problem = snapshot.walker.entry(snapshot.geometry.address(pfn)).problem
    return problem in (None, Problem.UNREADABLE)
