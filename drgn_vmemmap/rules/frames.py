# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules on all of the vmemmap: who owns its frames, and whether they are in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drgn_vmemmap.paging.mapping import Entry, Run
from drgn_vmemmap.paging.tables import TableEntry
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import (
    COUNT_MISMATCH,
    ENTRY_ATTRIBUTES,
    FRAME_ALIASED,
    FRAME_FAILED,
    FRAME_FOREIGN,
    FRAME_FREED,
    NOT_PRESENT,
    ORPHAN_REMAP,
    TABLE_FREED,
    UNREADABLE,
    Rule,
)
from drgn_vmemmap.vmemmap.frames import Failed, Foreign, FrameFault, Free


class VmemmapPage(NamedTuple):
    """A vmemmap page that is mapped to a frame."""

    folio: int | None
    """Head PFN of the HugeTLB folio that it describes; ``None`` if it describes none."""
    vmemmap_page: int | None
    """Its index in that folio."""
    entry: Entry

    def __str__(self) -> str:
        if self.folio is None:
            return f"the vmemmap at {self.entry.address:#x}"
        return f"vmemmap page {self.vmemmap_page} of folio {self.folio:#x}"


def frame_fault(page: VmemmapPage, fault: FrameFault) -> Finding:
    """
    A frame that backs vmemmap is in use, belongs to nothing else, and did not fail
    (``alloc_vmemmap_page_list()``, ``memory_failure()``).
    """
    rule, message, expected = _fault(fault)
    return rule.finding_at(page.entry, message, page.folio, page.vmemmap_page, expected)


def tail_frame_fault(fault: FrameFault, address: int) -> Finding:
    """
    A frame that a zone keeps is in use, belongs to nothing else, and did not fail, though no folio
    shares it now (``vmemmap_get_tail()``).

    :param address: Of its struct page, to which the zone's ``vmemmap_tails`` points.
    """
    rule, message, expected = _fault(fault)
    message += ", but a zone keeps it for shared tails; no folio uses it now"
    return rule.finding(message, address=address, expected=expected)


def table_fault(fault: FrameFault, address: int) -> Finding:
    """
    A page table over the vmemmap is in use, belongs to nothing else, and did not fail
    (``vmemmap_split_pmd()``).

    :param address: First vmemmap page that it maps.
    """
    table = f"the page table over the vmemmap from {address:#x} on"
    rule, message, expected = _fault(fault)
    message = f"{table}: {message}"
    if isinstance(fault, Free):
        rule, expected = TABLE_FREED, "a page table in use"
    elif isinstance(fault, Foreign):
        message = f"frame {fault.frame:#x}, {table}, belongs to {fault.owner}"
        expected = "a page table of the kernel"
    return rule.finding(message, address=address, expected=expected)


def _fault(fault: FrameFault) -> tuple[Rule, str, str]:
    """The rule that does not hold for a frame, what is wrong with it, and what should be there."""
    frame = f"frame {fault.frame:#x}"
    if isinstance(fault, Failed):
        message = f"the memory of {frame} failed (PG_hwpoison)"
        return FRAME_FAILED, message, "memory that did not fail"
    if isinstance(fault, Foreign):
        return FRAME_FOREIGN, f"{frame} belongs to {fault.owner}", "a frame that nothing else uses"
    message = f"{frame} has no reference"
    if fault.block is not None:
        block = f"block of order {fault.block.order} at PFN {fault.block.pfn:#x}"
        message = f"{frame} is free, in the buddy allocator's {block}"
    return FRAME_FREED, message, "a frame in use"


def unreadable_owners(count: int, left_out: bool) -> Finding:
    """
    Page tables over the vmemmap whose own struct pages are not in the dump.

    :param left_out: An extract lacks them on purpose.
    """
    tables = "page table" if count == 1 else "page tables"
    return UNREADABLE.finding(
        f"the struct pages of {count} {tables} over the vmemmap are not in the dump: "
        "whether these are in use is not known",
        severity=Severity.INFO if left_out else None,
    )


