# SPDX-License-Identifier: LGPL-2.1-or-later

"""The frames that zones keep for the shared tails of optimized folios."""

from __future__ import annotations

import struct

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import Folio, FolioClass
from drgn_vmemmap.kernel.facts import ZoneKey
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class TailFrames:
    """
    The frames that zones keep for the shared tails of optimized folios.

    Follows ``vmemmap_tails`` of ``struct zone``: for each order from
    ``VMEMMAP_TAIL_MIN_ORDER`` on, a pointer to the frame's ``struct page``.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._by_zone: dict[ZoneKey, dict[int, int] | None] = {
            key: _tail_frames(snapshot, address) for key, address in snapshot.kernel.zones.items()
        }

    def all(self) -> frozenset[int]:
        """PFNs of all of them that are in the dump."""
        return frozenset(
            pfn for frames in self._by_zone.values() if frames for pfn in frames.values()
        )

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
        return frozenset(frames[order] for order in frames if order == folio.order)


def _tail_frames(snapshot: Snapshot, zone: int) -> dict[int, int] | None:
    """PFNs of one zone's tail frames by order; ``None`` if the zone is not in the dump."""
    geometry, member = snapshot.geometry, snapshot.kernel.zone.members["vmemmap_tails"]
    try:
        data = snapshot.read(zone + member.offset, member.size * member.length)
    except MissingMemory:
        return None
    # ilog2(2 * PAGE_SIZE / sizeof(struct page)): the first order with a tail frame to share.
    first_order = (2 * geometry.page_size // geometry.struct_size).bit_length() - 1
    frames = {}
    for index, (page,) in enumerate(struct.iter_unpack("<Q", data)):
        pfn = geometry.pfn_of(page) if page else None
        if pfn is not None:
            frames[first_order + index] = pfn
    return frames
