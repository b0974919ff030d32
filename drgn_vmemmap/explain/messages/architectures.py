# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Architectures other than x86-64, by what their kernels log.

Their addresses and page tables differ: what such a log names is listed, and not explained.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from drgn_vmemmap.explain.messages.message import message
from drgn_vmemmap.explain.messages.versions import ALL

OTHER = "another architecture"
"""One that has no name here, or that a log does not show."""


class ArchitectureLine(NamedTuple):
    """A kind of line that kernels for one architecture alone write."""

    name: str
    keyword: str
    """Lower-case text that each such line holds."""
    pattern: re.Pattern[str]


# Lines of show_regs() and the like of each architecture, and of its handlers of faults.
ARCHITECTURE_LINES = tuple(
    ArchitectureLine(name, keyword, re.compile(pattern))
    for name, keyword, pattern in (
        ("arm64", "pstate: ", r"\bpstate: [0-9a-f]{8} \("),
        ("arm64", "esr = 0x", r"\bESR = 0x[0-9a-f]{8}"),
        ("arm64", "x29: ", r"\bx29: [0-9a-f]{16} x28: [0-9a-f]{16}"),
        ("32-bit ARM", " lr : [", r"\bpc : \[<[0-9a-f]{8}>\] lr : \["),
        ("32-bit ARM", "internal error: ", r"\bInternal error: .{1,80} (?:ARM|THUMB2)$"),
        ("RISC-V", "badaddr: ", r"\bbadaddr: [0-9a-f]{8,16} cause: "),
        ("RISC-V", "epc : ", r"\bepc : \S+ ra : "),
        ("PowerPC", "nip: ", r"\bNIP: [0-9a-f]{8,16} LR: [0-9a-f]{8,16}"),
        ("PowerPC", "e page_size=", r"\b[BL]E PAGE_SIZE=\d+K "),
        ("PowerPC", " at 0x", r"BUG: (?:Unable to handle k|K)ernel [\w ]{1,64} at 0x"),
        ("s390", "krnl psw : ", r"\bKrnl PSW : [0-9a-f]{16} "),
        ("s390", "failing address: ", r"\bFailing address: [0-9a-f]{16} TEID: "),
        ("LoongArch", "era", r"\bera (?:== |[0-9a-f]{16} ra )"),
        ("LoongArch", "badv: ", r"\bBADV: [0-9a-f]{16}"),
        ("MIPS", "epc ", r"\bepc (?:== |: [0-9a-f]{8,16} [A-Za-z_.])"),
        ("32-bit x86", "eip: ", r"\bEIP: [A-Za-z_0-9]"),
        ("32-bit x86", "eax: ", r"\bEAX: [0-9a-f]{8} EBX: [0-9a-f]{8} "),
        ("32-bit x86", "*pde = ", r"\*pde = [0-9a-f]{8,16}\b"),
        # Lines of dump_stack(), which shows no registers.
        ("arm64", "el0", r"\bel0t?_\w{1,40}\+0x"),
        ("arm64", "el1", r"\bel1h?_\w{1,40}\+0x"),
        ("32-bit ARM", "unwind_backtrace", r"\bunwind_backtrace\)? from "),
        ("PowerPC", "] [c0", r"\[c[0-9a-f]{15}\] \[c[0-9a-f]{15}\] "),
        (OTHER, "dump_backtrace", r"\bdump_backtrace(?:\.part\.\d+)?\+0x"),
        (OTHER, " (dt)", r"\bHardware name: .{1,120} \(DT\)"),
        (OTHER, "at virtual address ", r"\b[Uu]nable to handle kernel .{1,64} at virtual address "),
    )
)

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

X86_64 = re.compile(r"\bRIP: 00[13][0-9a-f]:|\bentry_SYSCALL_64")
"""What kernels for x86-64 alone write."""

_BY_RELEASE = (
    ("arm64", re.compile(r"aarch64|arm64")),
    ("32-bit ARM", re.compile(r"armv[5-7]|armhf|armmp")),
    ("PowerPC", re.compile(r"ppc64|powerpc")),
    ("s390", re.compile(r"s390")),
    ("RISC-V", re.compile(r"riscv")),
    ("LoongArch", re.compile(r"loong")),
    ("32-bit x86", re.compile(r"\bi[3-6]86\b|\b686(?:-pae)?$")),
)


def architecture_of_release(release: str) -> str | None:
    """The architecture that a kernel's release names, if it is another one than x86-64."""
    lower = release.lower()
    return next((name for name, pattern in _BY_RELEASE if pattern.search(lower)), None)


def why_not_explained(architectures: Collection[str]) -> str | None:
    """
    Why what a log names is not explained, in words.

    :param architectures: Those of the kernels that wrote it, other than x86-64.
    """
    if not architectures:
        return None
    names = " and ".join(sorted(architectures))
    return f"the log is of a kernel for {names}: what it names is listed, not explained"
