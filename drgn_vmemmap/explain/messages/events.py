# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Trace events of failing memory, and of page faults of the kernel.

They are in the kernel's log with ``tp_printk``, or after an oops with ``ftrace_dump_on_oops``; and
in what was read from the trace buffer.
"""

from __future__ import annotations

from drgn_vmemmap.explain.messages.failures import POISON_DIGITS
from drgn_vmemmap.explain.messages.message import message
from drgn_vmemmap.explain.messages.versions import ALL

# The status and the kind of an AMD processor's bank whose address is one of memory: see
# needs_poison() of failures.py. 0x96 in the kind is a memory controller. Other processors' banks
# have no kind, and say in MISC what the address is.
_POISON = rf"{POISON_DIGITS}, IPID: (?!0{{16}})(?![0-9a-f]{{5}}096)[0-9a-f]{{16}}"
_NO_KIND = r"[0-9a-f]{16}, IPID: 0{16}"
_OF_OTHER_MODE = r"(?:, MISC: |/)[0-9a-f]{13}(?:[0-9a-f][4-7c-f]|[13579bdf][0-9a-f])[0-9a-f]"

EVENTS = (
    message(
        "event of a page fault",
        " error_code=0x",
        # What is no function's is an address.
        r"\baddress=%address ip=\S{1,128} error_code=0x",
        ALL,
        "page_fault_kernel, arch/x86/include/asm/trace/exceptions.h",
    ),
    message(
        "event of a memory controller",
        "address:0x",
        # Where the driver knows no address, it is 0.
        r"\(mc:\d{1,4} location:\S{1,40} address:0x(?P<physical>(?!0{8} )[0-9a-f]{1,16}) grain:",
        ALL,
        "mc_event, include/ras/ras_event.h",
    ),
    message(
        "event of the firmware",
        "physical addr: ",
        r" physical addr: %physical \(mask lsb:",
        ALL,
        "extlog_mem_event, include/ras/ras_event.h",
    ),
    message(
        "event of a machine check",
        ", addr",
        rf"\bMC\d{{1,3}}: (?:{_POISON}|{_NO_KIND}), ADDR(?:: |/MISC/SYND: )"
        rf"(?P<physical>(?!0{{16}})[0-9a-f]{{16}})(?!{_OF_OTHER_MODE})",
        ALL,
        "mce_record, include/trace/events/mce.h",
    ),
    message(
        "event of CXL",
        " hpa=",
        # The other address is that of the same memory without its cache.
        r"\bmemdev=.{1,1000}? hpa=(?:0x)?(?P<physical1>[0-9a-f]{1,16})\b"
        r"(?: hpa_alias0=(?:0x)?(?P<physical2>[0-9a-f]{1,16})\b)?",
        "v6.11 to v7.3",
        "cxl_general_media, cxl_dram and cxl_poison, drivers/cxl/core/trace.h",
    ),
)
