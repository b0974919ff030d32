# SPDX-License-Identifier: LGPL-2.1-or-later

"""Faults of kernels for other architectures than x86-64."""

from __future__ import annotations

from drgn_vmemmap.explain.message import message
from drgn_vmemmap.explain.messages.versions import ALL

OTHER_ARCHITECTURES = (
    message(
        "fault of another architecture",
        "at virtual address",
        r"unable to handle kernel .{1,64} at virtual address (?P<fault>[0-9a-f]{8,16})\b",
        ALL,
        "die_kernel_fault() and the like; of arm, arm64, loongarch, mips and riscv: mm/fault.c",
    ),
    message(
        "fault of PowerPC",
        " at 0x",
        r"BUG: (?:Unable to handle )?kernel [\w ]{1,64} at %xfault",
        ALL,
        "bad_page_fault(), arch/powerpc/mm/fault.c",
    ),
    message(
        "fault of s390",
        "failing address: ",
        r"Failing address: %fault TEID:",
        ALL,
        "dump_fault_info(), arch/s390/mm/fault.c",
    ),
)
"""Faults that are listed, and not explained."""
