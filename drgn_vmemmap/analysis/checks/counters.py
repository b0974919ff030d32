# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on the kernel's counters of the frames that back its vmemmap."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import OFF_LIST
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import IN_FLIGHT
from drgn_vmemmap.vmemmap.special import DEVICE


def check_memmap_counters(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Compare the kernel's counters with the frames that back the vmemmap."""
    counters = context.kernel.memmap_counters
    if counters is None:
        return
    try:
        counted = sum(
            int.from_bytes(context.snapshot.read(address, 8), "little", signed=True)
            for address in counters
        )
    except MissingMemory:
        yield frame_rules.unreadable_counters()
        return
    found = ownership.frame_count() - len(context.report.tail_frames)
    # Without a later fix, kernels count a device's vmemmap as if it shared nothing.
    of_devices = sum(other.freed for other in context.report.special if other.kind == DEVICE)
    surplus = counted - found
    if surplus and not any(_is_possible(context, each) for each in (surplus, surplus - of_devices)):
        yield frame_rules.memmap_count_mismatch(counted, found)


def _is_possible(context: VmemmapContext, surplus: int) -> bool:
    """
    Whether a kernel may count so many frames that do not back its vmemmap.

    They are those of any number of removed sections, and some of those of folios in flight.
    """
    per_section = _per_section(context)
    at_least = max(0, -((_frames_of_folios_in_flight(context) - surplus) // per_section))
    return at_least <= min(surplus // per_section, _removed_sections(context))


def _frames_of_folios_in_flight(context: VmemmapContext) -> int:
    """
    How many frames may be counted although they do not back the vmemmap yet, or not any more.

    Those of a batch of folios wait on one list until it is done
    (``hugetlb_vmemmap_optimize_folios()``). A folio of the batch that is done looks as one in
    migration does: optimized, and on no list.
    """
    folios = context.report.folios.folios
    in_flight = {
        folios.row_at(finding.folio)
        for finding in context.report.findings
        if finding.rule == IN_FLIGHT.name and finding.folio is not None
    }
    done = {
        row
        for row, state in enumerate(folios.states)
        if state == OFF_LIST
        and folios.class_of(row).flag_optimized
        and context.may_be_in_flight(row)
    }
    orders = (folios.class_of(row).order for row in in_flight | done if row is not None)
    return sum(map(context.geometry.pages_of_order, orders))


def _per_section(context: VmemmapContext) -> int:
    """How many frames back the vmemmap of a section."""
    facts = context.kernel.sections
    return facts.pages * context.kernel.page.size // context.kernel.page_size


def _removed_sections(context: VmemmapContext) -> int:
    """
    How many sections are gone whose frames may still be counted.

    From Linux commit 9d8573111024 ("mm: don't account memmap per-node") (in v6.11) until v6.16,
    those of removed memory from boot are not taken from ``nr_memmap_boot_pages``.
    """
    facts = context.kernel.sections
    starts = (pfn for each in context.report.sections for pfn in each.pfns[:: facts.pages])
    # Memory may end within a section.
    return -(-facts.memory_end // facts.pages) - sum(pfn < facts.memory_end for pfn in starts)
