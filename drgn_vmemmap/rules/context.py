# SPDX-License-Identifier: LGPL-2.1-or-later

"""The context in which rules on a single folio are checked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.accounting import Accounting
from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.hugetlb.poison import is_unreliable
from drgn_vmemmap.hvo.verdict import Judgement
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Entry
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import Rule
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class FolioContext:
    """One folio with everything that was read of it and concluded from it."""

    def __init__(
        self,
        snapshot: Snapshot,
        folio: Folio,
        judgement: Judgement,
        tail_frames: frozenset[int] | None,
        entries: Sequence[Entry] | None = None,
        accounting: Accounting = Accounting.COUNTED,
    ) -> None:
        """
        :param tail_frames: PFNs that the folio's zone keeps for tails of its order; ``None`` if
            that is not in the dump.
        :param entries: How its vmemmap pages are mapped, in order, all of them; ``None`` if they
            are plainly what a layout requires.
        :param accounting: Whether the kernel counts the folio.
        """
        self.snapshot = snapshot
        self.kernel = snapshot.kernel
        self.folio = folio
        self.judgement = judgement
        self.tail_frames = tail_frames
        self.accounting = accounting
        self._entries = entries

    @property
    def address(self) -> int:
        """Virtual address in bytes of the head page."""
        return self.snapshot.geometry.address(self.folio.pfn)

    @property
    def entries(self) -> Sequence[Entry]:
        """How the vmemmap pages are mapped, in order, all of them."""
        if self._entries is None:
            self._entries = read_entries(self.snapshot, self.folio)
        return self._entries

    def entry(self, index: int) -> Entry:
        """How one vmemmap page is mapped."""
        if self._entries is not None:
            return self._entries[index]
        page_size = self.snapshot.geometry.page_size
        return self.snapshot.walker.entry(self.address + index * page_size)

    @property
    def may_be_in_flight(self) -> bool:
        """Whether the folio may be on its way into or out of the pool."""
        return self.accounting is not Accounting.COUNTED

    @cached_property
    def may_be_leaked(self) -> bool:
        """
        Whether the folio may be leaked: if it left its pool, the kernel never frees it, as it does
        not know which of its pages failed.
        """
        try:
            may_be_gone = self.may_be_in_flight and self.folio.poisoned
            return may_be_gone and is_unreliable(self.snapshot, self.folio)
        except MissingMemory:
            return False

    @property
    def is_leaked(self) -> bool:
        """Whether the folio is known to have left its pool, and the kernel never frees it."""
        return self.accounting is Accounting.UNCOUNTED and self.may_be_leaked

    @property
    def kept(self) -> int:
        """How many of the pages must be writable because the kernel writes them."""
        layout = self.judgement.layout
        return 1 if layout is Layout.NONE else layout.kept

    @property
    def tails(self) -> str:
        """How the tails of an optimized folio are mapped, in words."""
        frame = self.judgement.reuse_frame
        return "read-only" if frame is None else f"frame {frame:#x}, read-only"

    def maps_reuse_frame(self, entry: Entry) -> bool:
        """Whether an entry maps the reuse frame."""
        return entry.frame is not None and entry.frame == self.judgement.reuse_frame

    def finding(
        self,
        rule: Rule,
        message: str,
        index: int | None = None,
        expected: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """
        :param index: Index of the vmemmap page; ``None`` for the folio itself.
        """
        pfn = self.folio.pfn
        if index is None:
            return rule.finding(message, pfn, self.address, expected, severity)
        return rule.finding_at(self.entry(index), message, pfn, index, expected, severity)


def read_entries(snapshot: Snapshot, folio: Folio) -> list[Entry]:
    """How the vmemmap pages of a folio are mapped, in order, all of them."""
    geometry, walker = snapshot.geometry, snapshot.walker
    start = geometry.address(folio.pfn)
    end = start + geometry.pages_of_order(folio.order) * geometry.page_size
    return [entry for run in walker.walk(start, end) for entry in walker.pages(run)]
