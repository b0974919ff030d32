# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Vmemmap that is special without being a fault: that of a device's memory, and that
which hot-plugged memory hosts itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PMD, PTE
from drgn_vmemmap.vmemmap.sections import Section

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
    kernel: Kernel, walker: Walker, sections: Iterable[Section]
) -> Iterator[SpecialVmemmap]:
    """
    Find them by the flags of their sections and of the frames behind their vmemmap.

    Where page tables are not in the dump, less is found to be freed.
    """
    devices, self_hosted = [], []
    for section in sections:
        if section.flags & kernel.sections.early and not section.flags & kernel.sections.device:
            continue
        if is_device(kernel, walker, section):
            devices.append(section.pfns)
        elif _is_self_hosted(kernel, walker, section):
            self_hosted.append(section.pfns)
    for pfns in joined(devices):
        yield SpecialVmemmap(DEVICE, pfns, _sharing(kernel, walker, pfns))
    for pfns in joined(self_hosted):
        yield SpecialVmemmap(SELF_HOSTED, pfns, 0)


def is_device(kernel: Kernel, walker: Walker, section: Section) -> bool:
    """
    Whether a section holds a device's memory.

    One that holds other memory, too, has a flag (``section_taint_zone_device()`` of
    ``mm/memory_hotplug.c``); of the others, each page says so.
    """
    if section.flags & kernel.sections.device:
        return True
    if section.flags & kernel.sections.early:
        return False
    # The first ones may describe what the device keeps for itself, and say nothing.
    pfns = section.pfns[:: PMD.entry_span >> PAGE_SHIFT]
    flags = (_flags(kernel, walker, pfn) for pfn in pfns)
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


def _sharing(kernel: Kernel, walker: Walker, pfns: range) -> int:
    """How many vmemmap pages of a device's memory have no frame of their own."""
    start, end = kernel.page_address(pfns.start), kernel.page_address(pfns.stop)
    mapped, frames = 0, set()
    for address in range(start // PMD.entry_span * PMD.entry_span, end, PMD.entry_span):
        run = walker.region(address)
        if run.level is PTE:
            found = [frame for frame in walker.frames(run) if frame is not None]
            mapped += len(found)
            frames.update(found)
    return mapped - len(frames)


def _is_self_hosted(kernel: Kernel, walker: Walker, section: Section) -> bool:
    """Whether the frames behind a section's vmemmap are marked as hosting it themselves."""
    frame = walker.entry(kernel.page_address(section.pfns.start)).frame
    flags = None if frame is None else _flags(kernel, walker, frame)
    return flags is not None and bool(flags & kernel.self_hosted)


def _flags(kernel: Kernel, walker: Walker, pfn: int) -> int | None:
    """Flags of a struct page; ``None`` if it is not in the dump."""
    try:
        page = walker.read(kernel.page_address(pfn), kernel.page.size)
    except MissingMemory:
        return None
    return kernel.page.value(page, "flags")
