# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The predicate: whether entries are what a layout requires.

The diagnosis says what is wrong with entries that it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from drgn_vmemmap.kernel.layout import ZONE, Layout
from drgn_vmemmap.paging.column import READ_ONLY, READ_WRITE, Column


def admits(
    layout: Layout, own: Sequence[Column], tails: Column | None, zone: frozenset[int], limit: int
) -> bool:
    """
    Whether some folios are mapped exactly as a layout requires.

    Follows ``vmemmap_remap_pte()`` of ``mm/hugetlb_vmemmap.c``.

    :param own: A column for each vmemmap page that keeps a frame of its own.
    :param tails: The column of all other pages, which are mapped alike in each folio; ``None`` if
        there are none.
    :param zone: PFNs of the frames that the folios' zone keeps for tails of their order.
    :param limit: First PFN beyond physical memory.
    """
    return (
        (layout is Layout.NONE if tails is None else _are_tails(layout, own, tails, zone))
        and all(_is_own(column, zone, limit) for column in own)
        and _are_distinct([column.frames for column in own])
    )


def _are_tails(layout: Layout, own: Sequence[Column], tails: Column, zone: frozenset[int]) -> bool:
    """Whether tails are read-only, and mapped to the frame that the layout reuses."""
    if layout is Layout.NONE or tails.attributes != READ_ONLY:
        return False
    if layout.reuse_from is ZONE:
        return zone.issuperset(tails.frames)
    return tails.frames == own[layout.reuse_from].frames


def _are_distinct(columns: Sequence[Sequence[int]]) -> bool:
    """Whether no folio has one frame for two of its pages."""
    if len(columns) == 1:
        return True
    return all(len({*frames}) == len(columns) for frames in zip(*columns))


def _is_own(column: Column, zone: frozenset[int], limit: int) -> bool:
    """Whether a vmemmap page is writable, and mapped to memory that the zone does not keep."""
    return (
        column.attributes == READ_WRITE
        and (not zone or zone.isdisjoint(column.frames))
        and max(column.frames) < limit
    )
