# SPDX-License-Identifier: LGPL-2.1-or-later

"""The names in the header of a kdump-compressed file: the kernel's, and the machine's."""

from __future__ import annotations

from drgn_vmemmap.target.flattened import first_bytes
from drgn_vmemmap.target.kdump_file import KDUMP

# utsname of struct disk_dump_header: system, host, release, version, machine.
_NAMES, _NAME_SIZE, _NUMBER = 12, 65, 5


def machine(path: str) -> str | None:
    """The machine that a kdump-compressed file is of, as ``uname -m`` names it."""
    *_, name = _names(path)
    return name.decode() if name.replace(b"_", b"").isalnum() else None


def is_nameless(path: str) -> bool:
    """
    Whether a kdump-compressed file names its machine, x86-64, and not its kernel, as where QEMU
    wrote it. libkdumpfile does not trust such a name: drgn needs the architecture.
    """
    system, _, release, version, name = _names(path)
    return name == b"x86_64" and not (system and release and version)


def _names(path: str) -> list[bytes]:
    """Its names; empty ones for a file of another kind."""
    try:
        with open(path, "rb") as file:
            header = first_bytes(file, _NAMES + _NUMBER * _NAME_SIZE)
    except OSError:
        header = b""
    if not header.startswith(KDUMP):
        return [b""] * _NUMBER
    starts = range(_NAMES, _NAMES + _NUMBER * _NAME_SIZE, _NAME_SIZE)
    return [header[start : start + _NAME_SIZE].partition(b"\0")[0] for start in starts]
