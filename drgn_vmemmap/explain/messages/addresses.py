# SPDX-License-Identifier: LGPL-2.1-or-later

"""Messages that name virtual addresses without a fault."""

from __future__ import annotations

from drgn_vmemmap.explain.messages.message import message
from drgn_vmemmap.explain.messages.versions import ALL

_KASAN = "print_error_description(), mm/kasan/report.c"
_KFENCE = "kfence_report_error(), mm/kfence/report.c"
_LIST = "__list_add_valid() and __list_del_entry_valid(), lib/list_debug.c"

CR2_OF_DEBUGGER = message(
    "CR2, by a debugger",
    "cr2",
    r"(?:\bCR2=|^cr2 0x)(?P<address>[89a-f][0-9a-f]{15})\b",
    ALL,
    "info registers of QEMU, target/i386/cpu-dump.c; of gdb, gdb/infcmd.c",
)
"""
The register with the address of a processor's last page fault, if that is one of the kernel.

QEMU writes it to its own log, too, where KVM cannot go on.
"""

KASAN_RANGE = message(
    "KASAN range",
    "kasan: ",
    r"KASAN: [\w -]{1,80} in range \[0x(?P<address>[0-9a-f]{16})-0x[0-9a-f]{16}\]",
    ALL,
    "kasan_non_canonical_hook(), mm/kasan/report.c",
)
"""What KASAN says in an oops, right after the line that names the address of the fault."""

ADDRESSES = (
    message(
        "KASAN access",
        "at addr ",
        r"(?:Read|Write)(?: of size \d+)? at addr %address",
        ALL,
        _KASAN,
    ),
    message("KASAN free", "free of addr", r"Free of addr %address", "v6.1 to v7.3", _KASAN),
    KASAN_RANGE,
    CR2_OF_DEBUGGER,
    message(
        "KMSAN access",
        "memory access of size",
        r"Memory access of size \d+ starts at %address",
        "v6.1 to v7.3",
        "kmsan_report(), mm/kmsan/report.c",
    ),
    message(
        "KMSAN metadata",
        "kmsan_",
        r"\bkmsan_\w+: not memsetting \d+ bytes starting at %address",
        "v6.1 to v7.3",
        "kmsan_internal_set_shadow_origin(), mm/kmsan/core.c",
    ),
    message(
        "KMSAN metadata of two ranges",
        "access of size",
        r"\bAccess of size \d+ at %address\.",
        "v6.1 to v7.3",
        "kmsan_metadata_is_contiguous(), mm/kmsan/core.c",
    ),
    message(
        "KCSAN access",
        " bytes by ",
        r"\b(?:read|write|accesses|writes)(?: \([\w, ]{1,32}\))? to %address of \d{1,16} bytes by",
        ALL,
        "print_report(), kernel/kcsan/report.c",
    ),
    message(
        "writable and executable mapping",
        "insecure w+x mapping",
        r"Found insecure W\+X mapping at address %address",
        ALL,
        "note_wx(), arch/x86/mm/dump_pagetables.c",
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
        ALL,
        _LIST,
    ),
    message(
        "corrupted list, without the other entry",
        "list_del corruption",
        r"list_del corruption\. (?:next->prev|prev->next) should be (?P<address1>[0-9a-f]{16}), "
        r"but was (?P<address2>[0-9a-f]{16})\b(?!\. ?\()",
        "v5.14 to v5.16",
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
        "stack overflow",
        "stack guard page was hit",
        r"stack guard page was hit at %pointer",
        ALL,
        "handle_stack_overflow(), arch/x86/kernel/traps.c",
    ),
    message(
        "address that nothing maps",
        "called for zero pte",
        r"CPA: called for zero pte\. vaddr = %address",
        ALL,
        "__cpa_process_fault(), arch/x86/mm/pat/set_memory.c",
    ),
    message(
        "busy memory of a CMA area",
        "is busy, retrying",
        r"memory range at %pointer is busy, retrying",
        "v5.14 to v6.4",
        "cma_alloc(), mm/cma.c",
    ),
    message(
        "slab",
        " objects=",
        r"\bSlab %pointer objects=",
        ALL,
        "print_slab_info(), mm/slub.c",
    ),
    message(
        "vmemmap of a distant node",
        "potential offnode page_structs",
        r"\[(?P<address1>[0-9a-f]{16})-(?P<address2>[0-9a-f]{16})\] potential offnode page_structs",
        ALL,
        "vmemmap_verify(), mm/sparse-vmemmap.c",
    ),
)
