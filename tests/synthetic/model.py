# SPDX-License-Identifier: LGPL-2.1-or-later

"""The model: what a kernel and its folios are like, in plain data."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.kernels import LINES, ZONES, Line
from tests.synthetic.layouts import KEPT
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE

GIB = 1 << 30

SECTION_PAGES = 1 << (27 - PAGE_SHIFT)
SUBSECTION_ORDER = 21 - PAGE_SHIFT

PMD_SHIFT = 21
"""log2 of the bytes of vmemmap that one PMD is over."""

FIRST_FOLIO = 128 << 20 >> PAGE_SHIFT
"""On each node, PFNs below this one from the node's start are the kernel's own."""


class Backing(enum.Enum):
    """What one vmemmap page is mapped to."""

    OWN = "its own frame"
    FRESH = "its own frame, allocated when HVO was undone"
    REUSE = "the frame that the layout shares"
    ABSENT = "nothing: the entry is not present"
    BEYOND = "a frame beyond memory"


class Vpage(NamedTuple):
    """How one vmemmap page of a folio is mapped."""

    backing: Backing
    writable: bool


OWN_W = Vpage(Backing.OWN, True)
OWN_R = Vpage(Backing.OWN, False)
FRESH_W = Vpage(Backing.FRESH, True)
REUSE_W = Vpage(Backing.REUSE, True)
REUSE_R = Vpage(Backing.REUSE, False)
ABSENT = Vpage(Backing.ABSENT, False)
BEYOND_W = Vpage(Backing.BEYOND, True)
BEYOND_R = Vpage(Backing.BEYOND, False)


@dataclass(frozen=True)
class Folio:
    """A HugeTLB folio."""

    pfn: int
    order: int = 9
    state: State = State.FREE
    remapped: bool = True
    """HVO remapped its vmemmap."""
    edits: Mapping[int, Vpage] = field(default_factory=dict)
    """Vmemmap pages that are mapped otherwise, by index."""
    flag: bool | None = None
    """``HPG_vmemmap_optimized``; ``None`` for what ``remapped`` says."""
    head_in_dump: bool = True
    """Whether the frame that backs its first vmemmap page is in the dump."""
    counted: bool = True
    """Whether its hstate counts it; what is on its way into or out of the pool, it does not."""

    @property
    def pfns(self) -> range:
        return range(self.pfn, self.pfn + (1 << self.order))


class Damage(enum.Enum):
    """What is wrong with the PMD entry over 2 MiB of vmemmap."""

    READ_ONLY = "it has no write bit"
    ABSENT = "it is not present"
    BEYOND = "its table is beyond memory"
    MISSING = "its table is not in the dump"


class Link(enum.Enum):
    """Where a broken ``next`` pointer of a list leads."""

    FIRST = "back to the first folio of the list"
    OUTSIDE = "out of the memmap"
    MISALIGNED = "into the middle of a struct page"
    TAIL = "to a tail page"


class Section(enum.Enum):
    """What a section is, if it is not plain memory from boot."""

    OFFLINE = "plugged, but not online: nobody has written its struct pages yet"
    OFFLINE_HOST = "the same, and it hosts its own memmap"
    PLUGGED = "plugged and online"
    HOST = "plugged and online, and it hosts its own memmap"
    DEVICE = "a device's memory, in compound pages of 2 MiB"
    PREPARED = "from boot, which optimized its memmap"


class LinkPlace(NamedTuple):
    """A ``next`` pointer of a list: of the folio at a position, or of the list's head at -1."""

    order: int
    node: int | None
    """Of a free list; ``None`` for the active list."""
    position: int


