# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What a kernel is, as plain numbers.

:func:`drgn_vmemmap.kernel.discovery.discover` asks drgn for them once; from then on the analysis
knows integers and bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from drgn_vmemmap.kernel.geometry import Geometry
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.structs import Member, PageTest, Struct
from drgn_vmemmap.kernel.unrecognised import Unrecognised
from drgn_vmemmap.paging.architecture import Architecture
from drgn_vmemmap.paging.mapping import Paging

# An address has 64 bits, also where a sum has more.
_ALL_BITS = (1 << 64) - 1


class Hvo(NamedTuple):
    """HugeTLB vmemmap optimization in this kernel."""

    layout: Layout
    """The layout of an optimized folio; ``NONE`` if this kernel was built without HVO."""
    enabled: bool | None
    """Whether it is on for new folios, now; ``None`` if that is not known."""
    optimized_bit: int | None
    """Bit number of ``HPG_vmemmap_optimized`` in the head page's ``private``."""
    may_stay_partial: bool = False
    """
    A remap or a restore that failed may leave a folio partly optimized
    (``VMEMMAP_REMAP_INCOMPLETE``).
    """

    @property
    def built_in(self) -> bool:
        """Whether this kernel was built with HVO."""
        return self.layout is not Layout.NONE


class PageFlags(NamedTuple):
    """Where ``page->flags`` keeps the node and the zone."""

    node_shift: int
    node_mask: int
    zone_shift: int
    zone_mask: int

    def node(self, flags: int) -> int:
        """NUMA node of a page with these flags."""
        return (flags >> self.node_shift) & self.node_mask

    def zone(self, flags: int) -> int:
        """Number of the zone of a page with these flags."""
        return (flags >> self.zone_shift) & self.zone_mask

    @property
    def place(self) -> int:
        """Mask of the flags' bits that say of which node and zone a page is."""
        return self.node_mask << self.node_shift | self.zone_mask << self.zone_shift

    def of_place(self, node: int, zone: int) -> int:
        """The bits of :attr:`place`, for a page of a node and a zone."""
        return node << self.node_shift | zone << self.zone_shift


class PageMarks(NamedTuple):
    """
    The marks of a struct page that say what uses the page.

    Masks of flags; 0 for one that this kernel does not have.
    """

    lru: int
    """``PG_lru``: on an LRU list of page reclaim."""
    slab: int
    """``PG_slab``; a page type in newer kernels."""
    reserved: int
    """``PG_reserved``: from boot, never given to an allocator."""
    checked_at_free: int
    """``PAGE_FLAGS_CHECK_AT_FREE``: no page may have these when it is freed."""
    type_base: int
    """Bits of a page type that are set in each; 0 where a type is a number in the highest byte."""
    type_names: Mapping[int, str]
    """Names of the page types: by bit where there is a base, otherwise by number."""

    def type_name(self, word: int) -> str | None:
        """
        :param word: The 32 bits of ``page_type``, which are those of ``_mapcount``.
        :return: Name of the page's type; ``None`` for a page without one.
        """
        if not self.type_base:
            number = word >> 24
            # PGTY_mapcount_underflow is the last one.
            return self.type_names.get(number, f"{word:#010x}") if 0xF0 <= number < 0xFF else None
        if word & self.type_base != self.type_base:
            return None
        return next((name for bit, name in self.type_names.items() if not word & bit), None)


class Sections(NamedTuple):
    """Sparse memory."""

    roots: int
    """Virtual address of the array of pointers to roots."""
    root_count: int
    """Its length."""
    memory_end: int
    """``max_pfn``: the first PFN after what is certainly memory."""
    section: Struct
    """``struct mem_section``."""
    usage: Struct | None
    """``struct mem_section_usage``; ``None`` where a section always has all of its memmap."""
    pages: int
    """Pages in a section."""
    online: int
    """Mask of the flag that says: the kernel manages this memory, its struct pages are in use."""
    early: int
    """Mask of the flag that says: from boot, not hot-plugged."""
    device: int
    """Mask of the flag that says: holds memory of a device; 0 if there is none."""
    optimized_at_boot: int
    """Mask of the flag that says: HugeTLB made its memmap at boot; 0 if there is none."""

    @property
    def may_be_optimized_at_boot(self) -> bool:
        """Whether HugeTLB may make the memmap of a section at boot, in its optimized form."""
        return bool(self.optimized_at_boot) or "order" in self.section.members


class MemmapCounters(NamedTuple):
    """Where the kernel counts the frames that back its vmemmap: addresses of two longs."""

    boot: int
    """``nr_memmap_boot_pages``"""
    later: int
    """``nr_memmap_pages``"""


class Lock(NamedTuple):
    """A number that is 0 while nobody holds the lock."""

    address: int
    size: int
    """In bytes."""


class Poison(NamedTuple):
    """How the kernel records memory of a folio that failed (``mm/memory-failure.c``)."""

    flag: int
    """Mask of ``PG_hwpoison`` in the head page's flags; 0 if there is none."""
    list: Member | None
    """Where the list of failed pages is, from the head page on; ``None`` if there is none."""
    unreliable_bit: int | None
    """Bit number of ``HPG_raw_hwp_unreliable`` in the head page's ``private``."""
    page: Struct
    """``struct raw_hwp_page``; without members where there is no list."""


