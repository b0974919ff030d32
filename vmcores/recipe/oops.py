# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Makes a kernel write where it must not: to a tail ``struct page`` of an optimized folio.

A debugger points a sysctl at it, in that sysctl's ``struct ctl_table``; the guest then writes to
the sysctl, and the kernel's own code faults as any stray write to a tail does.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vmcores.recipe.errors import GuestError

if TYPE_CHECKING:
    from vmcores.recipe.guest import Guest

#: Which ``struct page`` of the folio: one in its fourth vmemmap page, and none that begins a page.
TAIL = 3 * 64 + 5

#: Of ``struct page`` on x86-64: its bytes, and where ``_refcount`` is in it.
PAGE_SIZE, REFCOUNT = 64, 52

#: Bytes of the sysctl's table to search: three or four entries.
_TABLE = 256

_POINTER = struct.Struct("<Q")


def provoke(guest: Guest) -> dict[str, Any]:
    """
    Point the sysctl that the guest names at a tail of the folio that it names; see guest/oops.sh.

    :returns: for guest.json: the address that will be written, the PFN that this ``struct page``
        stands for, and its folio's
    :raises GuestError: the sysctl's table is not what it was taken for
    """
    (named,) = guest.wait_for("stray")["stray"]
    table, variable, vmemmap_base, pfn = (int(word, 0) for word in named.split())
    with guest.debugger() as kernel:
        (base,) = _POINTER.unpack(kernel.read(vmemmap_base, _POINTER.size))
        address = base + (pfn + TAIL) * PAGE_SIZE + REFCOUNT
        data = kernel.read(table, _TABLE).find(_POINTER.pack(variable))
        if data < 0:
            raise GuestError(f"no entry of the sysctl table at {table:#x} points to {variable:#x}")
        kernel.write(table + data, _POINTER.pack(address))
    return {"oops": {"address": hex(address), "pfn": pfn + TAIL, "folio": pfn}}
