# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Vmemmap that is special without being a fault: that of a device's memory, and that
which hot-plugged memory hosts itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable, NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.vmemmap.sections import Section
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
    DEVICE: "device DAX",
    SELF_HOSTED: "hot-plugged memory that hosts its own vmemmap",
    BOOT: "HugeTLB memory whose vmemmap was optimized at boot",
}
"""The kinds in words."""


class SpecialVmemmap(NamedTuple):
    """A stretch of such memory."""

    kind: str
    """:data:`DEVICE`, :data:`SELF_HOSTED` or :data:`BOOT`."""
    pfns: range
    freed: int
    """Vmemmap pages that have no frame of their own."""


def find_special(
    snapshot: Snapshot,
    sections: Iterable[Section],
    is_of_folio: Callable[[int], bool],
    tail_frames: frozenset[int],
) -> Iterator[SpecialVmemmap]:
    """
    Find them by the flags of their sections and of the frames backing their vmemmap.

    Where page tables are not in the dump, less is found to be freed.

    :param is_of_folio: Whether a PFN is of a HugeTLB folio, whose savings are counted elsewhere.
    :param tail_frames: PFNs of the frames that zones keep for tails, which are counted elsewhere.
    """
    kernel = snapshot.kernel
    devices, self_hosted = [], []
    for section in sections:
        if section.flags & kernel.sections.early and not section.flags & kernel.sections.device:
            continue
        if is_device(snapshot, section):
            devices.append(section.pfns)
        elif _is_self_hosted(snapshot, section):
            self_hosted.append(section.pfns)
    for pfns in joined(devices):
        yield SpecialVmemmap(DEVICE, pfns, _sharing(snapshot, pfns, is_of_folio, tail_frames))
    for pfns in joined(self_hosted):
        yield SpecialVmemmap(SELF_HOSTED, pfns, 0)


def is_device(snapshot: Snapshot, section: Section) -> bool:
    """
    Whether a section holds a device's memory.

    One that holds other memory, too, has a flag (``section_taint_zone_device()`` of
    ``mm/memory_hotplug.c``); of the others, each page says so.
    """
    kernel = snapshot.kernel
    if section.flags & kernel.sections.device:
        return True
    if section.flags & kernel.sections.early:
        return False
    # The first ones may describe what the device keeps for itself, and say nothing.
    pfns = section.pfns[:: kernel.architecture.table_span >> kernel.page_shift]
    flags = (_flags(snapshot, pfn) for pfn in pfns)
    return any(f is not None and kernel.page_flags.zone(f) == kernel.device_zone for f in flags)


def joined(ranges: Iterable[range]) -> Iterator[range]:
    """Ascending ranges, those that touch put together."""
    current = range(0)
    for pfns in ranges:
        if current and pfns.start == current.stop:
            current = range(current.start, pfns.stop)
            continue
        if current:
            yield current
        current = pfns
    if current:
        yield current


def _sharing(
    snapshot: Snapshot,
    pfns: range,
    is_of_folio: Callable[[int], bool],
    tail_frames: frozenset[int],
) -> int:
    """How many vmemmap pages of a device's memory have no frame of their own."""
    geometry, span = snapshot.geometry, snapshot.kernel.architecture.table_span
    start, end = geometry.address(pfns.start), geometry.address(pfns.stop)
    mapped, frames = 0, set[int]()
    for address in range(start // span * span, end, span):
        run = snapshot.walker.region(address)
        if run.is_last_level:
            first = geometry.page_number_at(run.start)
            found = [
                frame
                for page, frame in enumerate(snapshot.walker.frames(run), first)
                if frame is not None and not is_of_folio(geometry.first_pfn_of(page))
            ]
            mapped += len(found)
            frames.update(found)
    return mapped - len(frames - tail_frames)


def _is_self_hosted(snapshot: Snapshot, section: Section) -> bool:
    """Whether the frames backing a section's vmemmap are marked as hosting it themselves."""
    frame = snapshot.walker.entry(snapshot.geometry.address(section.pfns.start)).frame
    flags = None if frame is None else _flags(snapshot, frame)
    return flags is not None and bool(flags & snapshot.kernel.self_hosted)


def _flags(snapshot: Snapshot, pfn: int) -> int | None:
    """Flags of a struct page; ``None`` if it is not in the dump."""
    try:
        page = snapshot.struct_pages(pfn)
    except MissingMemory:
        return None
    return snapshot.kernel.page.value(page, "flags")
