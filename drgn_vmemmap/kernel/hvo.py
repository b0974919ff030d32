# SPDX-License-Identifier: LGPL-2.1-or-later

"""HugeTLB vmemmap optimization in a kernel: its layout, its switch and its flag."""

from __future__ import annotations

from collections.abc import Callable, Collection

from drgn_vmemmap.kernel.facts import Hvo, ZoneKey
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.kernel.structs import Struct
from drgn_vmemmap.kernel.unrecognised import Part

# HVO's switch and its size in bytes, newest first.
# Linux commit 30152245c63b ("mm: hugetlb_vmemmap: replace early_param() with
# core_param()") (in v6.0) made it a bool; it was an enum since 78f39084b41d
# ("mm: hugetlb_vmemmap: add hugetlb_optimize_vmemmap sysctl") (in v5.19).
# Before, a static key was the switch: Linux commit a6b40850c442 ("mm:
# hugetlb: replace hugetlb_free_vmemmap_enabled with a static_key") (in v5.18).
_HVO_SWITCHES = {
    "vmemmap_optimize_enabled": 1,
    "vmemmap_optimize_mode": 4,
    "hugetlb_free_vmemmap_enabled_key": 4,
    "hugetlb_free_vmemmap_enabled": 1,
}


def hvo(
    lookup: Lookup,
    page: Struct,
    zone: Struct,
    zones: Collection[ZoneKey],
    kept: Callable[[], Collection[int]],
) -> Hvo:
    """
    HugeTLB vmemmap optimization in this kernel.

    :param page: ``struct page``.
    :param zone: ``struct zone``.
    :param zones: The zones that keep tail frames, as far as they were found.
    :param kept: Finds out how many vmemmap pages of an optimized folio keep their frames; where
        that is not recorded, it finds nothing.
    """
    layout = _layout(lookup, zone, zones, kept)
    return Hvo(
        layout,
        _enabled(lookup, layout),
        _optimized_bit(lookup, page, layout),
        _may_stay_partial(lookup),
    )


def _layout(
    lookup: Lookup, zone: Struct, zones: Collection[ZoneKey], kept: Callable[[], Collection[int]]
) -> Layout:
    # Linux commit 622026e87c40 ("mm/hugetlb: remove fake head pages") (in v7.1)
    # made the folios of a zone share their tails.
    if zone.members:
        # Without the zones, the frames that they keep are not known.
        return Layout.SHARED_TAIL if zones else Layout.UNKNOWN
    # Linux commit e7d324850bfc ("mm: hugetlb: free the 2nd vmemmap page
    # associated with each HugeTLB page") (in v5.18) came before the first of
    # these keys, which is of the next commit; v5.19 renamed it.
    if lookup.has_any("hugetlb_optimize_vmemmap_key", "hugetlb_free_vmemmap_enabled_key"):
        return Layout.HEAD_REUSE
    # Linux commit f41f2ed43ca5 ("mm: hugetlb: free the vmemmap pages
    # associated with each HugeTLB page") (in v5.14)
    if lookup.has_any("hugetlb_free_vmemmap_enabled"):
        # Between those two commits, there is no key.
        return Layout.HEAD_REUSE if Layout.HEAD_REUSE.kept in kept() else Layout.TAIL_REUSE
    # Where HVO can be switched, it is built in, but with a layout that is not known here: the
    # rules of other layouts must accuse nothing.
    if lookup.has_any(*_HVO_SWITCHES):
        lookup.lacks(
            Part.LAYOUT, "vmemmap_tails in struct zone and no hugetlb_optimize_vmemmap_key"
        )
        return Layout.UNKNOWN
    return Layout.NONE


def _enabled(lookup: Lookup, layout: Layout) -> bool | None:
    for name, size in _HVO_SWITCHES.items():
        value = lookup.variable(name, size)
        if value is not None:
            return bool(value)
    if layout is not Layout.NONE:
        lookup.lacks(Part.SWITCH, next(iter(_HVO_SWITCHES)))
    return None


def _optimized_bit(lookup: Lookup, page: Struct, layout: Layout) -> int | None:
    if "private" not in page.members:
        return None
    bit = lookup.enumerators("enum hugetlb_page_flags").get("HPG_vmemmap_optimized")
    if bit is None and layout is not Layout.NONE:
        lookup.lacks(Part.OPTIMIZED_FLAG, "HPG_vmemmap_optimized in enum hugetlb_page_flags")
    return bit


def _may_stay_partial(lookup: Lookup) -> bool:
    """Whether a remap, and its roll-back or a restore, may fail after they changed some entries."""
    # Not in v7.3. On x86-64, entries can always be written, unless faults are injected there
    # (CONFIG_FAIL_HUGETLB_VMEMMAP): VMEMMAP_REMAP_INCOMPLETE may be a macro, which no type shows.
    return bool(lookup.flag("VMEMMAP_REMAP_INCOMPLETE")) or lookup.has_any(
        "fail_hugetlb_vmemmap_pte"
    )
