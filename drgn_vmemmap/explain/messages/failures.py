# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Messages of failing memory.

``Error Addr`` of ``drivers/edac/mce_amd.c`` is none of them: what a memory controller of AMD
reports is its own, normalized address, and EDAC's ``page:`` follows where it can be translated.
"""

from __future__ import annotations

import re

from drgn_vmemmap.explain.messages.message import Message, message
from drgn_vmemmap.explain.messages.versions import ALL, OLDER

_MCE = "arch/x86/kernel/cpu/mce/core.c"
_MEMORY_FAILURE = "mm/memory-failure.c"

# Intel's processors say in bits 6 to 8 of MISC what the address is: 2 is a physical one, and AMD's
# leave 0 there (intel_mce_usable_address()).
OF_OTHER_MODE = r"(?:[0-9a-f]*[4-7c-f][0-9a-f]|[0-9a-f]*[13579bdf][0-9a-f]{2})\b"
"""The digits of MISC for an address of any other mode, which has bit 6 or bit 8."""

# A memory controller of AMD, whose address is a normalized one.
_OF_MEMORY_CONTROLLER = r".{0,80}\bIPID 96[0-9a-f]{8}\b"

MACHINE_CHECK = message(
    "machine check",
    "[hardware error]",
    r"\[Hardware Error\]:.{0,80}?\bADDR (?P<physical>[0-9a-f]{1,16})\b"
    rf"(?! MISC {OF_OTHER_MODE}|{_OF_MEMORY_CONTROLLER})",
    ALL,
    f"__print_mce(), {_MCE}",
)

BANK_STATUS = re.compile(
    r"machine check(?: exception)?: [0-9a-f]{1,16} bank \d{1,3}: (?P<status>[0-9a-f]{16})\b"
)
"""The status of a processor's bank, in lower case; its address is in one of the next lines."""

# The text after the address in lines of AMD's processors that name the kind of each bank.
_KIND_OF_BANK = re.compile(r"(?: (?:MISC|PPIN|SYND\d?) [0-9a-f]{1,16})* IPID ", re.IGNORECASE)

# MCI_STATUS_POISON.
_POISON = 1 << 43

POISON_DIGITS = r"[0-9a-f]{5}[89a-f][0-9a-f]{10}"
"""The digits of a bank's status that says that poison was read."""


def needs_poison(wording: Message, match: re.Match[str]) -> bool:
    """
    Whether an address is that of memory only if poison was read there.

    Follows ``amd_mce_usable_address()`` of ``arch/x86/kernel/cpu/mce/amd.c``: any other address
    may be one of an instruction, or what the bank calls its own entries.
    """
    return wording is MACHINE_CHECK and bool(_KIND_OF_BANK.match(match.string, match.end()))


def is_poison(status: int) -> bool:
    """Whether a bank's status says that poison was read."""
    return bool(status & _POISON)


