# SPDX-License-Identifier: LGPL-2.1-or-later

"""VMCOREINFO: what a kernel says of itself in each of its dumps."""

from __future__ import annotations

import drgn

from drgn_vmemmap.errors import CannotAnalyse


def vmcoreinfo_text(prog: drgn.Program) -> bytes:
    """
    VMCOREINFO, as the kernel wrote it.

    :raises CannotAnalyse: if the program is no x86-64 Linux kernel.
    """
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise CannotAnalyse(
            "not a Linux kernel: give its vmcore with -c, or -k for the live one; "
            "a guest needs QEMU's -device vmcoreinfo, and a UNIX socket"
        )
    platform = prog.platform
    if platform is None or platform.arch != drgn.Architecture.X86_64:
        name = "unknown" if platform is None else platform.arch.name
        raise CannotAnalyse(f"this is a kernel for {name}: only x86-64 can be analysed")
    return bytes(prog["VMCOREINFO"].string_())


def vmcoreinfo(prog: drgn.Program) -> dict[str, str]:
    """
    VMCOREINFO by its keys, such as ``SYMBOL(swapper_pg_dir)``.

    :raises CannotAnalyse: if the program is no x86-64 Linux kernel.
    """
    text = vmcoreinfo_text(prog).decode("ascii", "backslashreplace")
    lines = (line.partition("=") for line in text.splitlines())
    return {key: value for key, separator, value in lines if separator}
