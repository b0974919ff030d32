# SPDX-License-Identifier: LGPL-2.1-or-later

"""How lines of the kernel begin; any other line may continue the one before it."""

from __future__ import annotations

import re

_OOPS = (
    *("BUG:", "kernel BUG", "WARNING: ", "INFO: ", "Oops\\b", "general protection", "#?PF: "),
    *("PGD [0-9a-f]", "CPU: ?\\d", "[UP]ID: ", "Tainted: ", "Hardware name:", "Workqueue:"),
    *("RIP: ", "RSP: ", "Code: ", "R[A-DS][XIP]: ", "R[BD][IP]: ", "R(?:0?[89]|1[0-5]): "),
    *("[FGDECS]S: +[0-9a-f]", "CR[2-4]: ", "DR\\d: ", "PKRU:", "ORIG_RAX", "Call Trace:"),
    *("</?[A-Z]{3,8}>", "(?:\\? ?)?[\\w.]+\\+0x[0-9a-f]+/0x", "Modules linked in:", "[=-]{3,}"),
    *(
        "Kernel ",
        "Linux version",
        "-- (?:Reb|B)oot ",
        "Command line:",
        "note: ",
        "watchdog:",
        "NMI backtrace",
    ),
    *("PANIC: ", "\\w+: Corrupted page table", "CPA[ :]", "\\*pdp?[te] = [0-9a-f]"),
    # Of other architectures.
    *("Unable to handle ", "CPU \\d+ Unable", "Failing address: "),
)
_PAGES = (
    *("page: ?", "head:|memcg:", "(?:anon |ksm )?flags: ", "raw: ", "page_type: ", "page_owner"),
    *("page (?:dumped|does not)", "page last (?:allocated|free)", "aops:", "addr:", "file:"),
    "pgd:[0-9a-f]{8}",
    *("PFN ", "list_(?:add|del)", "failed to isolate", "migrating pfn", "alloc_contig_range"),
    *("cma: ", "HugeTLB: ", "KASAN: ", "(?:Read|Write|Free) (?:of|at) ", "The buggy"),
    *("Memory state", "Disabling ", "RMPUPDATE", "Leaking PFN", "SEV-SNP", "Slab 0x"),
    *("Memory access of size", "(?:Use-after-free|Invalid|Out-of-bounds) (?:read|write|free) "),
    *("Corrupted memory at", "cma_\\w*alloc\\(\\): ", "\\S+\\.[ch]:\\d+: bad p"),
    *("\\[\\w{16}-\\w{16}\\] ", "section already", "memory offlining", "removing memory fails"),
    *("page 0x\\w+ outside", "online_pages \\[", "SEV: ", "AMD-Vi: ", "Failed to reclaim PFN"),
    *(
        "x86/mm: ",
        "(?:read|write|assert no)[\\w -]{0,9}(?: \\([\\w, ]+\\))? to 0x",
        "race at unknown",
    ),
)
_FAILURES = (
    *("Memory [Ff]ailure:", "[Ss]oft[ _-]?[Oo]fflin", "Unpoison:", "Injecting "),
    *("(?:__)?get_any_page: ", "RAS: ", "\\[Firmware \\w+\\]: ", "0x\\w+: Sending SIGBUS"),
    *("Could not invalidate pfn", "\\*\\* \\d+ printk messages dropped"),
    *("mce: ", "MCE: ", "EDAC ", "(?:\\{\\d+\\})?\\[Hardware Error\\]", "Uncorrected "),
)


# What systemd writes on the console while it starts and stops units.
_SYSTEMD = (
    "\\[ *(?:OK|FAILED|DEPEND|WARN|INFO|TIME|SKIP|\\*+) *\\]",
    "(?:Start|Stopp|Mount|Unmount|Activat|Deactivat|Expect|Load)ing .*\\.\\.\\.$",
)

_BEGINNING = re.compile("|".join((*_OOPS, *_PAGES, *_FAILURES, *_SYSTEMD)))


def begins_message(line: str) -> bool:
    """
    Whether a line is the first one of what the kernel wrote.

    :param line: Without prefixes, and without spaces at its start.
    """
    return _BEGINNING.match(line) is not None
