# SPDX-License-Identifier: LGPL-2.1-or-later

"""VMCOREINFO: what a kernel says of itself in each of its dumps, and what an extract adds."""

from __future__ import annotations

import drgn

from drgn_vmemmap.errors import CannotAnalyse

CONFIRMED = "DRGN_VMEMMAP_CONFIRMED"
"""Key of the line that an extract of a running kernel adds: the findings that were confirmed."""

REPORT_ONLY = "DRGN_VMEMMAP_REPORT_ONLY"
"""Key of the line of an extract that lacks, on purpose, what only verification reads."""


def vmcoreinfo_text(prog: drgn.Program) -> bytes:
    """
    VMCOREINFO as the kernel wrote it, with the lines that an extract adds.

    :raises CannotAnalyse: if the program is no x86-64 Linux kernel.
    """
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise CannotAnalyse(
            "not a Linux kernel: give a kernel's vmcore with -c, or -k for the live kernel; "
            "a guest needs QEMU's -device vmcoreinfo, and a UNIX socket"
        )
    platform = prog.platform
    if platform is None or platform.arch != drgn.Architecture.X86_64:
        name = "unknown" if platform is None else platform.arch.name
        raise CannotAnalyse(f"this is a kernel for {name}: only x86-64 can be analysed")
    return bytes(prog["VMCOREINFO"].string_())


def with_line(text: bytes, key: str, value: str) -> bytes:
    """VMCOREINFO with one more line."""
    text = text.rstrip(b"\0")
    return text + (b"" if text.endswith(b"\n") else b"\n") + f"{key}={value}\n".encode()


def vmcoreinfo(prog: drgn.Program) -> dict[str, str]:
    """
    VMCOREINFO by its keys, such as ``SYMBOL(swapper_pg_dir)``.

    :raises CannotAnalyse: if the program is no x86-64 Linux kernel.
    """
    text = vmcoreinfo_text(prog).decode("ascii", "backslashreplace")
    lines = (line.partition("=") for line in text.splitlines())
    return {key: value for key, separator, value in lines if separator}
