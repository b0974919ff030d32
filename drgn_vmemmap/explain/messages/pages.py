# SPDX-License-Identifier: LGPL-2.1-or-later

"""Messages that name pages."""

from __future__ import annotations

from drgn_vmemmap.explain.messages.message import message
from drgn_vmemmap.explain.messages.versions import ALL, OLDER

_DUMP = "dump_page(), mm/debug.c"
_SEV = "arch/x86/virt/svm/sev.c"

DUMPED_PAGES = (
    message(
        "bad page state",
        "bad page state in process",
        r"Bad page state in process .{1,64}? ?pfn: ?%barepfn",
        ALL,
        "bad_page(), mm/page_alloc.c",
    ),
    message(
        "bad page cache",
        "bad page cache in process",
        r"Bad page cache in process .{1,64}? ?pfn: ?%barepfn",
        ALL,
        "filemap_unaccount_folio(), mm/filemap.c",
    ),
    message(
        "dumped page, with its address",
        "refcount:",
        r"\bpage:%pointer (?:ref)?count:.{1,120}?\bpfn:%pfn",
        "v5.14 to v6.8",
        _DUMP,
    ),
    message(
        "dumped page",
        "refcount:",
        r"\bpage: refcount:.{1,120}?\bpfn:%pfn",
        "v6.9 to v7.3",
        _DUMP,
    ),
    message(
        "poisoned struct page",
        "is uninitialized and poisoned",
        r"\bpage:%pointer is uninitialized and poisoned",
        ALL,
        _DUMP,
    ),
)
"""Messages with the contents of a struct page, or before those."""