class ZoneKey(NamedTuple):
    """A zone, by the numbers that ``page->flags`` has for it."""

    node: int
    zone: int


@dataclass(frozen=True)
class Kernel:
    """All facts about a kernel. Addresses are virtual, in bytes."""

    release: str
    live: bool
    booting: bool | None
    """Initcalls may be still to come; ``None`` if that is not in the dump."""
    types_from: str
    """``dwarf`` or ``btf``."""
    paging: Paging
    vmemmap: int
    """Address of the ``struct page`` of PFN 0."""
    image: range
    """PFNs of the kernel's own image; empty if it is not known."""
    direct_map: int | None
    """Where all memory is mapped, from physical address 0 on; ``None`` if it is not known."""
    hvo: Hvo
    page: Struct
    page_flags: PageFlags
    head_test: PageTest
    """Recognises the head page of a compound page."""
    hugetlb_test: PageTest
    """Recognises the head page of a HugeTLB folio among those of compound pages."""
    removed_test: PageTest | None
    """Recognises a folio that left its pool with its vmemmap not restored; ``None`` if none can."""
    buddy_test: PageTest | None
    """Recognises the first page of a free block of the buddy allocator."""
    page_marks: PageMarks
    self_hosted: int
    """Mask of ``PG_vmemmap_self_hosted`` in a frame's flags; 0 if there is none."""
    poison: Poison
    order: Member
    """Where a folio's order is, from the head page on."""
    tails_hold_mask: bool
    """A tail page's ``compound_info`` is a mask of its order, not a pointer to its head."""
    device_zone: int | None
    """Number of ``ZONE_DEVICE``; ``None`` if there is none."""
    sections: Sections
    hstate: Struct
    hstates: int
    """Address of the array of ``struct hstate``."""
    hstate_count: int
    hugetlb_lock: Lock | None
    """Held while lists and counters change; ``None`` if it was not recognised."""
    reservation_bit: int | None
    """Bit number of ``HPG_restore_reserve`` in the head page's ``private``; ``None`` without it."""
    zone: Struct
    """``struct zone``; without members where zones keep no tail frames."""
    tails_by_pointer: bool
    """Whether a zone has a pointer to its array of tail frames, not the array itself."""
    zones: Mapping[ZoneKey, int]
    """Addresses of the zones; empty where zones keep no tail frames."""
    memmap_counters: MemmapCounters | None
    """``None`` where the kernel keeps none that can be compared."""
    unrecognised: Sequence[Unrecognised] = ()
    """Parts that each known kernel has and this one lacks."""
    confirmed: frozenset[str] | None = None
    """
    Of an extract that was written while the kernel ran: which findings were confirmed; ``None``
    for any other target.
    """
    report_only: bool = False
    """This is an extract that lacks, on purpose, what only verification reads."""

    @property
    def architecture(self) -> Architecture:
        """The processor architecture."""
        return self.paging.architecture

    @property
    def page_size(self) -> int:
        """Size in bytes of a page."""
        return self.paging.architecture.page_size

    @cached_property
    def geometry(self) -> Geometry:
        """Which page of the vmemmap holds the ``struct page`` of which PFN."""
        page_shift = self.paging.architecture.page_shift
        return Geometry(self.vmemmap, self.page.size, page_shift, self.paging.max_pfn)

    @property
    def links_offset(self) -> int:
        """
        Offset in bytes of a folio's list pointers in its head page; 0 if they were not recognised,
        and no list is followed.
        """
        return self.page.offset("lru") if "lru" in self.page.members else 0

    def tail_info(self, pfn: int, order: int) -> int:
        """
        What a tail page's ``compound_info`` (``compound_head`` before v7.1) holds.

        Follows ``set_compound_head()`` of ``include/linux/page-flags.h``.

        :param pfn: Of the head page.
        """
        if self.tails_hold_mask:
            return -(self.page.size << order) & _ALL_BITS | 1
        return self.geometry.address(pfn) | 1

    def tail_infos(self, pfns: Sequence[int], order: int) -> array[int]:
        """
        What the tail pages of many folios of one order hold.

        :param pfns: Of the head pages.
        :return: Of each folio, what :meth:`tail_info` has.
        """
        if self.tails_hold_mask:
            return array("Q", [self.tail_info(0, order)]) * len(pfns)
        start, size = self.vmemmap | 1, self.page.size
        if isinstance(pfns, range):
            infos = range(start + pfns.start * size, start + pfns.stop * size, pfns.step * size)
            if max(infos.start, infos.stop) <= _ALL_BITS:
                return array("Q", infos)
        return array("Q", [(start + pfn * size) & _ALL_BITS for pfn in pfns])

    def freed_when_optimized(self, order: int) -> int:
        """How many frames optimizing a folio of an order frees; 0 where it cannot be."""
        if self.hvo.layout in (Layout.NONE, Layout.UNKNOWN):
            return 0
        if not self.geometry.is_aligned:
            return 0
        return max(0, self.geometry.pages_of_order(order) - self.hvo.layout.kept)