FAILURES = (
    message(
        "memory failure",
        "memory failure: ",
        r"Memory failure: (?:\w{1,64}: )?%pfn",
        ALL,
        _MEMORY_FAILURE,
    ),
    message(
        "memory failure of a page that a process lost",
        "unable to find user space address",
        # What the kernel calls an address is the PFN: page_to_pfn().
        r"Unable to find user space address %barepfn in ",
        ALL,
        f"add_to_kill(), {_MEMORY_FAILURE}",
    ),
    message(
        "memory failure of no node",
        "memory failure: pfn=",
        r"Memory failure: pfn=%pfn, invalid nid",
        "v6.3 to v7.3",
        f"update_per_node_mf_stats(), {_MEMORY_FAILURE}",
    ),
    message(
        "memory failure that panics",
        "memory failure on page",
        r"Memory failure on page %barepfn",
        ALL,
        f"memory_failure() with vm.memory_failure_recovery=0, {_MEMORY_FAILURE}",
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
        "v5.14 to v6.10",
        f"soft_offline_page(), {_MEMORY_FAILURE}",
    ),
    message(
        "unpoison",
        "unpoison: ",
        r"Unpoison: %pfn",
        "v6.11 to v7.3",
        f"unpoison_memory(), {_MEMORY_FAILURE}",
    ),
    message(
        "unpoison, with the PFN at the end",
        "unpoison: ",
        r"Unpoison: [a-z][a-z -]{4,60}? %pfn",
        "v5.14 to v6.10",
        f"unpoison_memory(), {_MEMORY_FAILURE}",
    ),
    message(
        "page without a reference",
        "get_any_page: ",
        r"get_any_page: %pfn:? (?:unknown|free)",
        OLDER,
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
        # Where the driver knows no address, the page and the offset are 0.
        r"\bpage:(?!0x0 offset:0x0\b)%pfn offset:0x",
        ALL,
        "edac_ce_error() and edac_ue_error(), drivers/edac/edac_mc.c",
    ),
    message(
        "EDAC of Intel",
        "edac ",
        r"\bEDAC \w{1,32} MC\d{1,4}: ADDR %physical",
        ALL,
        "skx_mce_output_error(), drivers/edac/skx_common.c; sb_edac.c, pnd2_edac.c, igen6_edac.c",
    ),
    message(
        "EDAC without a row",
        "could not look up page error address",
        r"could not look up page error address %barepfn",
        ALL,
        "edac_mc_find_csrow_by_page(), drivers/edac/edac_mc.c",
    ),
    message(
        "injected error of EDAC",
        "fake error to",
        r"Fake error to %physical injected via debugfs",
        ALL,
        "debugfs_u64_set(), drivers/edac/skx_base.c, skx_common.c, i10nm_base.c, igen6_edac.c",
    ),
    message(
        "bad memory that a test found",
        "bad mem addr",
        r"\b[0-9a-f]{16} bad mem addr 0x(?P<physical>[0-9a-f]{1,16}) - 0x",
        ALL,
        "reserve_bad_mem() with memtest=, mm/memtest.c",
    ),
    MACHINE_CHECK,
    message(
        "memory error of the firmware",
        "physical_address:",
        r"\bphysical_address: 0x(?P<physical>[0-9a-f]{1,16})\b",
        ALL,
        "cper_print_mem(), drivers/firmware/efi/cper.c",
    ),
    message(
        "memory error of the firmware, in no memory",
        "invalid address in generic error data",
        r"Invalid address in generic error data: %physical",
        "v5.14 to v6.18",
        "ghes_do_memory_failure(), drivers/acpi/apei/ghes.c",
    ),
    message(
        "memory error of the firmware, in a user's access",
        "sending sigbus",
        r"(?<!failure: )(?<!\w)%pfn: Sending SIGBUS to",
        "v6.18 to v7.3",
        "memory_failure_cb(), drivers/acpi/apei/ghes.c",
    ),
    message(
        "memory error in a user's access",
        "hardware memory error in user-access at",
        r"Uncorrected hardware memory error in user-access at %physical",
        ALL,
        f"kill_me_maybe(), {_MCE}",
    ),
    message(
        "poison that the kernel read for a user",
        "kernel accessed poison in user space at",
        r"Kernel accessed poison in user space at %physical",
        "v5.16 to v7.3",
        f"kill_me_never(), {_MCE}",
    ),
    message(
        "ignored memory error",
        "uncorrected memory error in page",
        r"Uncorrected memory error in page %pfn ignored",
        ALL,
        f"memory_failure() without CONFIG_MEMORY_FAILURE, {_MCE}",
    ),
    message(
        "failed page that stays in the direct map",
        "could not invalidate pfn",
        r"Could not invalidate pfn=%pfn from 1:1 map",
        ALL,
        "set_mce_nospec(), arch/x86/mm/pat/set_memory.c",
    ),
    message(
        "memory failure of CXL, at its other address",
        "offlining aliased spa address",
        r"Offlining aliased SPA address0?: ?%physical",
        "v6.18 to v7.3",
        "cxl_handle_mce(), drivers/cxl/core/mce.c",
    ),
)
