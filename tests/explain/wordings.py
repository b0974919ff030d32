# SPDX-License-Identifier: LGPL-2.1-or-later

"""The kernel's messages that name a page, each as a kernel writes it, and what it names."""

from __future__ import annotations

from typing import NamedTuple

from drgn_vmemmap.explain.messages.message import Kind

ADDRESS = 0xFFA09B70800BB174


class Wording(NamedTuple):
    """A message, and what it names."""

    name: str
    """Of the entry in the table of messages."""
    line: str
    named: tuple[tuple[Kind, int], ...]
    kernels: str = ""
    """The first and the last version with this line, where other lines of its entry have others."""


def _of(kernels: str, wording: Wording) -> Wording:
    return wording._replace(kernels=kernels)


def _pfn(name: str, line: str, *pfns: int) -> Wording:
    return Wording(name, line, tuple((Kind.PFN, pfn) for pfn in pfns or (0x2EC5,)))


def _fault(name: str, line: str, address: int = ADDRESS) -> Wording:
    return Wording(name, line, ((Kind.FAULT, address),))


def _address(name: str, line: str, *addresses: int) -> Wording:
    return Wording(name, line, tuple((Kind.ADDRESS, each) for each in addresses or (ADDRESS,)))


def _physical(name: str, line: str) -> Wording:
    return Wording(name, line, ((Kind.PHYSICAL, 0x2EC5040),))


