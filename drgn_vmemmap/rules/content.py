# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on what is in the struct pages of folios, and on folios that are not optimized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.hugetlb.tails import WrongTail
from drgn_vmemmap.paging.mapping import Entry
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.frames import VmemmapPage
from drgn_vmemmap.rules.rule import (
    IN_FLIGHT,
    REUSE_INVALID,
    STALE_STRUCT_PAGE,
    TAIL_CONTENT,
    UNOPTIMIZED,
    UNREADABLE,
)


def tail_content(
    page: VmemmapPage, frame: int, wrong: WrongTail, address: int, belongs_to: int | None
) -> Finding:
    """
    Struct pages in the reuse frame are tails (``prep_compound_tail()``, ``init_compound_tail()``).

    :param page: The vmemmap page that the reuse frame belongs to.
    :param wrong: The first wrong struct page in the frame.
    :param address: Virtual address in bytes of that struct page.
    :param belongs_to: Head PFN of another folio, if all in the frame is that one's.
    """
    rule = TAIL_CONTENT
    message = f"struct page {wrong.page} in the reuse frame {frame:#x} {wrong.reason}"
    if belongs_to is not None:
        rule = REUSE_INVALID
        message = f"reuse frame {frame:#x} is that of the folio at PFN {belongs_to:#x}"
    finding = rule.finding_at(
        page.entry, message, page.folio, page.vmemmap_page, "tails of this folio"
    )
    return replace(finding, address=address)


def unused_tail(frame: int, order: int, wrong: WrongTail, address: int) -> Finding:
    """
    A frame that a zone keeps holds tails, though no folio shares it now (``vmemmap_get_tail()``).

    :param order: Of the folios that it is kept for.
    :param wrong: The first wrong struct page in the frame.
    :param address: Of its own struct page, to which the zone's ``vmemmap_tails`` points.
    """
    message = (
        f"struct page {wrong.page} in frame {frame:#x}, which a zone keeps for tails of order "
        f"{order}, {wrong.reason}"
    )
    return TAIL_CONTENT.finding(message, address=address, expected="tails of this order")


def not_written_yet(page: VmemmapPage, frame: int, is_certain: bool) -> Finding:
    """
    The tails that a zone keeps for gigantic folios from boot are written by an initcall
    (``hugetlb_vmemmap_init()``).

    :param page: The first vmemmap page that shares them.
    :param is_certain: Whether the kernel is known to be booting.
    """
    state = "the kernel is booting"
    if not is_certain:
        state = "right only while the kernel boots, and system_state is not in the dump"
    message = f"tails in the reuse frame {frame:#x} are not written yet: {state}"
    return IN_FLIGHT.finding_at(page.entry, message, page.folio, page.vmemmap_page)


def kept_tail(
    page: VmemmapPage, frame: int, wrong: WrongTail, address: int, is_restored: bool
) -> Finding:
    """
    Struct pages in a frame that a vmemmap page has for itself are tails, too.

    :param page: That vmemmap page.
    :param wrong: The first wrong struct page in the frame.
    :param address: Virtual address in bytes of that struct page.
    :param is_restored: The folio is not optimized: a restore wrote it (``vmemmap_restore_pte()``).
    """
    is_stale = is_restored and (wrong.is_head or wrong.leads_elsewhere)
    rule, what = TAIL_CONTENT, wrong.reason
    if is_stale:
        rule = STALE_STRUCT_PAGE
        what = "is a copy of a head" if wrong.is_head else "is a tail of something else"
    message = f"struct page {wrong.page} in frame {frame:#x} {what}"
    severity = None
    if wrong.keeps_references:
        severity = Severity.WARNING
        message += (
            ", as in memory of a gigantic folio from boot; page checks (CONFIG_DEBUG_VM, "
            "debug_pagealloc) report it as bad when the folio is freed"
        )
    finding = rule.finding_at(
        page.entry, message, page.folio, page.vmemmap_page, "tails of this folio", severity
    )
    return replace(finding, address=address)


def stale_head(entry: Entry, pfn: int, address: int) -> Finding:
    """
    Memory that was given back has no HugeTLB folios (``vmemmap_restore_pte()``).

    :param entry: How the struct page's vmemmap page is mapped.
    :param pfn: PFN whose struct page is still that of a folio's head.
    :param address: Virtual address in bytes of its struct page.
    """
    message = (
        f"the struct page of PFN {pfn:#x} is still marked as a HugeTLB folio's, but no folio is "
        "there: compaction or offlining that meets it finds no hstate, and oopses"
    )
    finding = STALE_STRUCT_PAGE.finding_at(entry, message, expected="no page type")
    return replace(finding, address=address)


def stale_tails(entry: Entry, pfns: Sequence[int], head: int | None, address: int) -> Finding:
    """
    Memory that was given back has no tails of HugeTLB folios (``vmemmap_restore_pte()``).

    :param pfns: Ascending PFNs whose struct pages are tails; those between them may be anything.
    :param head: PFN that they lead to; ``None`` if they lead out of the memmap.
    :param address: Virtual address in bytes of the first struct page.
    """
    which = f"the struct page of PFN {pfns[0]:#x} is a tail"
    if len(pfns) > 1:
        which = f"the struct pages of PFNs {pfns[0]:#x} to {pfns[-1]:#x} are tails"
        if len(pfns) <= pfns[-1] - pfns[0]:
            which = f"{len(pfns)} of {which}"
    where = "leads out of the memmap" if head is None else f"leads to PFN {head:#x}"
    message = f"{which} of no folio: compound_head {where}"
    finding = STALE_STRUCT_PAGE.finding_at(entry, message, expected="no tail")
    return replace(finding, address=address)


def being_made(pfn: int, address: int) -> Finding:
    """
    A gigantic folio gets its tails before its head (``__prep_compound_gigantic_folio()``).

    :param address: Virtual address in bytes of the struct page of *pfn*.
    """
    return IN_FLIGHT.finding(
        f"tails lead to PFN {pfn:#x}, which is no head: a gigantic folio is being made, "
        "or the tails are left over from one",
        address=address,
    )


def not_compared(pages: int, whose: str, left_out: bool) -> Finding:
    """
    Struct pages that only verification reads are not in the dump.

    :param pages: How many vmemmap pages hold them.
    :param whose: What memory they are of, in words.
    :param left_out: An extract lacks them on purpose.
    """
    return UNREADABLE.finding(
        f"the struct pages in {pages} vmemmap pages of {whose} are not in the dump: they were not "
        "compared",
        severity=Severity.INFO if left_out else None,
    )


def reuse_frames_not_compared(count: int) -> Finding:
    """Reuse frames, which each extract holds, are not in the dump."""
    return UNREADABLE.finding(
        f"{count} reuse frames are not in the dump: the struct pages in them were not compared"
    )


def unoptimized(folio: Folio, address: int, reason: str, freed: int) -> Finding:
    """
    A folio that is not optimized (``hugetlb_vmemmap_optimize_folio()``).

    :param address: Of its head page.
    :param freed: How many frames optimizing it would free.
    """
    gain = f"; optimizing it would free {freed} frames" if freed else ""
    return UNOPTIMIZED.finding(f"not optimized: {reason}{gain}", folio.pfn, address)
