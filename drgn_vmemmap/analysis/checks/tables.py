# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on the page tables over the vmemmap: whether they could be read, and are in use."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.vmemmap.frames import FrameReader, Unknown

# log2 of the entries of a table: a second-level table leads to as many last-level tables.
_INDEX_BITS = 9


def check_tables(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find page tables over the vmemmap that are free, used by something else, or missing."""
    yield from _in_use(context, ownership)
    yield from map(frame_rules.unreadable_vmemmap, _not_reported(context, ownership))
    if ownership.endless:
        yield frame_rules.endless_vmemmap()


def _in_use(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find page tables that are free, or used by something else."""
    geometry, unknown = context.geometry, 0
    tables = _all_tables(context, ownership)
    frames = sorted(frame for frame in tables if context.is_online(frame))
    for problem in FrameReader(context.snapshot).check_tables(frames):
        if isinstance(problem, Unknown):
            unknown += 1
            continue
        address = geometry.page_number_address(tables[problem.frame])
        yield frame_rules.table_fault(problem, address)
    if unknown:
        yield frame_rules.unreadable_owners(unknown, context.kernel.report_only)


def _all_tables(context: VmemmapContext, ownership: Ownership) -> dict[int, int]:
    """
    PFNs of the page tables over the vmemmap, at every level but the highest.

    :return: For each, the number of the first vmemmap page that it maps.
    """
    geometry, found = context.geometry, dict(ownership.tables)
    span = context.kernel.architecture.table_span << _INDEX_BITS
    above: dict[int, int] = {}
    for page in ownership.tables.values():
        above.setdefault(geometry.page_number_address(page) // span, page)
    root = context.kernel.paging.root
    for page in above.values():
        for table in context.walker.tables(geometry.page_number_address(page)):
            if table != root:
                found.setdefault(table >> geometry.page_shift, page)
    return found


def _not_reported(context: VmemmapContext, ownership: Ownership) -> Iterator[Run]:
    """Page tables that are not in the dump, and that no folio's findings name."""
    reported: set[int] = set()
    for run in ownership.unreadable:
        pfn, _ = context.geometry.pfn_at(run.start)
        table = run.raw_address & -context.geometry.page_size
        if table not in reported and context.folio_at(pfn) is None:
            reported.add(table)
            yield run
