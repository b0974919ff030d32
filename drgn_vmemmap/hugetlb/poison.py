# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The memory of folios that failed: which of their pages.

Follows ``struct raw_hwp_page`` and ``folio_set_hugetlb_hwpoison()`` of ``mm/memory-failure.c``.
"""

from __future__ import annotations

from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# A folio of 1 GiB with more failed pages than that has a damaged list.
_PAGES_LIMIT = 4096

# The most failed pages of a folio that are named.
_NAMED_PAGES = 8


class FailedPages(NamedTuple):
    """The failed pages of a folio."""

    pfns: list[int]
    """Ascending."""
    gap: str | None
    """Why there may be more, in words; ``None`` if these are all."""

    @property
    def message(self) -> str:
        """What failed, for people."""
        pages = ", ".join(f"{pfn:#x}" for pfn in self.pfns[:_NAMED_PAGES])
        more = len(self.pfns) - _NAMED_PAGES
        message = "memory failed" + (f" at PFN {pages}" if pages else "")
        message += f" and {more} more" if more > 0 else ""
        return message + (f"; {self.gap}" if self.gap else "")


def is_unreliable(snapshot: Snapshot, folio: Folio) -> bool:
    """
    Whether a poisoned folio has failed pages that the kernel did not record.

    The kernel never frees such a folio: it leaves its pool, and stays as it is
    (``__update_and_free_hugetlb_folio()`` of ``mm/hugetlb.c``).

    :raises MissingMemory: if its head page is not in the dump.
    """
    kernel = snapshot.kernel
    if kernel.poison.unreliable_bit is None:
        return False
    private = kernel.page.value_or_0(snapshot.struct_pages(folio.pfn), "private")
    return bool(private >> kernel.poison.unreliable_bit & 1)


def failed_pages(snapshot: Snapshot, folio: Folio) -> FailedPages:
    """The pages of a poisoned folio that failed, as far as the kernel recorded them."""
    poison = snapshot.kernel.poison
    if not poison.page.members:
        return FailedPages([], "this kernel keeps no list of failed pages")
    if poison.list is None:
        return FailedPages([], "it is not known where this kernel keeps the list of failed pages")
    pfns: set[int] = set()
    gap = None
    try:
        if is_unreliable(snapshot, folio):
            gap = "not all failed pages are recorded (HPG_raw_hwp_unreliable)"
        address = snapshot.geometry.address(folio.pfn) + poison.list.offset
        pointer = int.from_bytes(snapshot.read(address, 8), "little")
        while pointer:
            entry = snapshot.read(pointer, poison.page.size)
            pfn = snapshot.geometry.pfn_of(poison.page.value(entry, "page"))
            if pfn is None or pfn not in folio.pfns or pfn in pfns or len(pfns) == _PAGES_LIMIT:
                gap = "the list of failed pages is damaged"
                break
            pfns.add(pfn)
            pointer = poison.page.value(entry, "next")
    except MissingMemory:
        gap = "the list of failed pages is not in the dump"
    if not pfns and gap is None:
        gap = "the list of its failed pages is empty"
    return FailedPages(sorted(pfns), gap)
