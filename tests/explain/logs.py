# SPDX-License-Identifier: LGPL-2.1-or-later

"""Logs as the kernel writes them, re-addressed to the recorded kernel ``head-reuse``."""

from __future__ import annotations

FAULT = 0xFFA09B70800BB174
"""In vmemmap page 3 of folio 0x2e00: the ``_refcount`` of PFN 0x2ec5."""

WALK = (
    ("PGD", 0x7FCB0067),
    ("P4D", 0x7FCAF067),
    ("PUD", 0x7FCAE067),
    ("PMD", 0x2420067),
    ("PTE", 0x8000000035F9B121),
)

OOPS = (
    f"BUG: unable to handle page fault for address: {FAULT:016x}",
    "#PF: supervisor write access in kernel mode",
    "#PF: error_code(0x0003) - permissions violation",
    " ".join(f"{level} {raw:x}" for level, raw in WALK),
    "Oops: Oops: 0003 [#1] PREEMPT SMP NOPTI",
    "CPU: 0 UID: 0 PID: 71 Comm: kcompactd0 Not tainted 6.12.117 #1 PREEMPT(voluntary)",
    "Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-1 04/01/2014",
    "RIP: 0010:isolate_migratepages_block+0x2f1/0x1520",
    "Code: 48 8b 43 08 a8 01 0f 85 26 01 00 00 0f 1f 44 00 00 <f0> ff 43 34 48 8b",
    "RSP: 0018:ff725593005ebcf0 EFLAGS: 00010246",
    "RAX: 0000000000000001 RBX: ffa09b70800bb140 RCX: 0000000000000000",
    "RDX: 0000000000000000 RSI: ff725593005ebdf0 RDI: ff4f3a3a02ff4000",
    "FS:  0000000000000000(0000) GS:ff4f3a3a7fc00000(0000) knlGS:0000000000000000",
    "CR2: ffa09b70800bb174 CR3: 0000000036022000 CR4: 0000000000771ef0",
    "Call Trace:",
    " <TASK>",
    " ? __die_body.cold+0x19/0x27",
    " compact_zone+0x8ad/0x1010",
    " kcompactd+0x3a5/0x520",
    " </TASK>",
)

BAD_PAGE = (
    "BUG: Bad page state in process kworker/0:3  pfn:02ec0",
    "page does not match folio",
    "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2ec0",
    "flags: 0x17ffffc0000000(node=0|zone=2|lastcpupid=0x1fffff)",
    "raw: 0017ffffc0000000 ffa09b70800b8001 0000000000000000 0000000000000000",
    "raw: 0000000000000000 0000000000000000 00000000ffffffff 0000000000000000",
    "page dumped because: corrupted mapping in tail page",
)

FAILURES = (
    "Memory failure: 0x2ec6: recovery action for huge page: Recovered",
    "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 "
    "page:0x2ecb offset:0x40 grain:32 - err_code:0x0101:0x0091)",
    "mce: [Hardware Error]: TSC 3f3c4fe8b2d10 ADDR 2ecc040 MISC 8c",
)

LOG = (*OOPS, *BAD_PAGE, *FAILURES)
