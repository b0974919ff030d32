# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kernel's messages that name a page: one entry for each wording.

Each was read in the kernel's source of v6.1, v6.12 or v7.3; of v5.15, only that of
``mm/memory-failure.c`` was. The versions are those that have it for certain: others may, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drgn_vmemmap.explain.message import Message, message

ALL = "v6.1 to v7.3"

_FAULT = "show_fault_oops(), arch/x86/mm/fault.c"
_PROTECTION = "exc_general_protection(), arch/x86/kernel/traps.c"
_KASAN = "print_error_description(), mm/kasan/report.c"
_KFENCE = "kfence_report_error(), mm/kfence/report.c"
_LIST = "__list_add_valid() and __list_del_entry_valid(), lib/list_debug.c"
_DUMP = "dump_page(), mm/debug.c"
_MEMORY_FAILURE = "mm/memory-failure.c"
_SEV = "arch/x86/virt/svm/sev.c"

FAULTS = (
    message(
        "page fault",
        "page fault for address",
        r"unable to handle page fault for address: %fault",
        ALL,
        _FAULT,
    ),
    message(
        "NULL pointer dereference",
        "null pointer dereference",
        r"NULL pointer dereference, address: %fault",
        ALL,
        _FAULT,
    ),
    message(
        "paging request",
        "unable to handle kernel",
        r"unable to handle kernel (?:paging request|NULL pointer dereference) at %fault",
        "before v5.1",
        _FAULT,
    ),
    message(
        "general protection fault",
        "general protection fault",
        r"general protection fault, (?:probably|maybe) for (?:non-canonical )?address %xfault",
        ALL,
        _PROTECTION,
    ),
    message(
        "LASS violation",
        "lass violation",
        r"general protection fault, probably LASS violation for address %xfault",
        "v7.3",
        _PROTECTION,
    ),
    message(
        "NULL pointer dereference with LASS",
        "null pointer dereference",
        r"general protection fault, kernel NULL pointer dereference %xfault",
        "v7.3",
        _PROTECTION,
    ),
    message(
        "corrupted page table",
        "corrupted page table",
        r"Corrupted page table at address (?P<fault>[0-9a-f]{1,16})\b",
        ALL,
        "pgtable_bad(), arch/x86/mm/fault.c",
    ),
)
"""Faults of the kernel."""

ADDRESSES = (
    message(
        "KASAN access", "at addr ", r"(?:Read|Write) of size \d+ at addr %address", ALL, _KASAN
    ),
    message("KASAN free", "free of addr", r"Free of addr %address", "v6.1 to v7.3", _KASAN),
    message(
        "KASAN range",
        "kasan: ",
        r"KASAN: [\w -]{1,80} in range \[0x(?P<address>[0-9a-f]{16})-0x[0-9a-f]{16}\]",
        ALL,
        "kasan_non_canonical_hook(), mm/kasan/report.c",
    ),
    message(
        "KFENCE access",
        "(in kfence-#",
        r"(?:Use-after-free|Invalid) (?:read|write|free) (?:at|of) %pointer",
        ALL,
        _KFENCE,
    ),
    message(
        "KFENCE invalid access", "invalid ", r"\bInvalid (?:read|write) at %pointer:", ALL, _KFENCE
    ),
    message(
        "KFENCE out of bounds",
        "out-of-bounds",
        r"Out-of-bounds (?:read|write) at %pointer",
        ALL,
        _KFENCE,
    ),
    message(
        "KFENCE corruption", "corrupted memory", r"Corrupted memory at %pointer \[", ALL, _KFENCE
    ),
    message(
        "corrupted list",
        "list_",
        r"list_(?:add|del) corruption\. (?:next->prev|prev->next) should be (?:prev |next )?\(?"
        r"(?P<address1>[0-9a-f]{16})\)?, but was (?P<address2>[0-9a-f]{16})\. "
        r"\((?:next|prev)=(?P<address3>[0-9a-f]{16})\)",
        "v6.1 to v7.3",
        _LIST,
    ),
    message(
        "corrupted list, without the other entry",
        "list_del corruption",
        r"list_del corruption\. (?:next->prev|prev->next) should be (?P<address1>[0-9a-f]{16}), "
        r"but was (?P<address2>[0-9a-f]{16})$",
        "v5.15",
        _LIST,
    ),
    message(
        "deleted list entry",
        "list_del corruption",
        r"list_del corruption, (?P<address>[0-9a-f]{16})->(?:next|prev) is (?:NULL|LIST_POISON)",
        ALL,
        _LIST,
    ),
    message(
        "list entry added twice",
        "list_add double add",
        r"list_add double add: new=(?P<address1>[0-9a-f]{16}), prev=(?P<address2>[0-9a-f]{16}), "
        r"next=(?P<address3>[0-9a-f]{16})",
        ALL,
        _LIST,
    ),
    message(
        "memory error at a user's address",
        "hardware memory corruption fault at",
        r"due to hardware memory corruption fault at (?P<address>[0-9a-f]{1,16})\b",
        ALL,
        "do_sigbus(), arch/x86/mm/fault.c",
    ),
    message(
        "busy memory of a CMA area",
        "is busy, retrying",
        r"memory range at %pointer is busy, retrying",
        "v5.15 to v6.1",
        "cma_alloc(), mm/cma.c",
    ),
)
"""Messages that name virtual addresses without a fault."""

