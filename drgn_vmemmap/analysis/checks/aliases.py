# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on sharing: frames that more than one page of vmemmap has, and vmemmap of no folio."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hugetlb.head import may_be_of_folio
from drgn_vmemmap.hvo.ownership import ZONE_OWNER, Ownership
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding


def check_aliases(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find frames that one vmemmap page owns and another maps, and remapped vmemmap of no folio."""
    orphans = {pages.start: (pages, "is read-only") for pages in ownership.read_only}
    for frame, pages in ownership.shared().items():
        for page in pages:
            if page == ZONE_OWNER:
                continue
            if ownership.is_of_no_folio(page):
                orphans[page] = range(page, page + 1), "shares frames"
                continue
            other = next((each for each in pages if each != page), page)
            name = _name(context, other)
            yield frame_rules.frame_aliased(context.page(page), frame, name, len(pages) - 2)
    certain = (page for page in sorted(orphans) if not _may_be_folio(context, page))
    for stretch in joined(orphans[page][0] for page in certain):
        pfns = context.geometry.pfns_of(stretch)
        entry = context.page(stretch.start).entry
        yield frame_rules.orphan_remap(entry, pfns, orphans[stretch.start][1])


def _may_be_folio(context: VmemmapContext, page: int) -> bool:
    """Whether a vmemmap page may be a folio's, or a device's, for all that the dump shows."""
    pfn = context.geometry.first_pfn_of(page)
    if context.is_unknown(pfn):
        return True
    return may_be_of_folio(context.snapshot, pfn, context.orders)


def _name(context: VmemmapContext, page: int) -> str:
    return "the tails of a zone" if page == ZONE_OWNER else str(context.page(page))
