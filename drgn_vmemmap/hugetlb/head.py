# SPDX-License-Identifier: LGPL-2.1-or-later

"""The head of a folio: what its first two struct pages say of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import STATES, FolioClass, Folios, State
from drgn_vmemmap.hugetlb.hstate import Hstate
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.structs import PageTest
from drgn_vmemmap.paging.mapping import Problem
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# enum hugetlb_page_flags has fewer flags than a byte has bits.
_FLAGS_END = 1 << 8


class Head(NamedTuple):
    """The members of a folio that are in its first two struct pages."""

    order: int
    flags: int
    private: int
    next: int
    """The pointer to the next folio of its list."""
    prev: int
    """The pointer to the folio before it."""


def parse_head(kernel: Kernel, pages: bytes) -> Head | None:
    """
    :param pages: The first two struct pages of what may be a HugeTLB folio.
    :return: ``None`` if there is no folio.
    """
    return _parse(kernel, pages, kernel.hugetlb_test)


def parse_removed(kernel: Kernel, pages: bytes) -> Head | None:
    """
    The head of a folio that left its pool and may still be remapped, or of one that is being made
    and may be remapped already.

    Follows ``remove_hugetlb_page()`` of v5.14 to v6.4, and ``__prep_new_huge_page()``, which made
    the page a HugeTLB one, and marked it as optimized, only after the remap. Other compound pages
    look the same if their ``private`` is a small number.
    """
    bit = kernel.hvo.optimized_bit
    if kernel.removed_test is None or bit is None:
        return None
    head = _parse(kernel, pages, kernel.removed_test)
    if head is None or head.private >= _FLAGS_END:
        return None
    return head if not head.private or head.private >> bit & 1 else None


def _parse(kernel: Kernel, pages: bytes, test: PageTest) -> Head | None:
    if not test.matches(pages) or not kernel.head_test.matches(pages):
        return None
    return Head(
        order=pages[kernel.order.offset],
        flags=kernel.page.value(pages, "flags"),
        private=kernel.page.value_or_0(pages, "private"),
        next=kernel.page.value_or_0(pages, "lru"),
        prev=kernel.page.value_or_0(pages, "lru", 1),
    )


def read_head(snapshot: Snapshot, pfn: int) -> Head | None:
    """
    :return: The head of the HugeTLB folio at a PFN; ``None`` if there is none.
    :raises MissingMemory: if its struct pages are not mapped, or not in the dump.
    """
    return parse_head(snapshot.kernel, snapshot.struct_pages(pfn, 2))


def may_be_of_folio(snapshot: Snapshot, pfn: int, orders: Iterable[int]) -> bool:
    """
    Whether a PFN may be of a folio that was not found: its head may not be in the dump.

    :param orders: Those of the hstates.
    """
    for order in orders:
        head = pfn >> order << order
        try:
            read_head(snapshot, head)
        except MissingMemory:
            entry = snapshot.walker.entry(snapshot.geometry.address(head))
            if entry.problem in (None, Problem.UNREADABLE):
                return True
    return False


def count_with_reservation(snapshot: Snapshot, folios: Folios, hstate: str) -> int:
    """
    How many folios of a hstate give back a reservation when they are freed, or may do so, as their
    heads are not in the dump.
    """
    bit, count = snapshot.kernel.reservation_bit, 0
    if bit is None:
        return 0
    for row, pfn in enumerate(folios.pfns):
        # Such a folio is in use, or is being given back.
        if STATES[folios.states[row]] is State.FREE or folios.class_of(row).hstate != hstate:
            continue
        try:
            head = read_head(snapshot, pfn)
        except MissingMemory:
            count += 1
        else:
            count += head is not None and head.private >> bit & 1
    return count


class HeadClasses:
    """The classes of folios, by what their head pages hold."""

    def __init__(self, snapshot: Snapshot, hstates: Sequence[Hstate], folios: Folios) -> None:
        self._kernel = snapshot.kernel
        self._folios = folios
        self.names = {hstate.order: hstate.name for hstate in hstates}
        """Names of the hstates by their orders."""

    def number(self, head: Head) -> int | None:
        """Index of a head's class; ``None`` if no hstate has its order."""
        if head.order not in self.names:
            return None
        kernel, bit = self._kernel, self._kernel.hvo.optimized_bit
        return self._folios.class_number(
            FolioClass(
                order=head.order,
                hstate=self.names[head.order],
                node=kernel.page_flags.node(head.flags),
                zone=kernel.page_flags.zone(head.flags),
                flag_optimized=None if bit is None else bool(head.private >> bit & 1),
                poisoned=bool(head.flags & kernel.poison.flag),
            )
        )
