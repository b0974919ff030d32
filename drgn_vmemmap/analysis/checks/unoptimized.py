# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios that are not optimized, and why (``mm/hugetlb_vmemmap.c``)."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.rules import content as content_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.vmemmap.special import SELF_HOSTED


def check_unoptimized(context: VmemmapContext) -> Iterator[Finding]:
    """Name each folio that is not optimized, with the reason."""
    folios, kernel = context.report.folios, context.kernel
    unoptimized = {
        number
        for number, judgement in enumerate(folios.judgement_table)
        if judgement.verdict is Verdict.UNOPTIMIZED
    }
    for row, number in enumerate(folios.judgements) if unoptimized else ():
        if number in unoptimized:
            folio = folios.folios[row]
            freed = kernel.freed_when_optimized(folio.order)
            address = context.geometry.address(folio.pfn)
            yield content_rules.unoptimized(folio, address, _reason(context, folio), freed)


def _reason(context: VmemmapContext, folio: Folio) -> str:
    """Why a folio was not optimized, as far as the dump shows it."""
    kernel = context.kernel
    if not kernel.hvo.built_in:
        return "this kernel has no HVO"
    if not context.geometry.is_aligned:
        return f"struct page has {kernel.page.size} bytes, which is no power of two"
    hosts = (other for other in context.report.special if other.kind == SELF_HOSTED)
    if any(folio.pfn in other.pfns for other in hosts):
        return "its vmemmap is hosted by the hot-plugged memory that it describes"
    # The vmemmap of hot-plugged memory may have been mapped by single frames from the start. Which
    # folio was optimized is not known: the memory may have been of others, of any size.
    if context.is_from_boot(folio.pfn) and _was_restored(context, folio):
        return "its vmemmap was optimized once, and restored"
    if kernel.hvo.enabled is False:
        return "HVO is off now"
    return "the dump shows no reason"


def _was_restored(context: VmemmapContext, folio: Folio) -> bool:
    """Whether the frames that back a folio's vmemmap are not those from boot."""
    geometry, walker = context.geometry, context.walker
    pages = geometry.pages_of(folio.pfns)
    address, end = map(geometry.page_number_address, (pages.start, pages.stop))
    while address < end:
        run = walker.run_at(address)
        first, stop = (
            (at - run.start) >> geometry.page_shift for at in (address, min(run.end, end))
        )
        frames = walker.frames(run, range(first, stop))
        place = frames[0] or 0
        # A large leaf's frames are consecutive, and so are those of the table that it was split to.
        if frames != [*range(place, place + len(frames))]:
            return True
        address = run.end
    return False
