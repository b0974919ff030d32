# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Checks on attributes of the entries over vmemmap of no folio, and of those that lead to page tables;
rules/folio.py has the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.paging.tables import unusual_table_entries
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding


def check_attributes(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find entries over the vmemmap that have bits that the kernel never sets there."""
    yield from _of_leaves(context, ownership)
    parts = joined(part for each in context.report.sections for part in each.possible_parts)
    addresses = map(context.geometry.addresses, parts)
    for entry in unusual_table_entries(context.walker, addresses):
        yield frame_rules.table_attributes(entry)


def _of_leaves(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find vmemmap of no HugeTLB folio whose leaves have such bits."""
    geometry, walker = context.geometry, context.walker
    for numbers in ownership.of_no_folio():
        run = walker.run_at(geometry.page_number_address(numbers.start))
        # Fast path: no entry of the table, or the leaf, has such a bit.
        if walker.is_usual(run):
            continue
        entries = (walker.entry(geometry.page_number_address(number)) for number in numbers)
        pages = zip(numbers, entries)
        for names, group in groupby(pages, key=lambda pair: pair[1].unusual_attributes):
            alike = list(group)
            if names:
                (first, entry), (last, _) = alike[0], alike[-1]
                pfns = geometry.pfns_of(range(first, last + 1))
                yield frame_rules.entry_attributes(entry, pfns, names)
