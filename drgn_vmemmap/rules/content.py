# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on what is in the struct pages of folios, and on folios that are not optimized."""

from __future__ import annotations

from dataclasses import replace

from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.frames import Owner
from drgn_vmemmap.rules.rule import REUSE_INVALID, TAIL_CONTENT, UNOPTIMIZED


def tail_content(
    owner: Owner, frame: int, page: int, address: int, belongs_to: int | None
) -> Finding:
    """
    Struct pages in the reuse frame are tails (``prep_compound_tail()``, ``init_compound_tail()``).

    :param owner: The vmemmap page that the reuse frame belongs to.
    :param page: Index of the first wrong struct page in the frame.
    :param address: Virtual address in bytes of that struct page.
    :param belongs_to: Head PFN of another folio, if all in the frame is that one's.
    """
    rule, message = TAIL_CONTENT, f"struct page {page} in the reuse frame {frame:#x} is no tail"
    if belongs_to is not None:
        rule = REUSE_INVALID
        message = f"reuse frame {frame:#x} is that of the folio at PFN {belongs_to:#x}"
    finding = rule.finding_at(
        owner.entry, message, owner.folio, owner.vmemmap_page, "tails of this folio"
    )
    return replace(finding, address=address)


def unoptimized(folio: Folio, address: int, reason: str, freed: int) -> Finding:
    """
    A folio that is not optimized (``hugetlb_vmemmap_optimize_folio()``).

    :param address: Of its head page.
    :param freed: How many frames optimizing it would free.
    """
    gain = f"; optimizing it would free {freed} frames" if freed else ""
    return UNOPTIMIZED.finding(f"not optimized: {reason}{gain}", folio.pfn, address)
