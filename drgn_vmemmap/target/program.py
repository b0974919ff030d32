# SPDX-License-Identifier: LGPL-2.1-or-later

"""The one way to open a dump."""

from __future__ import annotations

import re

import drgn

from drgn_vmemmap.errors import CannotAnalyse, printable
from drgn_vmemmap.target.dump_file import (
    is_block_device,
    is_flattened,
    is_marked_incomplete,
    is_part,
    missing_bytes,
    why_not_a_dump,
)
from drgn_vmemmap.target.elf_file import is_without_segments
from drgn_vmemmap.target.kdump_names import is_nameless, machine
from drgn_vmemmap.target.open_files import remember_path

_NO_CORE = "not an ELF core file"
"""drgn's message on a file that is no dump."""

_NO_VMCOREINFO = ("missing NT_AUXV", "linux.vmcoreinfo.raw is not set")
"""How drgn's and libkdumpfile's messages end where a dump has no VMCOREINFO."""

_NO_VMCOREINFO_OF_QEMU = "unrecognized QEMU memory dump"
"""How drgn's message begins where QEMU made the dump."""


def open_dump(path: str, name: str | None = None) -> drgn.Program:
    """
    A dump, without debugging symbols.

    :param name: What to call it in an error; *path* by default.
    :raises CannotAnalyse: if it cannot be opened; the message says why.
    """
    check_dump(path, name)
    platform = drgn.Platform(drgn.Architecture.X86_64) if is_nameless(path) else None
    prog = drgn.Program(platform)
    try:
        prog.set_core_dump(path)
        remember_path(prog, path)
    except Exception as error:
        # libkdumpfile fails in many ways with a damaged file.
        raise cannot_open(path, str(error), name) from error
    return prog


def check_dump(path: str, name: str | None = None) -> None:
    """
    Refuse a file that is no dump, in clearer words than drgn's, or that would end the process.

    :raises CannotAnalyse: if it is such a file.
    """
    reason = why_not_a_dump(path)
    if reason is not None:
        raise CannotAnalyse(f"{name or path} {reason}")


def cannot_open(path: str, reason: str, name: str | None = None) -> CannotAnalyse:
    """
    The error for a dump that cannot be opened.

    :param reason: The message of drgn or libkdumpfile.
    """
    cut_off = what_is_cut_off(path)
    if cut_off is not None:
        return CannotAnalyse(f"{name or path} cannot be opened: it {cut_off}")
    reason = re.sub(r"^\[Errno \d+\] |: '.*'$", "", printable(reason))
    return CannotAnalyse(f"{name or path} cannot be opened: {_in_our_words(path, reason)}")


def _in_our_words(path: str, reason: str) -> str:
    """
    What is wrong with a dump, and what to do, where the message of drgn or libkdumpfile says
    neither; otherwise, that message.
    """
    if is_block_device(path):
        # Of an ELF file, drgn's libelf must know the size.
        return f"{reason}: copy it from the device to a file first"
    if machine(path) not in (None, "x86_64"):
        return f"it is of a kernel for {machine(path)}: only x86-64 can be analysed"
    if is_flattened(path):
        return (
            f"{reason}: it is flattened, and cut off or of another kind than kdump-compressed: "
            "copy it again, or rearrange it with makedumpfile -R NEW first"
        )
    if is_without_segments(path):
        return (
            "it has no segments of memory, as a dump by Xen's xl dump-core has none: take a dump "
            "with kdump in the guest"
        )
    if reason == _NO_CORE:
        return f"{reason}, nor a kdump: take a dump with kdump, or with QEMU's dump-guest-memory"
    if reason.endswith(_NO_VMCOREINFO):
        return "it has no VMCOREINFO: give that, as a text, with --vmcoreinfo"
    if reason.startswith(_NO_VMCOREINFO_OF_QEMU):
        return (
            "it has no VMCOREINFO: give that, as a text, with --vmcoreinfo. QEMU adds it if it "
            "runs with -device vmcoreinfo, and the guest has loaded qemu_fw_cfg since it last "
            "booted or woke up"
        )
    return reason


def what_is_cut_off(path: str) -> str | None:
    """
    What to say of a dump that ends too early.

    :return: A predicate, such as "is cut off"; ``None`` if it does not.
    """
    missing = missing_bytes(path)
    if missing:
        return f"is cut off, {missing:,} bytes or more are missing: copy it again"
    if is_marked_incomplete(path):
        return "is incomplete: makedumpfile could not write all of it, as where a disk was full"
    if is_part(path):
        return "is one part of a dump that was split: join them with makedumpfile --reassemble"
    return None
