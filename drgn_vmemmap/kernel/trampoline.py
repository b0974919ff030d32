# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The page table that processors start with. It shows whether a guest was reset.

After a reset, the memory of the old kernel stays as it was until the new kernel uses it. Each
kernel has this page table at the same place in the first MiB, and its last entry leads to a table
in the kernel's image, which KASLR moves: the entry shows which kernel was started last. Follows
``setup_real_mode()`` of ``arch/x86/realmode/init.c``.
"""

from __future__ import annotations

import drgn

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.paging.x86_64 import without_use
from drgn_vmemmap.target.memory import ProgramMemory


class Trampoline:
    """The last entry of the page table that processors start with, when the analysis began."""

    def __init__(self, prog: drgn.Program, kernel: Kernel) -> None:
        self._memory = ProgramMemory(prog)
        architecture = kernel.paging.architecture
        self._size = architecture.entry_size
        last = (1 << architecture.page_shift) - self._size
        self._entry = self._read(kernel.paging.root + last)
        address = _address(prog)
        self._address = None if address is None else address + last
        if not self._entry or (self._address and self._read(self._address) != self._entry):
            # Not set up yet, or not as setup_real_mode() does it.
            self._address = None

    def is_of_another_kernel(self) -> bool:
        """Whether another kernel is known to have been started in this memory."""
        if self._address is None:
            return False
        entry = self._read(self._address)
        return entry is not None and entry != self._entry

    def _read(self, address: int) -> int | None:
        try:
            data = self._memory.read(address, self._size)
        except MissingMemory:
            return None
        return without_use(int.from_bytes(data, "little"))


def _address(prog: drgn.Program) -> int | None:
    """Physical address of the page table in bytes; ``None`` if it is not known."""
    lookup = Lookup(prog, {})
    try:
        header = lookup.struct("struct real_mode_header", table=("trampoline_pgd",))
        address = lookup.variable("real_mode_header", 8)
        if not address:
            return None
        return header.value(prog.read(address, header.size), "table")
    except Exception:
        # Not each kernel has it, and readers of guests fail in many ways when they end.
        return None
