# SPDX-License-Identifier: LGPL-2.1-or-later

"""The zones of a kernel, and the tail frames that they keep."""

from __future__ import annotations

import struct

import drgn

from drgn_vmemmap.kernel.facts import ZoneKey
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.kernel.structs import Struct
from drgn_vmemmap.kernel.unrecognised import Part


def zone(lookup: Lookup) -> Struct:
    """``struct zone``; without members where zones keep no tail frames."""
    return lookup.struct(
        "struct zone", optional=("vmemmap_tails",), vmemmap_tails=["vmemmap_tails"]
    )


def tails_by_pointer(lookup: Lookup) -> bool:
    """Whether a zone has a pointer to its array of tail frames, not the array itself."""
    place = drgn.Object(lookup.prog, lookup.prog.type("struct zone"), address=0)
    try:
        return bool(place.vmemmap_tails.type_.kind == drgn.TypeKind.POINTER)
    except (AttributeError, LookupError):
        return False


def zone_count(lookup: Lookup) -> int:
    """
    ``MAX_NR_ZONES``.

    :raises CannotAnalyse: if this kernel does not say.
    """
    count = lookup.enumerators("enum zone_type").get("__MAX_NR_ZONES")
    if count is not None:
        return count
    return (
        lookup.struct("struct pglist_data", node_zones=["node_zones"]).members["node_zones"].length
    )


def zones(lookup: Lookup, nodes: int) -> dict[ZoneKey, int]:
    """
    Virtual addresses of the zones; none if this kernel does not say where they are.

    :param nodes: ``MAX_NUMNODES``.
    """
    pgdat = lookup.struct(
        "struct pglist_data", parts={"node_zones": (Part.LAYOUT,)}, node_zones=["node_zones"]
    )
    if not pgdat.members:
        return {}
    node_data = lookup.address("node_data")
    addresses: dict[int, int | None] = {0: lookup.address("contig_page_data")}
    if node_data is not None:
        pointers = struct.unpack(f"<{nodes}Q", lookup.prog.read(node_data, nodes * 8))
        addresses = dict(enumerate(pointers))
    elif addresses[0] is None:
        lookup.lacks(Part.LAYOUT, "node_data or contig_page_data")
    return {
        ZoneKey(node, zone): address + pgdat.offset("node_zones", zone)
        for node, address in addresses.items()
        if address
        for zone in range(pgdat.members["node_zones"].length)
    }
