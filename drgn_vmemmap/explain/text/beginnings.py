# SPDX-License-Identifier: LGPL-2.1-or-later

"""How lines of the kernel begin; any other line may continue the one before it."""

from __future__ import annotations

import re

_FAULTS = (
    *(r"BUG:", r"kernel BUG", r"WARNING: ", r"INFO: ", r"Oops\b", r"PANIC: ", r"#?PF: "),
    *(r"general protection", r"\w+: Corrupted page table", r"Kernel ", r"note: ", r"watchdog:"),
    *(r"PGD [0-9a-f]", r"\*pdp?[te] = [0-9a-f]", r"pgd:[0-9a-f]{8}"),
    # Of other architectures.
    *(r"Unable to handle ", r"CPU \d+ Unable", r"Failing address: "),
)
_STACKS = (
    *(r"CPU: ?\d", r"[UP]ID: ", r"Tainted: ", r"Hardware name:", r"Workqueue:"),
    *(r"NMI backtrace", r"Call Trace:", r"</?[A-Z]{3,8}>", r"(?:\? ?)?[\w.]+\+0x[0-9a-f]+/0x"),
    *(r"Modules linked in:", r"[=-]{3,}"),
    *(r"R(?:[A-D]X|[SD]I|[BSI]P|0?[89]|1[0-5]): ", r"ORIG_RAX", r"[FGDECS]S: +[0-9a-f]"),
    *(r"CR[2-4]: ", r"DR\d: ", r"PKRU:", r"Code: ", r"CR0=[0-9a-f]", r"cr\d +0x"),
)
_BOOTS = (r"Linux version", r"-- (?:Reb|B)oot ", r"Command line:")
_PAGES = (
    *(r"page: ?", r"head:|memcg:", r"(?:anon |ksm )?flags: ", r"raw: ", r"page_type: "),
    *(r"page (?:dumped|does not)", r"page last (?:allocated|free)", r"page_owner"),
    *(r"aops:", r"addr:", r"file:", r"page 0x\w+ outside", r"\S+\.[ch]:\d+: bad p", r"PFN "),
    *(r"failed to isolate", r"migrating pfn", r"alloc_contig_range", r"HugeTLB: "),
    *(r"cma: ", r"cma_\w*alloc\(\): ", r"section already", r"memory offlining"),
    *(r"removing memory fails", r"online_pages \[", r"CPA[ :]", r"x86/(?:mm|PAT): "),
    *(r"RMPUPDATE", r"Leaking PFN", r"SEV-SNP", r"SEV: ", r"AMD-Vi: ", r"Failed to reclaim PFN"),
    *(
        r"ioremap on RAM",
        r"(?:memremap )?attempted on ",
        r"Misaligned \w+ start: ",
        r"kmem \w+\.\d+: ",
    ),
    *(r"Block size \[", r"Hotplug memory \["),
    *(r"gmem: ", r"(?:memfd_luo: )?Unable to restore folio"),
)
_SANITIZERS = (
    *(r"KASAN: ", r"(?:Read|Write|Free) (?:of|at) ", r"The buggy", r"Memory state", r"Disabling "),
    *(
        r"(?:Memory a|A)ccess of size",
        r"kmsan_\w+: ",
        r"(?:Use-after-free|Invalid|Out-of-bounds) (?:read|write|free) ",
    ),
    *(r"Corrupted memory at", r"race at unknown"),
    r"(?:read|write|assert no)[\w -]{0,9}(?: \([\w, ]+\))? to 0x",
    *(r"list_(?:add|del)", r"Slab 0x", r"\[\w{16}-\w{16}\] "),
)
_FAILURES = (
    *(r"Memory [Ff]ailure:", r"[Ss]oft[ _-]?[Oo]fflin", r"Unpoison:", r"Injecting "),
    *(r"(?:__)?get_any_page: ", r"RAS: ", r"\[Firmware \w+\]: ", r"0x\w+: Sending SIGBUS"),
    *(r"Could not invalidate pfn", r"mce: ", r"MCE: ", r"EDAC "),
    r"Uncorrected (?:hardware )?memory error ",
    *(r"(?:\{\d+\})?\[Hardware Error\]", r"cxl_\w+[: ]", r"(?:\w+_)?mem\w*_event: "),
    *(r"mc_event: ", r"mce_record: ", r"page_fault_\w+: ", r"[0-9a-f]{16} bad mem addr "),
    # Of mcelog and rasdaemon, and a row of ras-mc-ctl.
    *(r"(?:[\w.-]+ )?(?:mcelog|rasdaemon)(?:\[\d+\])?: ", r"MISC [0-9a-f]+ ADDR "),
    r"\d+ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} ",
)
# What printk() writes where lines are lost, and systemd while it starts and stops units.
_OTHERS = (
    r"\*\* \d+ printk messages dropped",
    r"\[ *(?:OK|FAILED|DEPEND|WARN|INFO|TIME|SKIP|\*+) *\]",
    r"(?:Start|Stopp|Mount|Unmount|Activat|Deactivat|Expect|Load)ing .*\.\.\.$",
)

_BEGINNING = re.compile(
    "|".join((*_FAULTS, *_STACKS, *_BOOTS, *_PAGES, *_SANITIZERS, *_FAILURES, *_OTHERS))
)


def begins_message(line: str) -> bool:
    """
    Whether a line is the first one of what the kernel wrote.

    :param line: Without prefixes, and without spaces at its start.
    """
    return _BEGINNING.match(line) is not None
