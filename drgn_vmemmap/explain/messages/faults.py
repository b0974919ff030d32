# SPDX-License-Identifier: LGPL-2.1-or-later

"""Faults of the kernel."""

from __future__ import annotations

from drgn_vmemmap.explain.messages.message import message
from drgn_vmemmap.explain.messages.versions import ALL, OLDER

_FAULT = "show_fault_oops(), arch/x86/mm/fault.c"
_PROTECTION = "exc_general_protection(), arch/x86/kernel/traps.c"

GENERAL_PROTECTION = (
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
        "v6.19 to v7.3",
        _PROTECTION,
    ),
    message(
        "NULL pointer dereference with LASS",
        "null pointer dereference",
        r"general protection fault, kernel NULL pointer dereference %xfault",
        "v6.19 to v7.3",
        _PROTECTION,
    ),
)
"""Faults that are none of a page: no access and no walk is logged for them."""

PAGE_FAULTS = (
    message(
        "page fault",
        "page fault for address",
        r"unable to handle page fault for address: ?%fault",
        ALL,
        _FAULT,
    ),
    message(
        "NULL pointer dereference",
        "null pointer dereference",
        r"NULL pointer dereference, address: ?%fault",
        ALL,
        _FAULT,
    ),
    message(
        "paging request",
        "unable to handle kernel",
        r"unable to handle kernel (?:paging request|NULL pointer dereference) at %fault",
        OLDER,
        _FAULT,
    ),
    message(
        "early page fault",
        "early exception 0x0e",
        r"PANIC: early exception 0x0e IP \S{1,40} error [0-9a-f]{1,16} cr2 %xfault",
        ALL,
        "early_fixup_exception(), arch/x86/mm/extable.c",
    ),
    message(
        "corrupted page table",
        "corrupted page table",
        r"Corrupted page table at address (?P<fault>[0-9a-f]{1,16})\b",
        ALL,
        "pgtable_bad(), arch/x86/mm/fault.c",
    ),
)

FAULTS = (*GENERAL_PROTECTION, *PAGE_FAULTS)
