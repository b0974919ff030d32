# SPDX-License-Identifier: LGPL-2.1-or-later

"""The records that an explanation of an address or a frame consists of."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.explain.dump.contents import PageContents
from drgn_vmemmap.explain.dump.mappers import ReverseMap
from drgn_vmemmap.explain.dump.places import Place
from drgn_vmemmap.explain.dump.query import Query
from drgn_vmemmap.explain.dump.walks import EntryThen
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.hugetlb.poison import FailedPages
from drgn_vmemmap.hvo.folios import FolioReport
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.paging.leaf import Leaf
from drgn_vmemmap.paging.mapping import Entry, Problem, Step


class AddressKind(enum.Enum):
    """Kinds of addresses, in words."""

    VMEMMAP = "in the vmemmap"
    DIRECT_MAP = "in the direct map"
    KERNEL = "a kernel address, not in the vmemmap"
    USER = "in user space: what it maps depends on the process"
    NOT_CANONICAL = "not canonical: any access faults"
    MEMORY = "a physical address"
    BEYOND_MEMORY = "beyond the end of physical memory"


class StructPage(NamedTuple):
    """A struct page, and what it is to a HugeTLB folio."""

    pfn: int
    """PFN that it describes."""
    address: int
    """Its virtual address in bytes."""
    offset: int
    """Offset in it of the byte that was asked for."""
    members: list[str]
    """The kernel's names of the members that this byte belongs to."""
    folio: FolioReport | None
    """The HugeTLB folio that the PFN is in."""
    vmemmap_page: int | None
    """Index in that folio of the vmemmap page with this byte."""
    role: str
    """``head``, ``tail`` or ``fake head`` of the folio; ``""`` without one."""
    known: bool
    """Whether the dump shows if it is of a folio."""
    special: str | None
    """The kind of special vmemmap that describes it: see :mod:`drgn_vmemmap.vmemmap.special`."""
    place: Place
    """Whether the PFN has a struct page, and of which memory it is."""
    contents: PageContents | None
    """The values of its members; ``None`` if it is not in the dump, or there is none."""
    failed: FailedPages | None = None
    """The pages of its folio that failed; ``None`` if none did."""

    @property
    def incomplete(self) -> bool:
        """Whether memory that says what it is, or how its folio is mapped, is not in the dump."""
        folio = self.folio
        unread = folio is not None and folio.judgement.verdict is Verdict.UNREADABLE
        return not self.known or self.place is Place.UNKNOWN or unread

    @property
    def is_shared_tail(self) -> bool:
        """Whether its vmemmap page has the folio's reuse frame in place of one of its own."""
        if self.folio is None or self.vmemmap_page is None:
            return False
        shared = self.folio.judgement.shared
        return any(first <= self.vmemmap_page <= last for first, last in shared)

    @property
    def keeps_a_frame(self) -> bool:
        """Whether its vmemmap page is one that keeps a frame of its own in the folio's layout."""
        return (
            self.folio is not None
            and self.vmemmap_page is not None
            and self.vmemmap_page < self.folio.judgement.layout.kept
        )


class Logged(NamedTuple):
    """An address or a page in a log, compared with the dump."""

    mention: Mention
    contents: PageContents | None = None
    """The struct page when it was logged, if the log has its words."""
    entries: Sequence[EntryThen] = ()
    """The entries on the walk, as they were and as they are."""
    leaf: Leaf | None = None
    """The leaf of the walk in the log."""
    mapping: ReverseMap | None = None
    """The vmemmap that the leaf's frame backs in the dump."""
    reuse_frame_of: int | None = None
    """Head PFN of the folio, if the leaf's frame is its reuse frame."""
    allowed_now: bool | None = None
    """
    Whether the dump's page tables allow the access that faulted; ``None`` if the log does not
    name the access, or the entry is not in the dump.
    """
    causes: Sequence[str] = ()
    """Why it faulted although they allow it."""


@dataclass
class Explanation:
    """All that is known of one address or frame."""

    query: Query
    kind: AddressKind
    steps: list[Step] = field(default_factory=list)
    """The walk to the address, level by level."""
    entry: Entry | None = None
    """How its page is mapped."""
    page: StructPage | None = None
    """The struct page that is there, or that of the frame that is meant."""
    frame: int | None = None
    """PFN of the frame backing the address, or the one that was asked for."""
    physical: int | None = None
    """Physical address in bytes that the address is mapped to, or that was asked for."""
    frame_state: str | None = None
    """The frame's use by its own struct page, in words; ``None`` if that is not in the dump."""
    mapping: ReverseMap = field(default_factory=ReverseMap)
    """The vmemmap that this frame backs."""
    complete: bool = True
    """Whether :attr:`mapping` is complete: all page tables over the vmemmap could be read."""
    read: str = ""
    """The effect of a read there on a running kernel, in words that follow "a read there"."""
    write: str = ""
    """The effect of a write there, in words that follow "a write there"."""
    of_page: Explanation | None = None
    """For a frame, the explanation of its struct page's address."""
    logged: Logged | None = None
    """Its mention in a log, if it has one."""

    @property
    def may_be_remapped(self) -> bool:
        """Whether its vmemmap page is unmapped, read-only or shares its frame, as HVO may cause."""
        return self.entry is not None and (
            self.entry.frame is None or not self.entry.access.writable or self.mapping.pages > 1
        )

    @property
    def lacks_contents(self) -> bool:
        """Whether a struct page is there, and its bytes are not in the dump."""
        return (
            self.kind is AddressKind.VMEMMAP
            and self.page is not None
            and self.page.contents is None
            and self.page.place in (Place.ONLINE, Place.DEVICE)
            and self.entry is not None
            and self.entry.frame is not None
            and self.entry.problem is None
        )

    @property
    def concerns_hugetlb(self) -> bool:
        """Whether it is in the vmemmap or in a HugeTLB folio, or its frame backs vmemmap."""
        return (
            self.kind is AddressKind.VMEMMAP
            or (self.page is not None and self.page.folio is not None)
            or self.mapping.count > 0
            or (self.of_page is not None and self.of_page.may_be_remapped)
        )

    @property
    def incomplete(self) -> bool:
        """Whether memory that was needed is not in the dump."""
        return (
            not self.complete
            or self.lacks_contents
            or (self.entry is not None and self.entry.problem is Problem.UNREADABLE)
            or (self.page is not None and self.page.incomplete)
            or (self.of_page is not None and self.of_page.incomplete)
        )