PAGES = (
    message(
        "bad page state",
        "bad page state in process",
        r"Bad page state in process .{1,64}? ?pfn: ?%barepfn",
        ALL,
        "bad_page(), mm/page_alloc.c",
    ),
    message(
        "dumped page, with its address",
        "refcount:",
        r"\bpage:%pointer (?:ref)?count:.{1,120}?\bpfn:%pfn",
        "v5.15 to v6.1",
        _DUMP,
    ),
    message(
        "dumped page",
        "refcount:",
        r"\bpage: refcount:.{1,120}?\bpfn:%pfn",
        "v6.12 to v7.3",
        _DUMP,
    ),
    message(
        "poisoned struct page",
        "is uninitialized and poisoned",
        r"\bpage:%pointer is uninitialized and poisoned",
        ALL,
        _DUMP,
    ),
    message(
        "bad page map",
        "bad page map in process",
        r"Bad page map in process .{1,64}? ?(?:pte|pmd|pud):(?P<entry>[0-9a-f]{8,16})\b",
        ALL,
        "print_bad_pte() and print_bad_page_map(), mm/memory.c",
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
        "v5.15",
        "alloc_contig_range(), mm/page_alloc.c",
    ),
    message(
        "busy memory of a CMA area, by its PFN",
        "memory range at pfn",
        r"memory range at pfn %pfn",
        "v6.12 to v7.3",
        "cma_range_alloc(), mm/cma.c",
    ),
    message(
        "page owner, in decimal",
        "pfn ",
        r"\bPFN %decimal type \w+ Block",
        "v5.15 to v6.1",
        "print_page_owner(), mm/page_owner.c",
    ),
    message(
        "page owner",
        "pfn 0x",
        r"\bPFN %pfn type \w+ Block",
        "v6.12 to v7.3",
        "print_page_owner(), mm/page_owner.c",
    ),
    message(
        "unexpected refcount",
        "unexpected refcount on pfn",
        r"HugeTLB: unexpected refcount on PFN %decimal",
        "v6.12",
        "alloc_and_dissolve_hugetlb_folio(), mm/hugetlb.c",
    ),
    message(
        "RMP entry",
        "rmp entry",
        r"\bPFN %pfn, RMP entry: \[",
        "v7.3",
        f"dump_rmpentry(), {_SEV}",
    ),
    message(
        "unreadable RMP entry",
        "rmp entry for pfn",
        r"Failed to read RMP entry for PFN %pfn",
        "v7.3",
        f"dump_rmpentry(), {_SEV}",
    ),
    message(
        "RMP update",
        "rmpupdate failed for pfn",
        r"RMPUPDATE failed for PFN %barepfn",
        "v7.3",
        f"rmpupdate(), {_SEV}",
    ),
    message(
        "leaked pages",
        "leaking pfn range",
        r"Leaking PFN range %pfn-0x(?P<end>[0-9a-f]{1,16})\b",
        "v7.3",
        f"snp_leak_pages(), {_SEV}",
    ),
    message(
        "direct map split",
        "split direct map for pfn",
        r"Failed to split direct map for PFN %pfn",
        "v7.3",
        f"adjust_direct_map(), {_SEV}",
    ),
    message(
        "memory that stays online",
        "memory offlining",
        r"memory offlining \[mem 0x(?P<physical>[0-9a-f]{1,16})-0x[0-9a-f]{1,16}\] failed",
        ALL,
        "offline_pages(), mm/memory_hotplug.c",
    ),
)
"""Messages that name pages."""