def frame_aliased(page: VmemmapPage, frame: int, other: str, rest: int) -> Finding:
    """
    A frame that is no reuse frame backs one page of vmemmap (``vmemmap_remap_pte()``).

    :param other: What else the frame backs, in words.
    :param rest: How many more pages it backs.
    """
    more = f" and {rest} more" if rest > 0 else ""
    message = f"frame {frame:#x} also backs {other}{more}"
    expected = "a frame that nothing else maps"
    return FRAME_ALIASED.finding_at(page.entry, message, page.folio, page.vmemmap_page, expected)


def not_present(entry: Entry, pfns: range) -> Finding:
    """
    All memory from boot, and all that is online, has its vmemmap (``vmemmap_populate()``).

    :param entry: The first one that maps no memory.
    :param pfns: What the vmemmap describes.
    """
    problem = entry.problem.value if entry.problem else "maps nothing"
    message = f"{_vmemmap_of(pfns)}: {entry.level.name} entry: {problem}"
    return NOT_PRESENT.finding_at(entry, message, expected="a present entry that maps memory")


def entry_attributes(entry: Entry, pfns: range, names: Sequence[str]) -> Finding:
    """
    Leaves over the vmemmap are ``PAGE_KERNEL`` (``vmemmap_populate()``).

    :param entry: The first one.
    :param pfns: What the vmemmap describes.
    :param names: Of the bits that it has, or lacks.
    """
    message = f"{_vmemmap_of(pfns)}: {entry.level.name} entry has {', '.join(names)}"
    expected = "no attributes but those of the kernel's own data"
    return ENTRY_ATTRIBUTES.finding_at(entry, message, expected=expected)


def table_attributes(entry: TableEntry) -> Finding:
    """Entries that lead to page tables are ``_KERNPG_TABLE`` or ``_PAGE_TABLE``."""
    names = ", ".join(entry.unusual_attributes)
    message = (
        f"the page table over the vmemmap from {entry.address:#x} on: "
        f"the {entry.level.name} entry that leads to it has {names}"
    )
    expected = "no attributes but those of the kernel's own page tables"
    return ENTRY_ATTRIBUTES.finding_at(entry, message, expected=expected)


def orphan_remap(entry: Entry, pfns: range, what: str) -> Finding:
    """
    Memory that is no HugeTLB folio any more got its vmemmap back
    (``hugetlb_vmemmap_restore_folio()``).

    :param entry: The first one.
    :param pfns: What the vmemmap describes.
    :param what: What is wrong with it.
    """
    message = f"{_vmemmap_of(pfns)} {what}, but describes no HugeTLB folio"
    return ORPHAN_REMAP.finding_at(entry, message, expected="frames of its own, writable")


def _vmemmap_of(pfns: range) -> str:
    return f"vmemmap of PFNs {pfns[0]:#x} to {pfns[-1]:#x}"


def memmap_count_mismatch(counted: int, found: int) -> Finding:
    """``nr_memmap_boot_pages`` and ``nr_memmap_pages`` count the frames that back the vmemmap."""
    return COUNT_MISMATCH.finding(
        f"nr_memmap_boot_pages and nr_memmap_pages add up to {counted}, "
        f"but {found} frames back the vmemmap"
    )


def unreadable_counters() -> Finding:
    """The counters are variables of the kernel's, and not in the dump."""
    return UNREADABLE.finding(
        "nr_memmap_boot_pages and nr_memmap_pages are not in the dump: they were not compared"
    )


def unreadable_frames(count: int) -> Finding:
    """Frames whose own struct pages cannot be read."""
    return UNREADABLE.finding(
        f"the struct pages of {count} frames that back the vmemmap are not mapped, "
        "or not in the dump"
    )


def unreadable_vmemmap(run: Run) -> Finding:
    """A page table over vmemmap that is not in the dump."""
    message = f"{run.level.name} table over vmemmap {run.start:#x} is not in the dump"
    return Finding(
        UNREADABLE.name,
        UNREADABLE.severity,
        message,
        address=run.start,
        entry_address=run.raw_address,
    )


def endless_vmemmap() -> Finding:
    """Page tables over the vmemmap lead in a circle."""
    return UNREADABLE.finding(
        "more vmemmap is mapped than there is memory: page tables lead in a circle"
    )
