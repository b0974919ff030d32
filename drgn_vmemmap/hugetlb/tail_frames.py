# SPDX-License-Identifier: LGPL-2.1-or-later

"""The frames that zones keep for the shared tails of optimized folios."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import Folio, FolioClass
from drgn_vmemmap.kernel.facts import ZoneKey
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# The order of 1 GiB, the largest pages that HugeTLB and device DAX have on x86-64.
_PUD_ORDER = 18


class InvalidSlot(NamedTuple):
    """A slot for a tail frame that leads to no struct page."""

    name: str
    """The zone and the order, in words."""
    address: int
    """Its virtual address in bytes."""
    pointer: int


class TailUse(NamedTuple):
    """What a zone keeps a tail frame for."""

    zone: ZoneKey
    order: int
    """Of the folios whose tails are in it."""


class TailFrames:
    """
    The frames that zones keep for the shared tails of optimized folios.

    Follows ``vmemmap_tails`` of ``struct zone``: for each order from
    ``VMEMMAP_TAIL_MIN_ORDER`` on, a pointer to the frame's ``struct page``.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._by_zone: dict[ZoneKey, dict[int, int] | None] = {}
        self.invalid: list[InvalidSlot] = []
        """Slots that lead to no struct page."""
        for key, address in snapshot.kernel.zones.items():
            slots = _slots(snapshot, address)
            self._by_zone[key] = None if slots is None else self._frames(snapshot, key, slots)

    def _frames(
        self, snapshot: Snapshot, zone: ZoneKey, slots: Mapping[int, tuple[int, int]]
    ) -> dict[int, int]:
        """PFNs of one zone's tail frames by order."""
        frames = {}
        for order, (address, pointer) in slots.items():
            pfn = snapshot.geometry.pfn_of(pointer)
            if pfn is None:
                self.invalid.append(InvalidSlot(_name(zone, order), address, pointer))
            else:
                frames[order] = pfn
        return frames

    def all(self) -> frozenset[int]:
        """PFNs of all of them that are in the dump."""
        return frozenset(frame for frame, _, _ in self._slots())

    def uses(self) -> dict[int, TailUse]:
        """The use of each frame, by its PFN; one use of a frame that is kept twice."""
        return {frame: TailUse(zone, order) for frame, zone, order in self._slots()}

    def missing(self) -> list[ZoneKey]:
        """The zones whose slots are not in the dump."""
        return [zone for zone, frames in self._by_zone.items() if frames is None]

    def shared(self) -> Iterator[tuple[int, list[str]]]:
        """Frames that are kept more than once, and what for, in words."""
        slots: dict[int, list[str]] = {}
        for frame, zone, order in self._slots():
            slots.setdefault(frame, []).append(_name(zone, order))
        return ((frame, names) for frame, names in slots.items() if len(names) > 1)

    def _slots(self) -> Iterator[tuple[int, ZoneKey, int]]:
        """Each frame, the zone that keeps it, and the order that it is for."""
        for zone, frames in self._by_zone.items():
            for order, frame in (frames or {}).items():
                yield frame, zone, order

    def acceptable(self, folio: Folio | FolioClass) -> frozenset[int] | None:
        """
        :return: PFNs that may be a folio's reuse frame because its zone keeps
            them for its order; ``None`` if that is not in the dump.
        """
        if not self._by_zone:
            return frozenset()
        if folio.node is None or folio.zone is None:
            return None
        frames = self._by_zone.get(ZoneKey(folio.node, folio.zone), {})
        if frames is None:
            return None
        return frozenset((frames[folio.order],) if folio.order in frames else ())


def _name(zone: ZoneKey, order: int) -> str:
    return f"zone {zone.zone} of node {zone.node}, order {order}"


def _slots(snapshot: Snapshot, zone: int) -> dict[int, tuple[int, int]] | None:
    """
    A zone's pointers to the struct pages of its tail frames, but for those that are null.

    :return: By order, the virtual address in bytes of each pointer, and the pointer; ``None`` if
        the zone is not in the dump.
    """
    geometry, member = snapshot.geometry, snapshot.kernel.zone.members["vmemmap_tails"]
    # ilog2(2 * PAGE_SIZE / sizeof(struct page)): the first order with a tail frame to share.
    first_order = (2 * geometry.page_size // geometry.struct_size).bit_length() - 1
    array = zone + member.offset
    count = member.length
    try:
        if snapshot.kernel.tails_by_pointer:
            # Not in v7.3. How long the array is, is not recorded: it goes to the order of the
            # largest pages of a device (MAX_FOLIO_ORDER), whether a hstate has it or not.
            array = int.from_bytes(snapshot.read(array, 8), "little")
            count = _PUD_ORDER + 1 - first_order if array else 0
        data = snapshot.read(array, count * 8)
    except MissingMemory:
        return None
    pointers = (pointer for (pointer,) in struct.iter_unpack("<Q", data))
    return {
        first_order + index: (array + index * 8, pointer)
        for index, pointer in enumerate(pointers)
        if pointer
    }