FAILURES = (
    message(
        "memory failure",
        "memory failure: ",
        r"Memory failure: (?:\w{1,64}: )?%pfn",
        ALL,
        _MEMORY_FAILURE,
    ),
    message(
        "full queue of memory failures",
        "when queuing memory failure at",
        r"buffer overflow when queuing memory failure at %pfn",
        ALL,
        f"memory_failure_queue(), {_MEMORY_FAILURE}",
    ),
    message(
        "soft offline",
        "soft offline: ",
        r"Soft offline: %pfn",
        ALL,
        f"soft_offline_in_use_page(), {_MEMORY_FAILURE}",
    ),
    message(
        "soft offline, by its function",
        "soft_offline",
        r"soft_offline(?:_page)?: %pfn",
        "v5.15 to v6.1",
        f"soft_offline_page(), {_MEMORY_FAILURE}",
    ),
    message(
        "unpoison",
        "unpoison: ",
        r"Unpoison: %pfn",
        "v6.12 to v7.3",
        f"unpoison_memory(), {_MEMORY_FAILURE}",
    ),
    message(
        "unpoison, with the PFN at the end",
        "unpoison: ",
        r"Unpoison: [a-z][a-z -]{4,60}? %pfn",
        "v5.15 to v6.1",
        f"unpoison_memory(), {_MEMORY_FAILURE}",
    ),
    message(
        "page without a reference",
        "get_any_page: ",
        r"get_any_page: %pfn:? (?:unknown|free)",
        "before v5.14",
        f"get_any_page(), {_MEMORY_FAILURE}",
    ),
    message(
        "injected failure",
        "injecting memory failure",
        r"Injecting memory failure (?:for|at) (?:pfn|page) %pfn",
        ALL,
        "madvise_inject_error(), mm/madvise.c; hwpoison_inject(), mm/hwpoison-inject.c",
    ),
    message(
        "requested soft offline",
        "soft offlining p",
        r"Soft offlining (?:pfn|page) %pfn",
        ALL,
        "madvise_inject_error(), mm/madvise.c",
    ),
    message(
        "corrected errors",
        "soft-offlining pfn",
        r"Soft-offlining pfn: %pfn",
        ALL,
        "cec_add_elem(), drivers/ras/cec.c",
    ),
    message(
        "EDAC",
        "page:0x",
        r"\bpage:%pfn offset:0x",
        ALL,
        "edac_ce_error() and edac_ue_error(), drivers/edac/edac_mc.c",
    ),
    message(
        "machine check",
        "[hardware error]",
        r"\[Hardware Error\]:.{0,80}?\bADDR (?P<physical>[0-9a-f]{1,16})\b",
        ALL,
        "__print_mce(), arch/x86/kernel/cpu/mce/core.c",
    ),
    message(
        "memory error of the firmware",
        "physical_address:",
        r"\bphysical_address: 0x(?P<physical>[0-9a-f]{1,16})\b",
        ALL,
        "cper_print_mem(), drivers/firmware/efi/cper.c",
    ),
    message(
        "memory error in a user's access",
        "hardware memory error in user-access at",
        r"Uncorrected hardware memory error in user-access at %physical",
        ALL,
        "kill_me_maybe(), arch/x86/kernel/cpu/mce/core.c",
    ),
    message(
        "poison that the kernel read for a user",
        "kernel accessed poison in user space at",
        r"Kernel accessed poison in user space at %physical",
        "v6.1 to v7.3",
        "kill_me_never(), arch/x86/kernel/cpu/mce/core.c",
    ),
    message(
        "ignored memory error",
        "uncorrected memory error in page",
        r"Uncorrected memory error in page %pfn ignored",
        ALL,
        "memory_failure() without CONFIG_MEMORY_FAILURE, arch/x86/kernel/cpu/mce/core.c",
    ),
)
"""Messages of failing memory."""

ANY_PFN = message("PFN", "pfn", r"\bpfn(?:[:=] ?| (?=0x))(?:0x)?%barepfn", ALL, "any function")
"""A PFN in a message that is none of these."""

MESSAGES = (*FAULTS, *ADDRESSES, *PAGES, *FAILURES)


def find_messages(line: str) -> Iterator[tuple[Message, re.Match[str]]]:
    """
    The messages in a line.

    :param line: As :mod:`drgn_vmemmap.explain.text.lines` gives it.
    """
    lower = line.lower()
    for wording in MESSAGES:
        if wording.keyword in lower:
            yield from ((wording, match) for match in wording.pattern.finditer(line))
