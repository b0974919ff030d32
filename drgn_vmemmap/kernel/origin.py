# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Which dump of which machine a target is: its file, the host, and the time of the crash.

These facts are for display: the analysis does not depend on them, and unknown ones are left out.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Callable, NamedTuple

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingMemory, printable
from drgn_vmemmap.kernel.vmcoreinfo import vmcoreinfo_text
from drgn_vmemmap.target.open_files import dump_path

# Each member of struct new_utsname: __NEW_UTS_LEN characters and a zero.
_MEMBER_SIZE = 65

_SYSNAME = b"Linux\0"
"""The first of them."""

_UNNAMED = "(none)"
"""The name of a host that was given none: ``CONFIG_DEFAULT_HOSTNAME``."""

# Bytes of a struct uts_namespace in which its names begin.
_NAME_SEARCH = 16


class Origin(NamedTuple):
    """Which dump of which machine a target is; ``None`` for what is not known."""

    file: str | None = None
    """Path of the dump."""
    host: str | None = None
    """``nodename`` of the initial UTS namespace."""
    crash_time: datetime | None = None
    """In UTC."""


UNKNOWN_ORIGIN = Origin()


def read_origin(prog: drgn.Program, read: Callable[[int, int], bytes]) -> Origin:
    """
    Find out which dump of which machine a target is.

    :param prog: Any target of drgn.
    :param read: Reads some bytes of the kernel's memory at a virtual address.
    """
    try:
        vmcoreinfo = vmcoreinfo_text(prog)
    except (CannotAnalyse, LookupError, drgn.FaultError):
        return Origin(_file(prog))
    return Origin(_file(prog), _host(vmcoreinfo, read), _crash_time(vmcoreinfo))


def _file(prog: drgn.Program) -> str | None:
    path = dump_path(prog)
    return None if path is None else printable(path)


def _host(vmcoreinfo: bytes, read: Callable[[int, int], bytes]) -> str | None:
    """The host's name, where VMCOREINFO has the address of ``init_uts_ns``."""
    address = _number(rb"SYMBOL\(init_uts_ns\)=([0-9a-f]+)", vmcoreinfo, 16)
    if address is None:
        return None
    # Where VMCOREINFO does not have it, the names come first or after a reference count.
    offset = _number(rb"OFFSET\(uts_namespace\.name\)=(\d+)", vmcoreinfo, 10) or 0
    try:
        names = read(address + offset, _NAME_SEARCH + 2 * _MEMBER_SIZE)
    except MissingMemory:
        return None
    start = names.find(_SYSNAME, 0, _NAME_SEARCH + len(_SYSNAME))
    if start < 0:
        return None
    name = names[start + _MEMBER_SIZE : start + 2 * _MEMBER_SIZE].partition(b"\0")[0]
    host = printable(name.decode("utf-8", "backslashreplace"))
    return None if host in ("", _UNNAMED) else host


def _crash_time(vmcoreinfo: bytes) -> datetime | None:
    """When the kernel crashed: ``crash_save_vmcoreinfo()`` of ``kernel/vmcore_info.c``."""
    seconds = _number(rb"CRASHTIME=(\d+)", vmcoreinfo, 10)
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None


def _number(pattern: bytes, vmcoreinfo: bytes, base: int) -> int | None:
    found = re.search(rb"^" + pattern + rb"$", vmcoreinfo, re.MULTILINE)
    return int(found[1][:20], base) if found else None
