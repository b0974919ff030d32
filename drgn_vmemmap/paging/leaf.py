# SPDX-License-Identifier: LGPL-2.1-or-later

"""The leaf of a walk whose entries are known without the memory, as from a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.x86_64 import NO_EXECUTE, PAGE_SHIFT, PMD, PTE, PUD, WRITABLE

# Bits of an entry that AMD's processors use for memory encryption; no memory is so large.
ENCRYPTION_BITS = (47, 51)

_LEAVES = {level.name: level for level in (PTE, PMD, PUD)}


class Leaf(NamedTuple):
    """The entry that a walk ended at."""

    level: str
    present: bool
    writable: bool
    """All levels counted."""
    executable: bool
    frame: int | None
    """PFN of the page's frame; ``None`` if the walk led to none."""

    def allows(self, access: str) -> bool:
        """
        Whether it allowed a kind of access.

        :param access: ``read``, ``write`` or ``instruction fetch``.
        """
        if access == "write":
            return self.present and self.writable
        return self.present and (self.executable or access != "instruction fetch")


def leaf_of(
    entries: Iterable[tuple[str, int]], address: int, encryption_mask: int = 0
) -> Leaf | None:
    """
    What a walk led to.

    :param entries: Name of the level and raw entry, from the root down.
    :param address: The virtual address in bytes that was walked to.
    :param encryption_mask: See :class:`drgn_vmemmap.paging.mapping.Paging`.
    :return: ``None`` if the entries do not reach the walk's end.
    """
    above = x86_64.ALL_ACCESS
    for name, raw in entries:
        above = x86_64.effective_access(above, raw)
        if not x86_64.is_present(raw):
            return Leaf(name, False, False, False, None)
        level = _LEAVES.get(name)
        if level is not None and x86_64.is_leaf(raw, level):
            mask = x86_64.address_mask(level, encryption_mask)
            frame = ((raw & mask) | (address & (level.entry_span - 1))) >> PAGE_SHIFT
            return Leaf(name, True, bool(above & WRITABLE), not above & NO_EXECUTE, frame)
    return None


def likely_encryption_mask(entries: Iterable[tuple[str, int]]) -> int:
    """
    A mask of the bit of memory encryption, where only a walk shows which bit that is.

    :param entries: As for :func:`leaf_of()`.
    :return: The one of :data:`ENCRYPTION_BITS` that all present entries have; 0 if there is none.
    """
    present = [raw for _, raw in entries if x86_64.is_present(raw)]
    if len(present) < 2:
        return 0
    return sum(1 << bit for bit in ENCRYPTION_BITS if all(raw >> bit & 1 for raw in present))
