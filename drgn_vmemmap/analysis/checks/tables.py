# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on the page tables over the vmemmap: whether they could be read."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding


def check_tables(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Name the page tables over the vmemmap that are not in the dump, or lead in a circle."""
    yield from map(frame_rules.unreadable_vmemmap, _not_reported(context, ownership))
    if ownership.endless:
        yield frame_rules.endless_vmemmap()


def _not_reported(context: VmemmapContext, ownership: Ownership) -> Iterator[Run]:
    """Page tables that are not in the dump, and that no folio's findings name."""
    reported: set[int] = set()
    for run in ownership.unreadable:
        pfn, _ = context.geometry.pfn_at(run.start)
        table = run.raw_address & -context.geometry.page_size
        if table not in reported and context.folio_at(pfn) is None:
            reported.add(table)
            yield run
