# SPDX-License-Identifier: LGPL-2.1-or-later

"""The one way to open a dump."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator

import drgn

from drgn_vmemmap.errors import CannotAnalyse, printable
from drgn_vmemmap.target.dump_file import (
    is_block_device,
    is_dump,
    is_flattened,
    is_marked_incomplete,
    is_part,
    is_without_segments,
    missing_bytes,
    why_not_a_dump,
)
from drgn_vmemmap.target.kdump_file import KDUMP, layout_of
from drgn_vmemmap.target.kdump_names import is_nameless, machine

_PATH = "drgn_vmemmap: path of the dump"
"""Key of the dump's path in a program's cache: older drgn has no ``Program.core_dump_path``."""

_REMOVED = " (deleted)"
"""How the kernel ends the name of an open file that was removed, or replaced by another one."""

# Notes are at the beginning of an ELF file; VMCOREINFO has some kilobytes.
_NOTES_LIMIT = 4 << 20

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
        prog.cache[_PATH] = os.path.abspath(path)
    except Exception as error:
        # libkdumpfile fails in many ways with a damaged file.
        raise cannot_open(path, str(error), name) from error
    return prog


def dump_path(prog: drgn.Program) -> str | None:
    """The path of a program's dump; ``None`` for a live kernel, or where drgn does not know it."""
    if prog.flags & drgn.ProgramFlags.IS_LIVE:
        return None  # /proc/kcore is no dump
    try:
        path = prog.core_dump_path
    except AttributeError:
        path = prog.cache.get(_PATH) or _the_open_dump_of(prog)
    except UnicodeDecodeError as error:
        # drgn takes a path of any bytes, and gives back only UTF-8.
        path = os.fsdecode(error.object)
    return str(path) if path else None


def dump_file(prog: drgn.Program) -> str | None:
    """
    A path that leads to the file of a program's dump, whatever became of its name since.

    :return: As :func:`dump_path()`.
    """
    path = dump_path(prog)
    if path is None:
        return None
    open_files = dict(_open_files())
    if path in open_files:
        return path
    if path + _REMOVED in open_files:
        return open_files[path + _REMOVED]
    # It was renamed, and another file may have its name by now.
    dumps = _open_dumps_of(prog)
    return dumps.pop() if len(dumps) == 1 else path


def _open_files() -> Iterator[tuple[str, str]]:
    """The names of the files that this process has open, and the path of the descriptor of each."""
    with contextlib.suppress(OSError):
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                descriptor = f"/proc/self/fd/{number}"
                yield os.readlink(descriptor), descriptor


def _open_dumps() -> set[str]:
    """The paths of the dumps that this process has open, also of those that were removed since."""
    dumps = set()
    for path, descriptor in _open_files():
        # Some of the files may be written only, as one that another user's shell opened.
        with contextlib.suppress(OSError):
            if os.path.isfile(descriptor) and is_dump(descriptor):
                dumps.add(descriptor if path.endswith(_REMOVED) else path)
    return dumps


def _open_dumps_of(prog: drgn.Program) -> set[str]:
    """
    The dumps that this process has open and that a program may be of.

    drgn keeps its file open. Where others are open, too, VMCOREINFO tells them apart.
    """
    dumps = _open_dumps()
    if len(dumps) > 1:
        text = bytes(prog["VMCOREINFO"].string_())
        dumps = {path for path in dumps if _has_vmcoreinfo(path, text)}
    return dumps


def _the_open_dump_of(prog: drgn.Program) -> str | None:
    """
    The path of a program's dump, for drgn before ``Program.core_dump_path``.

    :raises CannotAnalyse: if more than one file may be it.
    """
    dumps = _open_dumps_of(prog)
    if len(dumps) > 1:
        raise CannotAnalyse(
            "this drgn does not say which of the open dumps it reads: update drgn, or open one dump"
        )
    return dumps.pop() if dumps else None


def _has_vmcoreinfo(path: str, text: bytes) -> bool:
    """Whether a dump has this VMCOREINFO where its format has it: an ELF file, among its notes."""
    errors = (OSError, OverflowError, ValueError, struct.error)
    with contextlib.suppress(*errors), open(path, "rb") as file:
        start, size = 0, _NOTES_LIMIT
        if file.read(len(KDUMP)) == KDUMP:
            start, size = layout_of(file).parts[0]
        file.seek(start)
        return text in file.read(min(size, _NOTES_LIMIT))
    return False


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