@dataclass(frozen=True)
class Machine:
    """A machine with its kernel and its HugeTLB folios."""

    line: Line = LINES["6.12.0"]
    levels: int = 4
    nodes: int = 1
    node_size: int = GIB
    """Bytes of memory of each node, one node after the other."""
    nodes_shift: int = 6
    """``CONFIG_NODES_SHIFT``"""
    page_size: int = 64
    """``sizeof(struct page)``"""
    encryption_mask: int = 0
    """``sme_me_mask``"""
    is_locked: bool | None = None
    """Whether ``hugetlb_lock`` is held; ``None`` for a kernel whose types do not show it."""
    has_no_execute: bool = True
    """The processor has NX, and firmware did not switch it off."""
    enabled: bool = True
    """HVO is on for new folios."""
    orders: tuple[int, ...] = (9, 18)
    """Of the hstates."""
    folios: tuple[Folio, ...] = ()
    split: frozenset[int] = frozenset()
    """
    PMDs over the vmemmap that lead to a table although no folio under them needs one now, by their
    numbers: see :func:`pmd_of()`.
    """
    damage: Mapping[int, Damage] = field(default_factory=dict)
    """By the number of the PMD over the vmemmap."""
    links: Mapping[LinkPlace, Link] = field(default_factory=dict)
    """Broken links of lists."""
    sections: Mapping[int, Section] = field(default_factory=dict)
    """The special ones, by number."""
    parts: Mapping[int, int] = field(default_factory=dict)
    """Of special sections, which 2 MiB of their memory have a memmap, as a mask."""

    @property
    def layout(self) -> Layout:
        return self.line.layout

    @property
    def max_nodes(self) -> int:
        return 1 << self.nodes_shift

    @property
    def max_pfn(self) -> int:
        return self.nodes * self.node_size >> PAGE_SHIFT

    @property
    def page_offset(self) -> int:
        return (0xFFFF888000000000 if self.levels == 4 else 0xFF11000000000000) + 5 * GIB

    @property
    def vmemmap(self) -> int:
        """As moved by KASLR."""
        return (0xFFFFEA0000000000 if self.levels == 4 else 0xFFD4000000000000) + 7 * GIB

    def node_pfns(self, node: int) -> range:
        pages = self.node_size >> PAGE_SHIFT
        return range(node * pages, (node + 1) * pages)

    def folio_pfn(self, number: int, node: int = 0) -> int:
        """PFN of the n-th place for a 2 MiB folio of a node."""
        return self.node_pfns(node).start + FIRST_FOLIO + 512 * number

    def node(self, pfn: int) -> int:
        return pfn // (self.node_size >> PAGE_SHIFT)

    def zone(self, pfn: int) -> int:
        """Zone number: a device's, or below 16 MiB, below 4 GiB, above."""
        if self.sections.get(pfn // SECTION_PAGES) is Section.DEVICE:
            return ZONES.index("ZONE_DEVICE")
        if pfn < 1 << 12:
            return ZONES.index("ZONE_DMA")
        return ZONES.index("ZONE_DMA32" if pfn < 1 << 20 else "ZONE_NORMAL")

    def page_address(self, pfn: int) -> int:
        """Virtual address of the struct page of a PFN."""
        return self.vmemmap + pfn * self.page_size

    def vmemmap_pages(self, order: int) -> int:
        return (self.page_size << order) // PAGE_SIZE

    def pmd(self, folio: Folio, index: int) -> int:
        """Number of the PMD over a vmemmap page of a folio."""
        return (folio.pfn * self.page_size + index * PAGE_SIZE) >> PMD_SHIFT

    def vpages(self, folio: Folio) -> list[Vpage]:
        """How each vmemmap page of a folio is mapped, by the last level alone."""
        vpages = [OWN_W] * self.vmemmap_pages(folio.order)
        if folio.remapped:
            kept = KEPT[self.layout]
            vpages[kept:] = [REUSE_R] * (len(vpages) - kept)
        for index, vpage in folio.edits.items():
            vpages[index] = vpage
        return vpages

    @cached_property
    def split_pmds(self) -> frozenset[int]:
        """The PMDs that lead to a table: HVO splits those over what it remaps."""
        needed: set[int] = set()
        for folio in self.folios:
            edited = (index for index, vpage in folio.edits.items() if vpage != OWN_W)
            pages = range(self.vmemmap_pages(folio.order))
            needed.update(self.pmd(folio, i) for i in (pages if folio.remapped else edited))
        return self.split | needed

    def lists(self) -> Iterator[tuple[int, int | None, list[Folio]]]:
        """Each hstate's free lists by node, then its active list: order, node and folios."""
        for order in self.orders:
            for node in range(self.nodes):
                yield (
                    order,
                    node,
                    [f for f in self._of(order, State.FREE) if self.node(f.pfn) == node],
                )
            yield order, None, list(self._of(order, State.ACTIVE))

    def _of(self, order: int, state: State) -> Iterator[Folio]:
        return (folio for folio in self.folios if (folio.order, folio.state) == (order, state))


def pmd_of(pfn: int, page_size: int = 64) -> int:
    """Number of the PMD over the struct page of a PFN, counted from that of PFN 0."""
    return pfn * page_size >> PMD_SHIFT


def hstate_name(order: int) -> str:
    return f"hugepages-{4 << order}kB"