PAGES = (
    *DUMPED_PAGES,
    message(
        "bad page map",
        "bad page map in process",
        # The tables that lead to the entry may follow, which map no page.
        r"Bad page map in process (?:(?!p(?:gd|ud|md|te):).){1,64}(?:pte|pmd|pud):"
        r"(?P<entry>[0-9a-f]{8,16})\b",
        ALL,
        "print_bad_pte() and print_bad_page_map(), mm/memory.c",
    ),
    message(
        "bad entry of a page table",
        ": bad p",
        r": bad (?:pte|pmd|pud|p4d|pgd) [0-9a-f]{16}\((?P<entry>[0-9a-f]{16})\)",
        ALL,
        "pmd_ERROR() and the like, arch/x86/include/asm/pgtable_64.h",
    ),
    message(
        "page outside its zone",
        "outside node",
        r"\bpage %pfn outside node \d+ zone",
        ALL,
        "page_outside_zone_boundaries(), mm/page_alloc.c",
    ),
    message(
        "page isolation",
        "failed to isolate pfn",
        r"failed to isolate pfn %barepfn",
        ALL,
        "do_migrate_range(), mm/memory_hotplug.c",
    ),
    message(
        "page migration",
        "migrating pfn",
        r"migrating pfn %barepfn failed",
        ALL,
        "do_migrate_range(), mm/memory_hotplug.c",
    ),
    message(
        "busy PFNs",
        "pfns busy",
        r"\[(?P<pfn>[0-9a-f]{1,16}), (?P<end>[0-9a-f]{1,16})\) PFNs busy",
        OLDER,
        "alloc_contig_range(), mm/page_alloc.c",
    ),
    message(
        "allocated PFN range",
        "pfn range: requested",
        r"PFN range: requested \[(?P<decimal_pfn1>\d{1,16}), (?P<decimal_end1>\d{1,16})\), "
        r"allocated \[(?P<decimal_pfn2>\d{1,16}), (?P<decimal_end2>\d{1,16})\)",
        "v6.12 to v7.3",
        "alloc_contig_range(), mm/page_alloc.c",
    ),
    message(
        "freed PFN range",
        "!= expected",
        r"\bPFN %decimal: nr_pages \d+ != expected",
        "v6.12 to v6.19",
        "free_contig_range(), mm/page_alloc.c",
    ),
    message(
        "busy memory of a CMA area, by its PFN",
        "memory range at pfn",
        r"memory range at pfn %pfn",
        "v6.6 to v7.3",
        "cma_range_alloc(), mm/cma.c",
    ),
    message(
        "page owner, in decimal",
        "pfn ",
        r"\bPFN %decimal type \w+ Block",
        "v5.14 to v6.4",
        "print_page_owner(), mm/page_owner.c",
    ),
    message(
        "page owner",
        "pfn 0x",
        r"\bPFN %pfn type \w+ Block",
        "v6.6 to v7.3",
        "print_page_owner(), mm/page_owner.c",
    ),
    message(
        "unexpected refcount",
        "unexpected refcount on pfn",
        r"HugeTLB: unexpected refcount on PFN %decimal",
        "v6.12 to v6.19",
        "alloc_and_dissolve_hugetlb_folio(), mm/hugetlb.c",
    ),
    message(
        "removed section",
        "section already deactivated",
        r"section already deactivated \(%pfn \+",
        ALL,
        "clear_subsection_map(), mm/sparse-vmemmap.c and mm/sparse.c",
    ),
    message(
        "memory that stays online",
        "memory offlining",
        r"memory offlining \[mem 0x(?P<physical>[0-9a-f]{1,16})-0x[0-9a-f]{1,16}\] failed",
        ALL,
        "offline_pages(), mm/memory_hotplug.c",
    ),
    message(
        "memory that stays offline",
        "online_pages",
        r"online_pages \[mem 0x(?P<physical>[0-9a-f]{1,16})-0x[0-9a-f]{1,16}\] failed",
        ALL,
        "online_pages(), mm/memory_hotplug.c",
    ),
    message(
        "memory that is online when it is removed",
        "removing memory fails",
        r"removing memory fails, because memory \[0x(?P<physical>[0-9a-f]{1,16})-",
        ALL,
        "check_memblock_offlined_cb(), mm/memory_hotplug.c",
    ),
    message(
        "memory that a driver may not map",
        "ioremap on ram at",
        r"ioremap on RAM at 0x(?P<physical>[0-9a-f]{1,16}) - 0x",
        ALL,
        "__ioremap_caller(), arch/x86/mm/ioremap.c",
    ),
    message(
        "memory that a driver may not map, by memremap",
        "attempted on ",
        r"\battempted on (?:(?:mixed range|ram) 0x(?P<physical1>[0-9a-f]{1,16}) size: |"
        r"(?:mixed|ram) region 0x(?P<physical2>[0-9a-f]{1,16})-0x)",
        ALL,
        "memremap() and try_ram_remap(), kernel/iomem.c; pagemap_range(), mm/memremap.c",
    ),
    message(
        "memory whose cache mode is reserved already",
        "reserve_ram_pages_type failed",
        r"reserve_ram_pages_type failed \[mem 0x(?P<physical>[0-9a-f]{1,16})-0x",
        ALL,
        "reserve_ram_pages_type(), arch/x86/mm/pat/memtype.c",
    ),
    message(
        "memory that cannot be plugged",
        "hotplug ",
        r"(?:unaligned hotplug range: start 0x(?P<physical1>[0-9a-f]{1,16}), size|"
        r"Hotplug memory \[0x(?P<physical2>[0-9a-f]{1,16})-0x[0-9a-f]{1,16}\] exceeds)",
        ALL,
        "check_hotplug_memory_range() and mhp_range_allowed(), mm/memory_hotplug.c",
    ),
    message(
        "misaligned memory that is plugged or removed",
        "misaligned ",
        # Some kernels write #2ec5 for the end.
        r"Misaligned \w{1,64} start: %pfn end: (?:0x|#)(?P<pfn2>[0-9a-f]{1,16})\b",
        ALL,
        "__add_pages() and __remove_pages(), mm/memory_hotplug.c",
    ),
    message(
        "memory of device DAX",
        "mapping",
        r"mapping\d{1,4}: 0x(?P<physical>[0-9a-f]{1,16})-0x[0-9a-f]{1,16} "
        r"(?:memory add failed|cannot be hotremoved|stuck online)",
        ALL,
        "dev_dax_kmem_probe() and dev_dax_kmem_remove(), drivers/dax/kmem.c",
    ),
    message(
        "memory that is lost in a live update",
        "unable to restore folio",
        r"Unable to restore folio at physical address: %physical",
        "v6.19 to v7.3",
        "memfd_luo_retrieve_folios(), mm/memfd_luo.c",
    ),
    message(
        "memory that is mapped with two cache modes",
        "map pfn ",
        r"map pfn (?:RAM range req|expected mapping type) \S{1,20} for "
        r"\[mem 0x(?P<physical>[0-9a-f]{1,16})-0x",
        ALL,
        "reserve_pfn_range(), arch/x86/mm/pat/memtype.c",
    ),
    message(
        "attributes of the direct map",
        "cpa ",
        r"\bCPA .{1,160}? PFN %barepfn",
        ALL,
        "static_protections() and verify_rwx(), arch/x86/mm/pat/set_memory.c",
    ),
    message(
        "RMP entry",
        "pfn",
        r"\bPFN:? %pfn(?:, (?:RMP entry: )?\[0x| unassigned, dumping)",
        "v6.9 to v7.3",
        f"dump_rmpentry(), {_SEV}",
    ),
    message(
        "unreadable RMP entry",
        "for pfn 0x",
        r"\bread(?:ing)? RMP (?:entry|contents) for PFN %pfn",
        "v6.9 to v7.3",
        f"dump_rmpentry(), {_SEV}",
    ),
    message(
        "RMP entry of a guest or of the IOMMU",
        " pfn ",
        r"\b(?:(?:RMP entry:|index [0-9a-f]{1,16}) GFN [0-9a-f]{1,16}|IOMMU|Failed to reclaim) "
        r"PFN %barepfn",
        "v6.9 to v7.3",
        "iommu_page_make_shared(), drivers/iommu/amd/init.c; __kvm_gmem_prepare_folio(), "
        "virt/kvm/guest_memfd.c; arch/x86/kvm/svm/sev.c",
    ),
    message(
        "RMP update",
        "rmpupdate failed for pfn",
        r"RMPUPDATE failed for PFN %barepfn",
        "v6.9 to v7.3",
        f"rmpupdate(), {_SEV}",
    ),
    message(
        "leaked pages",
        "leaking pfn range",
        r"Leaking PFN range %pfn-0x(?P<end>[0-9a-f]{1,16})\b",
        "v6.9 to v7.3",
        f"snp_leak_pages(), {_SEV}",
    ),
    message(
        "direct map split",
        "split direct map for pfn",
        r"Failed to split direct map for PFN %pfn",
        "v6.9 to v7.3",
        f"adjust_direct_map(), {_SEV}",
    ),
)