WORDINGS = (
    _fault("page fault", "BUG: unable to handle page fault for address: ffa09b70800bb174"),
    _fault(
        "NULL pointer dereference",
        "BUG: kernel NULL pointer dereference, address: 0000000000000034",
        0x34,
    ),
    _fault("paging request", "BUG: unable to handle kernel paging request at ffa09b70800bb174"),
    _fault(
        "paging request",
        "BUG: unable to handle kernel NULL pointer dereference at 0000000000000034",
        0x34,
    ),
    _fault(
        "early page fault",
        "PANIC: early exception 0x0e IP 10:ffffffff8324a1b2 error 2 cr2 0xffa09b70800bb174",
    ),
    _fault(
        "general protection fault",
        "Oops: general protection fault, probably for non-canonical address "
        "0xdead000000000108: 0000 [#1] SMP NOPTI",
        0xDEAD000000000108,
    ),
    _fault(
        "general protection fault",
        "general protection fault, maybe for address 0xffa09b70800bb174: 0000 [#1] SMP",
    ),
    _fault(
        "LASS violation",
        "Oops: general protection fault, probably LASS violation for address 0x7f0000000034: "
        "0000 [#1] SMP",
        0x7F0000000034,
    ),
    _fault(
        "NULL pointer dereference with LASS",
        "Oops: general protection fault, kernel NULL pointer dereference 0x34: 0000 [#1] SMP",
        0x34,
    ),
    _fault(
        "corrupted page table",
        "khugepaged: Corrupted page table at address 7f0000000034",
        0x7F0000000034,
    ),
    _fault(
        "fault of another architecture",
        "Unable to handle kernel paging request at virtual address fffffc0008a80034",
        0xFFFFFC0008A80034,
    ),
    _fault(
        "fault of another architecture",
        "Unable to handle kernel NULL pointer dereference at virtual address 00000034 when read",
        0x34,
    ),
    _fault(
        "fault of another architecture",
        "CPU 3 Unable to handle kernel paging request at virtual address 9000000000a80034, "
        "era == 9000000000445566, ra == 9000000000445500",
        0x9000000000A80034,
    ),
    _fault(
        "fault of PowerPC",
        "BUG: Unable to handle kernel data access on write at 0xc00c000000a80034",
        0xC00C000000A80034,
    ),
    _fault("fault of PowerPC", "BUG: Kernel NULL pointer dereference on read at 0x00000034", 0x34),
    _fault(
        "fault of s390", "Failing address: 0000037200a80000 TEID: 0000037200a80803", 0x37200A80000
    ),
    _address("KASAN access", "Write of size 4 at addr ffa09b70800bb174 by task kcompactd0/71"),
    _address("KASAN access", "Read at addr ffa09b70800bb174 by task kcompactd0/71"),
    _address("KASAN free", "Free of addr ffa09b70800bb174 by task kworker/1:2/4711"),
    _address(
        "KASAN range",
        "KASAN: maybe wild-memory-access in range [0xffa09b70800bb170-0xffa09b70800bb177]",
        0xFFA09B70800BB170,
    ),
    _address("KMSAN access", "Memory access of size 8 starts at ffa09b70800bb174"),
    _address(
        "KMSAN metadata",
        "kmsan_internal_set_shadow_origin: not memsetting 8 bytes starting at ffa09b70800bb174, "
        "because the shadow is NULL",
    ),
    _address("KMSAN metadata of two ranges", "Access of size 8 at ffa09b70800bb174."),
    _address(
        "CR2, by a debugger",
        "CR0=80050033 CR2=ffa09b70800bb174 CR3=0000000036022000 CR4=00771ef0",
    ),
    _address("CR2, by a debugger", "cr2            0xffa09b70800bb174  [ ]"),
    Wording(
        "CR2, by a debugger",
        "CR0=80050033 CR2=00007fe300000000 CR3=0000000036022000 CR4=00771ef0",
        (),
    ),
    _address(
        "KCSAN access",
        "read-write to 0xffa09b70800bb174 of 4 bytes by task 71 on cpu 0:",
    ),
    _address(
        "KCSAN access",
        "write (marked) to 0xffa09b70800bb174 of 8 bytes by interrupt on cpu 3:",
    ),
    _address(
        "KCSAN access",
        "race at unknown origin, with read to 0xffa09b70800bb174 of 4 bytes by task 71 on cpu 0:",
    ),
    _address(
        "writable and executable mapping",
        "x86/mm: Found insecure W+X mapping at address 0xffa09b70800bb174",
    ),
    _address("KFENCE access", "Use-after-free write at 0xffa09b70800bb174 (in kfence-#42):"),
    _address("KFENCE access", "Invalid free of 0xffa09b70800bb174 (in kfence-#42):"),
    _address("KFENCE invalid access", "Invalid read at 0xffa09b70800bb174:"),
    _address(
        "KFENCE out of bounds",
        "Out-of-bounds read at 0xffa09b70800bb174 (4B left of kfence-#42):",
    ),
    _address(
        "KFENCE corruption",
        "Corrupted memory at 0xffa09b70800bb174 [ ! ! ! ] (in kfence-#42):",
    ),
    _address(
        "corrupted list",
        "list_add corruption. next->prev should be prev (ff4f3a3a7fffb088), but was "
        "dead000000000122. (next=ffa09b70800bb148).",
        0xFF4F3A3A7FFFB088,
        0xDEAD000000000122,
        0xFFA09B70800BB148,
    ),
    _address(
        "corrupted list",
        "list_add corruption. prev->next should be next (ff4f3a3a7fffb088), but was "
        "ffa09b70800bb188. (prev=ffa09b70800bb148).",
        0xFF4F3A3A7FFFB088,
        0xFFA09B70800BB188,
        0xFFA09B70800BB148,
    ),
    _of(
        "v5.17 to v7.3",
        _address(
            "corrupted list",
            "list_del corruption. next->prev should be ffa09b70800bb148, but was dead000000000122. "
            "(next=ffa09b70800bb188)",
            0xFFA09B70800BB148,
            0xDEAD000000000122,
            0xFFA09B70800BB188,
        ),
    ),
    _address(
        "corrupted list, without the other entry",
        "list_del corruption. prev->next should be ffa09b70800bb148, but was dead000000000122",
        0xFFA09B70800BB148,
        0xDEAD000000000122,
    ),
    _address(
        "deleted list entry",
        "list_del corruption, ffa09b70800bb148->next is LIST_POISON1 (dead000000000100)",
        0xFFA09B70800BB148,
    ),
    _of(
        "v6.0 to v7.3",
        _address(
            "deleted list entry",
            "list_del corruption, ffa09b70800bb148->prev is NULL",
            0xFFA09B70800BB148,
        ),
    ),
    _address(
        "list entry added twice",
        "list_add double add: new=ffa09b70800bb148, prev=ffa09b70800bb188, next=ffa09b70800bb148.",
        0xFFA09B70800BB148,
        0xFFA09B70800BB188,
    ),
    _address(
        "memory error at a user's address",
        "MCE: Killing qemu:4711 due to hardware memory corruption fault at 7fe300000000",
        0x7FE300000000,
    ),
    _of(
        "v7.3",
        _address(
            "stack overflow",
            "BUG: TASK stack guard page was hit at ff725593005ebff8 (stack is "
            "ff725593005ec000..ff725593005f0000)",
            0xFF725593005EBFF8,
        ),
    ),
    Wording(
        "stack overflow",
        "BUG: stack guard page was hit at 00000000b1946ac5 (stack is 000000003be3ac51..0000000029)",
        (),
    ),
    _address(
        "address that nothing maps",
        "CPA: called for zero pte. vaddr = ffa09b70800bb174 cpa->vaddr = ffa09b70800bb174",
    ),
    _address(
        "busy memory of a CMA area",
        "cma_alloc(): memory range at ffa09b70800bb148 is busy, retrying",
        0xFFA09B70800BB148,
    ),
    _address("slab", "Slab 0xffa09b70800bb174 objects=21 used=9 fp=0x0000000000000000 flags=0x200"),
    _address(
        "vmemmap of a distant node",
        "[ffa09b70800bb000-ffa09b70800bbfff] potential offnode page_structs",
        0xFFA09B70800BB000,
        0xFFA09B70800BBFFF,
    ),
    _pfn("bad page state", "BUG: Bad page state in process cat  pfn:02ec5"),
    _pfn("bad page state", "BUG: Bad page state in process my task  pfn:102ec5", 0x102EC5),
    _pfn("bad page cache", "BUG: Bad page cache in process cat  pfn:02ec5"),
    Wording(
        "dumped page, with its address",
        "page:ffa09b70800bb140 refcount:0 mapcount:-128 mapping:0000000000000000 index:0x1 "
        "pfn:0x2ec5",
        ((Kind.ADDRESS, 0xFFA09B70800BB140), (Kind.PFN, 0x2EC5)),
    ),
    _pfn(
        "dumped page, with its address",
        "page:00000000b1946ac5 refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2ec5",
    ),
    _pfn(
        "dumped page",
        "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2ec5",
    ),
    _address(
        "poisoned struct page",
        "page:ffa09b70800bb148 is uninitialized and poisoned",
        0xFFA09B70800BB148,
    ),
    _pfn("bad page map", "BUG: Bad page map in process qemu  pte:8000000002ec5867 pmd:12345067"),
    _of(
        "v6.18 to v7.3",
        _pfn("bad page map", "BUG: Bad page map in process qemu  pte:02ec5025"),
    ),
    Wording("bad page map", "BUG: Bad page map in process qemu  pte:02ec5024 pmd:12345067", ()),
    _of(
        "v6.18 to v7.3",
        _pfn("bad page map", "BUG: Bad page map in process qemu  pud:8000000002ec5867"),
    ),
    _pfn(
        "bad entry of a page table",
        "mm/pgtable-generic.c:50: bad pmd 00000000b1946ac5(8000000002ec5867)",
    ),
    _pfn(
        "bad entry of a page table",
        "arch/x86/mm/fault.c:12: bad pte ff4f3a3a02ff4000(8000000002ec5121)",
    ),
    _pfn("page outside its zone", "page 0x2ec5 outside node 0 zone Normal [ 0x100000 - 0x180000 ]"),
    _pfn("page isolation", "failed to isolate pfn 2ec5"),
    _pfn("page migration", "migrating pfn 2ec5 failed ret:1"),
    _pfn("busy PFNs", "alloc_contig_range: [2ec0, 2ec6) PFNs busy", 0x2EC0, 0x2EC5),
    _pfn(
        "allocated PFN range",
        "PFN range: requested [11968, 11974), allocated [11968, 12032)",
        0x2EC0,
        0x2EC5,
        0x2EFF,
    ),
    _pfn("freed PFN range", "PFN 11973: nr_pages 4 != expected 512"),
    _pfn(
        "busy memory of a CMA area, by its PFN",
        "cma_range_alloc(): memory range at pfn 0x2ec5 00000000b1946ac5 is busy, retrying",
    ),
    _pfn(
        "page owner, in decimal",
        "PFN 11973 type Movable Block 23 type Movable Flags 0x17ffffc0000000(node=0|zone=2)",
    ),
    _pfn(
        "page owner",
        "PFN 0x2ec5 type Movable Block 23 type Movable Flags 0x17ffffc0000000(node=0|zone=2)",
    ),
    _pfn("unexpected refcount", "HugeTLB: unexpected refcount on PFN 11973"),
    _pfn("removed section", "section already deactivated (0x2ec5 + 32768)"),
    _of(
        "v6.1 to v7.3",
        _pfn(
            "attributes of the direct map",
            "CPA detected W^X violation: 8000000000000063 -> 0000000000000063 range: "
            "0xff4f3a3a02ec5000 - 0xff4f3a3a02ec5fff PFN 2ec5",
        ),
    ),
    _pfn(
        "attributes of the direct map",
        "CPA  protect  .rodata: 0xff4f3a3a02ec5000 - 0xff4f3a3a02ec5fff PFN 2ec5 req "
        "8000000000000063 prevent 0000000000000002",
    ),
    _pfn("RMP entry", "SEV-SNP: PFN 0x2ec5, RMP entry: [0x0000000000000001 - 0x0000000000000000]"),
    _pfn(
        "RMP entry",
        "SEV-SNP: PFN 0x2ec5 unassigned, dumping non-zero entries in 2M PFN region: "
        "[0x2e00 - 0x3000]",
    ),
    _pfn("RMP entry", "SEV-SNP: PFN: 0x2ec5, [0x0000000000000001 - 0x0000000000000000]"),
    _pfn("unreadable RMP entry", "SEV-SNP: Failed to read RMP entry for PFN 0x2ec5, error -19"),
    _of(
        "v6.14 to v7.3",
        _pfn(
            "unreadable RMP entry", "SEV-SNP: Failed to read RMP contents for PFN 0x2ec5, error -5"
        ),
    ),
    _of(
        "v6.14 to v7.3",
        _pfn("unreadable RMP entry", "SEV-SNP: Error -5 reading RMP contents for PFN 0x2ec5"),
    ),
    _of(
        "v6.9 to v6.13",
        _pfn("unreadable RMP entry", "SEV-SNP: Error -5 reading RMP entry for PFN 0x2ec5"),
    ),
    _of(
        "v6.11 to v7.3",
        _pfn(
            "RMP entry of a guest or of the IOMMU",
            "SEV: Failed to look up RMP entry: GFN 7fe30 PFN 2ec5 error -19",
        ),
    ),
    _of(
        "v6.11 to v7.3",
        _pfn(
            "RMP entry of a guest or of the IOMMU",
            "SEV: Failed to update RMP entry: GFN 7fe30 PFN 2ec5 level 1 error -5",
        ),
    ),
    _of(
        "v6.11 to v7.3",
        _pfn("RMP entry of a guest or of the IOMMU", "Failed to reclaim PFN 2ec5, rc 4 fw_err 0"),
    ),
    _pfn(
        "RMP entry of a guest or of the IOMMU", "AMD-Vi: IOMMU PFN 2ec5 RMP lookup failed, ret -19"
    ),
    _pfn(
        "RMP entry of a guest or of the IOMMU", "AMD-Vi: IOMMU PFN 2ec5 not assigned in RMP table"
    ),
    _pfn(
        "RMP entry of a guest or of the IOMMU",
        "AMD-Vi: PSMASH failed for IOMMU PFN 2ec5 huge RMP entry, ret: 3, level: 2",
    ),
    _pfn("RMP update", "SEV-SNP: RMPUPDATE failed for PFN 2ec5, pg_level: 1, ret: 3"),
    _pfn("leaked pages", "SEV-SNP: Leaking PFN range 0x2ec0-0x2ec6", 0x2EC0, 0x2EC5),
    _pfn("direct map split", "SEV-SNP: Failed to split direct map for PFN 0x2ec5, ret: -12"),
    _of(
        "v6.12 to v6.19",
        _pfn(
            "RMP entry of a guest or of the IOMMU",
            "gmem: Failed to prepare folio for index 4 GFN 7fe30 PFN 2ec5 error -5.",
        ),
    ),
    _physical(
        "memory that stays online",
        "memory offlining [mem 0x02ec5040-0x0fffffff] failed due to unmovable page",
    ),
    _physical("memory that stays offline", "online_pages [mem 0x02ec5040-0x0fffffff] failed"),
    _physical(
        "memory that is online when it is removed",
        "removing memory fails, because memory [0x0000000002ec5040-0x0000000007ffffff] is onlined",
    ),
    _pfn(
        "misaligned memory that is plugged or removed",
        "Misaligned __add_pages start: 0x2ec5 end: 0x2fff",
        0x2EC5,
        0x2FFF,
    ),
    _of(
        "v5.14 to v6.1",
        _pfn(
            "misaligned memory that is plugged or removed",
            "Misaligned __remove_pages start: 0x2ec5 end: #2fff",
            0x2EC5,
            0x2FFF,
        ),
    ),
    *(
        _of(kernels, _physical("memory of device DAX", f"kmem dax0.0: mapping0: 0x2ec5040-{rest}"))
        for rest, kernels in (
            ("0x7ffffff memory add failed", "v5.14 to v7.3"),
            ("0x7ffffff cannot be hotremoved until the next reboot", "v5.14 to v7.0"),
            ("0x7ffffff stuck online until reboot", "v7.3"),
        )
    ),
    _physical(
        "memory that is lost in a live update",
        "memfd_luo: Unable to restore folio at physical address: 2ec5040",
    ),
    _pfn("memory failure", "Memory failure: 0x2ec5: recovery action for huge page: Recovered"),
    _pfn("memory failure", "Memory failure: 0x2ec5: recovery action for free huge page: Ignored"),
    _of(
        "v5.14 to v6.14",
        _pfn("memory failure", "Memory failure: 0x2ec5: already hardware poisoned"),
    ),
    _of(
        "v6.18 to v7.3",
        _pfn(
            "memory failure",
            "Memory failure: 0x2ec5: recovery action for already poisoned page: Failed",
        ),
    ),
    _pfn("memory failure", "Memory failure: 0x2ec5: memory outside kernel control"),
    _pfn(
        "memory failure",
        "Memory failure: 0x2ec5: Sending SIGBUS to qemu:4711 due to hardware memory corruption",
    ),
    _pfn("memory failure", "Memory failure: 0x2ec5: huge page still referenced by 2 users"),
    _pfn("memory failure", "Memory failure: 0x2ec5 cannot catch tail"),
    _of("v5.19 to v7.3", _pfn("memory failure", "Memory failure: 0x2ec5: unhandlable page.")),
    _of(
        "v6.12 to v7.3",
        _pfn(
            "memory failure",
            "Memory failure: 0x2ec5: could not lock mapping for mapped hugetlb folio",
        ),
    ),
    _of("v5.14 to v6.0", _pfn("memory failure", "Memory Failure: 0x2ec5: thp split failed")),
    _pfn("memory failure", "Memory failure: me_huge_page: 0x2ec5: Unknown page state"),
    _pfn("memory failure", "Memory failure: 0x2ec5: recovery action for hugetlb page: Ignored"),
    _pfn("memory failure", "Memory failure: 0x2ec5: Failed to punch page: -5"),
    _pfn(
        "memory failure",
        "Memory failure: 0x2ec5: Cannot send advisory machine check signal to qemu:4711",
    ),
    _of(
        "v5.14 to v6.3",
        _pfn("memory failure", "Memory failure: 0x2ec5: can't handle KSM pages."),
    ),
    _of(
        "v5.14 to v6.11",
        _pfn(
            "memory failure", "Memory failure: 0x2ec5: could not lock mapping for mapped huge page"
        ),
    ),
    _of("v5.14 to v5.16", _pfn("memory failure", "Memory failure: 0x2ec5: just unpoisoned")),
    _of("v5.14", _pfn("memory failure", "Memory failure: 0x2ec5: non anonymous thp")),
    _of(
        "v5.14 to v6.9",
        _pfn("memory failure", "Memory failure: 0x2ec5: failed to unmap page (mapcount=2)"),
    ),
    _of(
        "v6.10 to v7.3",
        _pfn("memory failure", "Memory failure: 0x2ec5: failed to unmap page (folio mapcount=2)"),
    ),
    _of(
        "v7.3",
        _pfn(
            "memory failure",
            "Kernel panic - not syncing: Memory failure: 0x2ec5: unrecoverable page",
        ),
    ),
    _pfn(
        "memory failure of a page that a process lost",
        "Memory failure: Unable to find user space address 2ec5 in qemu-system-x86",
    ),
    _pfn("memory failure of no node", "Memory failure: pfn=0x2ec5, invalid nid=-1"),
    _pfn(
        "memory failure that panics",
        "Kernel panic - not syncing: Memory failure on page 2ec5",
    ),
    _pfn(
        "full queue of memory failures",
        "Memory failure: buffer overflow when queuing memory failure at 0x2ec5",
    ),
    _of("v6.11 to v7.3", _pfn("soft offline", "Soft offline: 0x2ec5: page already poisoned")),
    _of(
        "v5.14 to v6.10",
        _pfn(
            "soft offline", "soft offline: 0x2ec5: hugepage isolation failed, page count 2, type 17"
        ),
    ),
    _of("v5.14 to v6.10", _pfn("soft offline", "soft offline: 0x2ec5 page already poisoned")),
    _of(
        "v6.11 to v7.3",
        _pfn("soft offline", "Soft offline: 0x2ec5: hugepage isolation failed, page count 2, type"),
    ),
    _of(
        "v6.11 to v7.3",
        _pfn("soft offline", "Soft offline: 0x2ec5: hugepage migration failed -12, type 0x17ffff"),
    ),
    _of("v6.11 to v7.3", _pfn("soft offline", "Soft offline: 0x2ec5: invalidated")),
    _of("v6.11 to v7.3", _pfn("soft offline", "Soft offline: 0x2ec5: thp split failed")),
    _of(
        "v5.14 to v6.10",
        _pfn("soft offline", "soft offline: 0x2ec5: hugepage migration failed -12, type 17ffff"),
    ),
    _of("v6.1 to v6.10", _pfn("soft offline", "soft offline: 0x2ec5: thp split failed")),
    _pfn("soft offline, by its function", "soft_offline: 0x2ec5: invalidated"),
    _pfn("soft offline, by its function", "soft_offline_page: 0x2ec5 page already poisoned"),
    _pfn("unpoison", "Unpoison: 0x2ec5: software-unpoisoned page"),
    _pfn("unpoison", "Unpoison: 0x2ec5: page was already unpoisoned"),
    _pfn("unpoison", "Unpoison: 0x2ec5: someone grabs the hwpoison page"),
    _pfn("unpoison", "Unpoison: 0x2ec5: disabled after HW memory failure"),
    _of(
        "v5.14 to v5.16",
        _pfn(
            "unpoison, with the PFN at the end",
            "Unpoison: Memory failure is now running on 0x2ec5",
        ),
    ),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Software-unpoisoned page 0x2ec5"),
    _of(
        "v5.14 to v5.16",
        _pfn("unpoison, with the PFN at the end", "Unpoison: Software-unpoisoned free page 0x2ec5"),
    ),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Page was already unpoisoned 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Someone grabs the hwpoison page 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Someone maps the hwpoison page 0x2ec5"),
    _pfn(
        "unpoison, with the PFN at the end",
        "Unpoison: the hwpoison page has non-NULL mapping 0x2ec5",
    ),
    _of(
        "v5.19 to v6.10",
        _pfn(
            "unpoison, with the PFN at the end",
            "Unpoison: Disabled after HW memory failure 0x2ec5",
        ),
    ),
    _of(
        "v5.17 to v6.10",
        _pfn("unpoison, with the PFN at the end", "Unpoison: failed to grab page 0x2ec5"),
    ),
    _of(
        "v6.10",
        _pfn(
            "unpoison, with the PFN at the end", "Unpoison: huge zero page is not supported 0x2ec5"
        ),
    ),
    _pfn(
        "page without a reference",
        "get_any_page: 0x2ec5: unknown zero refcount page type 17ffffc0000000",
    ),
    _pfn("page without a reference", "__get_any_page: 0x2ec5 free buddy page"),
    _pfn(
        "injected failure",
        "Injecting memory failure for pfn 0x2ec5 at process virtual address 0x7fe300000000",
    ),
    _pfn("injected failure", "Injecting memory failure at pfn 0x2ec5"),
    _pfn(
        "requested soft offline",
        "Soft offlining pfn 0x2ec5 at process virtual address 0x7fe300001000",
    ),
    _pfn("corrected errors", "RAS: Soft-offlining pfn: 0x2ec5"),
    _pfn(
        "EDAC",
        "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 "
        "page:0x2ec5 offset:0x40 grain:32 syndrome:0x0 - err_code:0x0101:0x0091)",
    ),
    _physical("EDAC of Intel", "EDAC skx MC0: ADDR 0x2ec5040"),
    _physical("EDAC of Intel", "EDAC sbridge MC1: ADDR 2ec5040"),
    _pfn("EDAC without a row", "EDAC MC0: could not look up page error address 2ec5"),
    _physical("injected error of EDAC", "EDAC skx: Fake error to 0x2ec5040 injected via debugfs"),
    _physical(
        "bad memory that a test found",
        "  aaaaaaaaaaaaaaaa bad mem addr 0x0000000002ec5040 - 0x0000000002ec5048 reserved",
    ),
    _physical("machine check", "mce: [Hardware Error]: TSC 3f3c4fe8b2d10 ADDR 2ec5040 MISC 8c"),
    _physical(
        "machine check", "mce: [Hardware Error]: TSC 0 ADDR 2ec5040 MISC 86 PPIN fc6b80e0ba9d616"
    ),
    # A processor of AMD before it named the kinds of its banks, and one of a guest.
    _physical("machine check", "mce: [Hardware Error]: TSC 0 ADDR 2ec5040 MISC c00a000001000000"),
    _physical("machine check", "mce: [Hardware Error]: TSC 0 ADDR 2ec5040"),
    _physical(
        "memory error of the firmware",
        "{1}[Hardware Error]:   physical_address: 0x0000000002ec5040",
    ),
    _physical(
        "memory error of the firmware, in no memory",
        "[Firmware Warn]: GHES: Invalid address in generic error data: 0x2ec5040",
    ),
    _pfn(
        "memory error of the firmware, in a user's access",
        "0x2ec5: Sending SIGBUS to qemu:4711 due to hardware memory corruption",
    ),
    _physical(
        "memory error in a user's access",
        "mce: Uncorrected hardware memory error in user-access at 2ec5040",
    ),
    _physical(
        "poison that the kernel read for a user",
        "mce: Kernel accessed poison in user space at 2ec5040",
    ),
    _pfn("ignored memory error", "mce: Uncorrected memory error in page 0x2ec5 ignored"),
    _pfn(
        "failed page that stays in the direct map",
        "Could not invalidate pfn=0x2ec5 from 1:1 map",
    ),
    _physical(
        "memory failure of CXL, at its other address",
        "cxl_mem mem0: Offlining aliased SPA address0: 0x2ec5040",
    ),
    _physical(
        "memory that a driver may not map",
        "ioremap on RAM at 0x0000000002ec5040 - 0x0000000002ec5fff",
    ),
    *(
        _physical(
            "memory that a driver may not map, by memremap",
            f"memremap attempted on {what} 0x0000000002ec5040 size: 0x1000",
        )
        for what in ("mixed range", "ram")
    ),
    _physical(
        "memory that a driver may not map, by memremap",
        "attempted on mixed region 0x2ec5040-0x7ffffff",
    ),
    _physical(
        "memory that cannot be plugged",
        "Block size [0x8000000] unaligned hotplug range: start 0x2ec5040, size 0x200000",
    ),
    _physical(
        "memory that cannot be plugged",
        "Hotplug memory [0x2ec5040-0x7ffffff] exceeds maximum addressable range [0x0-0x1fffff]",
    ),
    _physical(
        "memory whose cache mode is reserved already",
        "x86/PAT: reserve_ram_pages_type failed [mem 0x02ec5040-0x02ec5fff], track 0x2, req 0x2",
    ),
    *(
        _physical(
            "memory that is mapped with two cache modes",
            f"x86/PAT: CPU 0/KVM:1234 map pfn {words} uncached-minus for "
            "[mem 0x02ec5040-0x02ec5fff], got write-back",
        )
        for words in ("RAM range req", "expected mapping type")
    ),
    _address(
        "event of a page fault",
        "page_fault_kernel: address=0xffa09b70800bb174 ip=compact_zone error_code=0x3",
    ),
    Wording(
        "event of a page fault",
        "page_fault_user: address=0x7fe300000000 ip=0x7fe2f0001234 error_code=0x6",
        (),
    ),
    _physical(
        "event of a memory controller",
        "mc_event: 1 Corrected error: memory read error on CPU_SrcID#0_MC#0 (mc:0 "
        "location:0:1:-1 address:0x02ec5040 grain:32 syndrome:0x00000000 err_code:0x0101)",
    ),
    Wording(
        "event of a memory controller",
        "mc_event: 1 Corrected error: memory read error on unknown memory (mc:0 "
        "location:-1:-1:-1 address:0x00000000 grain:1 syndrome:0x00000000)",
        (),
    ),
    _physical(
        "event of the firmware",
        "extlog_mem_event: {1} corrected error: multi-bit ECC physical addr: 0000000002ec5040 "
        "(mask lsb: c) node: 0 FRU: 00000000-0000-0000-0000-000000000000",
    ),
    Wording(
        "event of the firmware",
        "extlog_mem_event: {1} corrected error: unknown physical addr: ffffffffffffffff "
        "(mask lsb: ff) FRU: 00000000-0000-0000-0000-000000000000",
        (),
    ),
    _of(
        "v5.14 to v6.9",
        _physical(
            "event of a machine check",
            "mce_record: CPU: 0, MCGc/s: f000c14/0, MC7: be00000000010091, IPID: "
            "0000000000000000, ADDR/MISC/SYND: 0000000002ec5040/000000000000008c/"
            "0000000000000000, RIP: 00:<0000000000000000>, TSC: 3f3c4fe8b2d10",
        ),
    ),
    _of(
        "v6.10 to v7.3",
        _physical(
            "event of a machine check",
            "mce_record: CPU: 0, MCGc/s: f000c14/0, MC7: be00000000010091, IPID: "
            "0000000000000000, ADDR: 0000000002ec5040, MISC: 000000000000008c, SYND: "
            "0000000000000000, RIP: 00:<0000000000000000>",
        ),
    ),
    # An instruction's address, and one that a memory controller of AMD made.
    *(
        Wording("event of a machine check", line, ())
        for line in (
            "mce_record: CPU: 0, MCGc/s: f000c14/0, MC1: be00000000010091, IPID: "
            "0000000000000000, ADDR: 0000000002ec5040, MISC: 0000000000000046, SYND: ",
            "mce_record: CPU: 0, MCGc/s: 117/0, MC17: dc2040000400011b, IPID: "
            "0000009600050f00, ADDR: 00000001f7ff8040, MISC: d01a000101000000, SYND: ",
            "mce_record: CPU: 0, MCGc/s: 117/0, MC1: bc00080001010135, IPID: "
            "000100b000000000, ADDR: 0000000000000000, MISC: d01a000101000000, SYND: ",
            "mce_record: CPU: 0, MCGc/s: 117/0, MC1: bc00000001010135, IPID: "
            "000100b000000000, ADDR: 0000000002ec5040, MISC: d01a000101000000, SYND: ",
        )
    ),
    _of(
        "v6.10 to v7.3",
        _physical(
            "event of a machine check",
            "mce_record: CPU: 0, MCGc/s: 117/0, MC0: bc00080001010135, IPID: "
            "001000b000000000, ADDR: 0000000002ec5040, MISC: d01a000101000000, SYND: 0",
        ),
    ),
    Wording(
        "event of CXL",
        "cxl_general_media: memdev=mem0 host=0000:35:00.0 serial=0 log=Fatal : time=0 "
        "uuid=fbcd0a77-c260-417f-85a9-088b1621eba6 len=128 flags='' handle=1 : dpa=5040 "
        "dpa_flags='' hpa=2ec5040 hpa_alias0=42ec5040 region=region0",
        ((Kind.PHYSICAL, 0x2EC5040), (Kind.PHYSICAL, 0x42EC5040)),
    ),
    _physical(
        "event of CXL",
        "cxl_poison: memdev=mem0 host=0000:35:00.0 serial=0 trace_type=List region=region0 "
        "region_uuid=0 hpa=0x2ec5040 dpa=0x5040 dpa_length=0x40 source=Internal",
    ),
    # Daemons.
    _physical("machine check of mcelog", "MISC 90868002800208c ADDR 2ec5040"),
    Wording("machine check of mcelog", "MISC 46 ADDR 2ec5040", ()),
    *(
        Wording("page that mcelog takes offline", line, ((Kind.PHYSICAL, 0x2EC5000),))
        for line in (
            "mcelog: Corrected memory errors on page 2ec5000 exceed threshold 10 in 24h: 10 in 24h",
            "mcelog: Offlining page 2ec5000",
            "mcelog: Offlining page 2ec5000 failed: Device or resource busy",
            "mcelog: Soft offlining of page 2ec5000 failed, trying hard offlining",
        )
    ),
    _physical(
        "memory controller, by rasdaemon",
        "mc_event: 2026-11-26 15:32:04 +0000 1 Corrected error: memory read error on DIMM_A1 "
        "(mc: 0 location: 0:0:-1 address: 0x02ec5040 grain: 7 syndrome: 0x00000001)",
    ),
    *(
        Wording(
            "memory controller, by ras-mc-ctl",
            "1 2026-11-26 15:32:04 +0000 1 Corrected error(s): memory read error at DIMM_A1 "
            f"location: 0:0:0:-1, addr {address}, grain 7, syndrome 0",
            named,
        )
        for address, named in ((49041472, ((Kind.PHYSICAL, 0x2EC5040),)), (0, ()), (1 << 52, ()))
    ),
    # Of Intel, in no mode, as a physical address and as a linear one.
    *(
        Wording(
            "machine check, by rasdaemon",
            "mce_record: 2026-11-26 15:32:04 +0000 bank=7, status= 8c00004000010090, Corrected "
            "error, mca=MEMORY CONTROLLER RD_CHANNEL0_ERR, cpu_type= Skylake server, cpu= 0, "
            f"socketid= 0{misc}, addr= 2ec5040, mcgstatus=0, mcgcap= f000c14, apicid= 0",
            named,
        )
        for misc, named in (
            ("", ((Kind.PHYSICAL, 0x2EC5040),)),
            (", misc= 200400c0128c86", ((Kind.PHYSICAL, 0x2EC5040),)),
            (", misc= 46", ()),
        )
    ),
    # Of AMD: of no poison, of poison, and of a memory controller.
    *(
        Wording(
            "machine check, by rasdaemon",
            f"mce_record: 2026-11-26 15:32:04 +0000 Load Store Unit (bank=0), status= {status}, "
            "Uncorrected error, cpu_type= AMD Scalable MCA, cpu= 0, socketid= 0, misc= "
            f"d01a000101000000, addr= 2ec5040, synd= 4d000000, ipid= {kind}, mcgstatus=0",
            named,
        )
        for status, kind, named in (
            ("bc00000001010135", "1000b000000000", ()),
            ("bc00080001010135", "1000b000000000", ((Kind.PHYSICAL, 0x2EC5040),)),
            ("bc00080001010135", "9600050f00", ()),
        )
    ),
    # ras-mc-ctl does not say what is known of a bank of AMD.
    *(
        Wording(
            "machine check, by ras-mc-ctl",
            f"1 2026-11-26 15:32:04 +0000 error: Corrected error{vendor}, mcgcap=0x0f000c14, "
            f"status=0x8c00004000010090, addr=0x02ec5040, misc=0x{misc}, cpuid=0x000406f1",
            named,
        )
        for vendor, misc, named in (
            ("", "200400c0128c86", ((Kind.PHYSICAL, 0x2EC5040),)),
            ("", "00000046", ()),
            (", CPU 2", "d01a000101000000", ()),
        )
    ),
    _physical(
        "firmware, by rasdaemon",
        "extlog_mem_event: 2026-11-26 15:32:04 +0000 1 corrected error: multi-bit ECC "
        "physical addr: 0x2ec5040 mask: 0xfffffffffffff000  DIMM_A1 0-0-0-0-0",
    ),
    _physical(
        "firmware, by ras-mc-ctl",
        "1 2026-11-26 15:32:04 +0000 error: type=multi-bit ECC, severity=corrected, "
        "address=0x02ec5040, fru_id=0-0-0-0-0, fru_text='DIMM_A1',",
    ),
    Wording(
        "CXL, by rasdaemon",
        "cxl_general_media: 2026-11-26 15:32:04 +0000 memdev:mem0 host:0000:35:00.0 serial:0x0 "
        "log type:Fatal hdr_uuid:0-0 dpa:0x5040 hpa:0x2ec5040 hpa_alias0:0x42ec5040 "
        "region:region0",
        ((Kind.PHYSICAL, 0x2EC5040), (Kind.PHYSICAL, 0x42EC5040)),
    ),
    _physical(
        "CXL, by rasdaemon",
        "cxl_poison: 2026-11-26 15:32:04 +0000 memdev:mem0 host:0000:35:00.0 serial:0x0 "
        "trace_type:List region:region0 region_uuid:0-0 hpa:0x2ec5040 "
        "hpa_alias0:0xffffffffffffffff dpa:0x5040 dpa_length:0x40 source:Internal",
    ),
    *(
        Wording("page that rasdaemon takes offline", line, ((Kind.PHYSICAL, 0x2EC5000),))
        for line in (
            "rasdaemon: Corrected Errors at 0x2ec5000 exceeded threshold",
            "rasdaemon: Result of offlining page at 0x2ec5000: offlined",
            "rasdaemon: PAGE_CE_ACTION=account, ignore to offline page at 0x2ec5000",
            "rasdaemon: page at 0x2ec5000 is already offlined, ignore",
        )
    ),
    _pfn("PFN", "my_driver: cannot pin pfn 0x2ec5"),
    # Where an allocation failed, or a page is none.
    *(
        Wording("PFN", line, ())
        for line in (
            "mm_page_alloc: page=0000000000000000 pfn=0x0 order=9 migratetype=1 gfp_flags=GFP_USER",
            "cma_alloc_finish: name=hugetlb0 pfn=0x0 page=0000000000000000 count=512 align=9",
            "cma_alloc_finish: name=hugetlb0 pfn=0xffffffffffffffff page=0000000000000000 count=1",
        )
    ),
)
