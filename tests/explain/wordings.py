# SPDX-License-Identifier: LGPL-2.1-or-later

"""The kernel's messages that name a page, each as a kernel writes it, and what it names."""

from __future__ import annotations

from typing import NamedTuple

from drgn_vmemmap.explain.message import Kind

ADDRESS = 0xFFA09B70800BB174
POINTER = "ffa09b70800bb148"


class Wording(NamedTuple):
    """A message, and what it names."""

    name: str
    """Of the entry in the table of messages."""
    line: str
    named: tuple[tuple[Kind, int], ...]


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
    _address("KASAN access", "Write of size 4 at addr ffa09b70800bb174 by task kcompactd0/71"),
    _address("KASAN free", "Free of addr ffa09b70800bb174 by task kworker/1:2/4711"),
    _address(
        "KASAN range",
        "KASAN: maybe wild-memory-access in range [0xffa09b70800bb170-0xffa09b70800bb177]",
        0xFFA09B70800BB170,
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
    _address(
        "corrupted list",
        "list_del corruption. next->prev should be ffa09b70800bb148, but was dead000000000122. "
        "(next=ffa09b70800bb188)",
        0xFFA09B70800BB148,
        0xDEAD000000000122,
        0xFFA09B70800BB188,
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
    _address(
        "deleted list entry",
        "list_del corruption, ffa09b70800bb148->prev is NULL",
        0xFFA09B70800BB148,
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
    _address(
        "busy memory of a CMA area",
        "cma_alloc(): memory range at ffa09b70800bb148 is busy, retrying",
        0xFFA09B70800BB148,
    ),
    _pfn("bad page state", "BUG: Bad page state in process cat  pfn:02ec5"),
    _pfn("bad page state", "BUG: Bad page state in process my task  pfn:102ec5", 0x102EC5),
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
    _pfn("bad page map", "BUG: Bad page map in process qemu  pte:02ec5025"),
    Wording("bad page map", "BUG: Bad page map in process qemu  pte:02ec5024 pmd:12345067", ()),
    _pfn("page isolation", "failed to isolate pfn 2ec5"),
    _pfn("page migration", "migrating pfn 2ec5 failed ret:1"),
    _pfn("busy PFNs", "alloc_contig_range: [2ec0, 2ec6) PFNs busy", 0x2EC0, 0x2EC5),
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
    _pfn("RMP entry", "SEV-SNP: PFN 0x2ec5, RMP entry: [0x0000000000000001 - 0x0000000000000000]"),
    _pfn("unreadable RMP entry", "SEV-SNP: Failed to read RMP entry for PFN 0x2ec5, error -19"),
    _pfn("RMP update", "SEV-SNP: RMPUPDATE failed for PFN 2ec5, pg_level: 1, ret: 3"),
    _pfn("leaked pages", "SEV-SNP: Leaking PFN range 0x2ec0-0x2ec6", 0x2EC0, 0x2EC5),
    _pfn("direct map split", "SEV-SNP: Failed to split direct map for PFN 0x2ec5, ret: -12"),
    _physical(
        "memory that stays online",
        "memory offlining [mem 0x02ec5040-0x0fffffff] failed due to unmovable page",
    ),
    _pfn("memory failure", "Memory failure: 0x2ec5: recovery action for huge page: Recovered"),
    _pfn("memory failure", "Memory failure: 0x2ec5: recovery action for free huge page: Ignored"),
    _pfn("memory failure", "Memory failure: 0x2ec5: already hardware poisoned"),
    _pfn("memory failure", "Memory failure: 0x2ec5: memory outside kernel control"),
    _pfn(
        "memory failure",
        "Memory failure: 0x2ec5: Sending SIGBUS to qemu:4711 due to hardware memory corruption",
    ),
    _pfn("memory failure", "Memory failure: 0x2ec5: huge page still referenced by 2 users"),
    _pfn("memory failure", "Memory failure: 0x2ec5 cannot catch tail"),
    _pfn("memory failure", "Memory failure: 0x2ec5: unhandlable page."),
    _pfn(
        "memory failure", "Memory failure: 0x2ec5: could not lock mapping for mapped hugetlb folio"
    ),
    _pfn("memory failure", "Memory Failure: 0x2ec5: thp split failed"),
    _pfn("memory failure", "Memory failure: me_huge_page: 0x2ec5: Unknown page state"),
    _pfn(
        "full queue of memory failures",
        "Memory failure: buffer overflow when queuing memory failure at 0x2ec5",
    ),
    _pfn("soft offline", "Soft offline: 0x2ec5: page already poisoned"),
    _pfn("soft offline", "soft offline: 0x2ec5: hugepage isolation failed, page count 2, type 17"),
    _pfn("soft offline", "soft offline: 0x2ec5 page already poisoned"),
    _pfn("soft offline, by its function", "soft_offline: 0x2ec5: invalidated"),
    _pfn("soft offline, by its function", "soft_offline_page: 0x2ec5 page already poisoned"),
    _pfn("unpoison", "Unpoison: 0x2ec5: software-unpoisoned page"),
    _pfn("unpoison", "Unpoison: 0x2ec5: page was already unpoisoned"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Software-unpoisoned page 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Software-unpoisoned free page 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Page was already unpoisoned 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Someone grabs the hwpoison page 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: Someone maps the hwpoison page 0x2ec5"),
    _pfn(
        "unpoison, with the PFN at the end",
        "Unpoison: the hwpoison page has non-NULL mapping 0x2ec5",
    ),
    _pfn(
        "unpoison, with the PFN at the end",
        "Unpoison: Disabled after HW memory failure 0x2ec5",
    ),
    _pfn("unpoison, with the PFN at the end", "Unpoison: failed to grab page 0x2ec5"),
    _pfn("unpoison, with the PFN at the end", "Unpoison: huge zero page is not supported 0x2ec5"),
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
    _physical("machine check", "mce: [Hardware Error]: TSC 3f3c4fe8b2d10 ADDR 2ec5040 MISC 8c"),
    _physical(
        "memory error of the firmware",
        "{1}[Hardware Error]:   physical_address: 0x0000000002ec5040",
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
    _pfn("PFN", "my_driver: cannot pin pfn 0x2ec5"),
)
