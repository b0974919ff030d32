# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules: what must hold in a sound kernel, and what it means where it does not."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from drgn_vmemmap.paging.mapping import Entry
from drgn_vmemmap.paging.tables import TableEntry
from drgn_vmemmap.rules.finding import Finding, Severity


class Needs(enum.Enum):
    """What a rule is checked against."""

    ENTRIES = "the page-table entries over the vmemmap"
    FRAMES = "the struct pages of the frames that back the vmemmap and its page tables"
    CONTENT = "the struct pages of HugeTLB folios and of memory that folios gave back"
    LISTS = "the lists of the hstates"
    COUNTERS = "the kernel's counters"
    MEMORY = "the memory that the other rules read"


@dataclass(frozen=True)
class Rule:
    """Something that must hold."""

    name: str
    severity: Severity
    requires: str
    """What must hold, in a sentence."""
    meaning: str
    """What a finding does to a running kernel, in a sentence."""
    source: str
    """The kernel functions that the rule follows."""
    needs: Needs
    verify_only: bool = False
    """Whether only ``verify`` checks it, and a report does not."""

    def finding(
        self,
        message: str,
        folio: int | None = None,
        address: int | None = None,
        expected: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """
        A place where this rule does not hold.

        :param folio: Head PFN.
        :param address: Virtual address in bytes.
        :param severity: ``None`` for the rule's own.
        """
        return Finding(
            self.name, severity or self.severity, message, folio, None, address, expected=expected
        )

    def finding_at(
        self,
        entry: Entry | TableEntry,
        message: str,
        folio: int | None = None,
        index: int | None = None,
        expected: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """
        A vmemmap page, or a page table over the vmemmap, for which this rule does not hold.

        :param entry: How the page is mapped, or what leads to the table.
        :param folio: Head PFN of the folio that it describes.
        :param index: Index of the vmemmap page in that folio.
        :param severity: ``None`` for the rule's own.
        """
        return Finding(
            self.name,
            severity or self.severity,
            message,
            folio,
            index,
            entry.address,
            entry.raw,
            entry.raw_address,
            expected,
        )


NOT_PRESENT = Rule(
    "not-present",
    Severity.ERROR,
    "The vmemmap of all memory that has a memmap is mapped, and to frames in memory.",
    "The kernel faults when it touches a struct page there.",
    "vmemmap_populate() of arch/x86/mm/init_64.c, pfn_to_page()",
    Needs.ENTRIES,
)
TAIL_WRITABLE = Rule(
    "tail-writable",
    Severity.ERROR,
    "A vmemmap page that shares the reuse frame of another page, or of the zone, is read-only.",
    "A stray write to a tail changes struct pages of other PFNs, unnoticed.",
    "vmemmap_remap_pte() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
)
HEAD_READ_ONLY = Rule(
    "head-read-only",
    Severity.ERROR,
    "A vmemmap page that keeps a frame of its own is writable.",
    "The kernel faults when it writes to the head page, for example to take a reference.",
    "vmemmap_remap_pte() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
)
REUSE_MISMATCH = Rule(
    "reuse-mismatch",
    Severity.ERROR,
    "A remap, and a roll-back, covers all tails of a folio.",
    "Some struct pages are not kept up to date, or have two owners that write them.",
    "vmemmap_remap_free() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
)
REUSE_INVALID = Rule(
    "reuse-invalid",
    Severity.ERROR,
    "The reuse frame is in memory, and comes from where this kernel's layout takes it.",
    "The folio's tails are read from a frame that holds something else.",
    "vmemmap_remap_pte(), vmemmap_get_tail() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
)
FRAME_FREED = Rule(
    "frame-freed",
    Severity.ERROR,
    "A frame that backs vmemmap is in use.",
    "The allocator may hand out the frame: its next owner overwrites these struct pages.",
    "alloc_vmemmap_page_list(), free_vmemmap_page() of mm/hugetlb_vmemmap.c",
    Needs.FRAMES,
    verify_only=True,
)
FRAME_FOREIGN = Rule(
    "frame-foreign",
    Severity.ERROR,
    "Nothing else owns a frame that backs vmemmap, or a page table over it.",
    "Its other owner and the kernel's struct pages overwrite each other.",
    "alloc_vmemmap_page_list() of mm/hugetlb_vmemmap.c, struct page of mm_types.h",
    Needs.FRAMES,
    verify_only=True,
)
FRAME_FAILED = Rule(
    "frame-failed",
    Severity.ERROR,
    "No frame that backs vmemmap, and no page table over it, is in memory that failed.",
    "The processor may stop the machine when the kernel reads struct pages there.",
    "memory_failure() of mm/memory-failure.c",
    Needs.FRAMES,
    verify_only=True,
)
TABLE_FREED = Rule(
    "table-freed",
    Severity.ERROR,
    "A page table over the vmemmap is in use.",
    "The allocator may hand out the table: its next owner overwrites the entries in it.",
    "vmemmap_split_pmd() of mm/hugetlb_vmemmap.c",
    Needs.FRAMES,
    verify_only=True,
)
FRAME_ALIASED = Rule(
    "frame-aliased",
    Severity.ERROR,
    "A frame that one vmemmap page owns backs no other vmemmap page.",
    "Two owners write the same struct pages: reference counts and flags mix.",
    "vmemmap_remap_pte() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
    verify_only=True,
)
FLAG_MISMATCH = Rule(
    "flag-mismatch",
    Severity.ERROR,
    "HPG_vmemmap_optimized is set if, and only if, tails of the folio are remapped.",
    "Freeing the folio restores vmemmap that was never remapped, or leaves it remapped.",
    "hugetlb_vmemmap_optimize_folio() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
)
TAIL_CONTENT = Rule(
    "tail-content",
    Severity.ERROR,
    "A struct page that stands for a tail of a folio is a tail of that folio.",
    "compound_head() of a tail leads elsewhere, or freeing the folio reports a bad page.",
    "prep_compound_tail() of mm/internal.h, free_tail_page_prepare() of mm/page_alloc.c",
    Needs.CONTENT,
    verify_only=True,
)
STALE_STRUCT_PAGE = Rule(
    "stale-struct-page",
    Severity.ERROR,
    "A restored struct page is no copy of a head, and no tail of a folio that it is not in.",
    "Code that walks PFNs, such as compaction, takes the page for a HugeTLB folio.",
    "vmemmap_restore_pte() of mm/hugetlb_vmemmap.c",
    Needs.CONTENT,
    verify_only=True,
)
ORPHAN_REMAP = Rule(
    "orphan-remap",
    Severity.ERROR,
    "Vmemmap that describes no HugeTLB folio has frames of its own, and is writable.",
    "Pages in use share struct pages, or the kernel faults when it writes to theirs.",
    "hugetlb_vmemmap_restore_folio() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
    verify_only=True,
)
LIST_CORRUPT = Rule(
    "list-corrupt",
    Severity.ERROR,
    "A hstate's list closes in both directions and holds each folio of its hstate once.",
    "The kernel takes something that is no folio from its pool, or walks a list without end.",
    "enqueue_hugetlb_folio() of mm/hugetlb.c, include/linux/list.h",
    Needs.LISTS,
)
ENTRY_ATTRIBUTES = Rule(
    "entry-attributes",
    Severity.WARNING,
    "An entry over the vmemmap has no bit that the kernel never sets there.",
    "User space can access struct pages, they can be executed, or they are read uncached.",
    "PAGE_KERNEL, PAGE_KERNEL_RO, _KERNPG_TABLE of arch/x86/include/asm/pgtable_types.h",
    Needs.ENTRIES,
)
COUNT_MISMATCH = Rule(
    "count-mismatch",
    Severity.WARNING,
    "The kernel's counters agree with each other and with the folios and frames found.",
    "Pools look larger or smaller than they are.",
    "__prep_account_new_huge_page(), hugetlb_acct_memory() of mm/hugetlb.c",
    Needs.COUNTERS,
)
UNREADABLE = Rule(
    "unreadable",
    Severity.WARNING,
    "The memory that the other rules need is in the dump.",
    "Memory that is not in the dump was not checked: nothing is known of it.",
    "makedumpfile's filter levels",
    Needs.MEMORY,
)
IN_FLIGHT = Rule(
    "in-flight",
    Severity.INFO,
    "No folio is on its way into or out of its pool.",
    "Harmless: the kernel was making, remapping or freeing this folio.",
    "hugetlb_vmemmap_optimize_folios(), hugetlb_vmemmap_restore_folio() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
)
POISONED = Rule(
    "poisoned",
    Severity.INFO,
    "No memory of a folio failed.",
    "An optimized folio must get its vmemmap back before the kernel can keep the failed page.",
    "folio_set_hugetlb_hwpoison() of mm/memory-failure.c",
    Needs.CONTENT,
)
OFF_LIST = Rule(
    "off-list",
    Severity.INFO,
    "A folio is on a list of its hstate.",
    "Harmless if the folio is isolated, in migration or just being made.",
    "folio_isolate_hugetlb() of mm/hugetlb.c",
    Needs.LISTS,
)
UNOPTIMIZED = Rule(
    "unoptimized",
    Severity.INFO,
    "A folio is optimized.",
    "Harmless: HVO frees no memory of this folio.",
    "hugetlb_vmemmap_optimize_folio() of mm/hugetlb_vmemmap.c",
    Needs.ENTRIES,
    verify_only=True,
)

RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        NOT_PRESENT,
        TAIL_WRITABLE,
        HEAD_READ_ONLY,
        REUSE_MISMATCH,
        REUSE_INVALID,
        FRAME_FREED,
        FRAME_FOREIGN,
        FRAME_FAILED,
        TABLE_FREED,
        FRAME_ALIASED,
        FLAG_MISMATCH,
        TAIL_CONTENT,
        STALE_STRUCT_PAGE,
        ORPHAN_REMAP,
        LIST_CORRUPT,
        ENTRY_ATTRIBUTES,
        COUNT_MISMATCH,
        UNREADABLE,
        IN_FLIGHT,
        POISONED,
        OFF_LIST,
        UNOPTIMIZED,
    )
}
"""All rules by their names, in the order in which documents list them."""
