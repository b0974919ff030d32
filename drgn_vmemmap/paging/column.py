# SPDX-License-Identifier: LGPL-2.1-or-later

"""Columns of last-level entries: how the same vmemmap page of many folios is mapped."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from drgn_vmemmap import words
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.mapping import Entry, Paging
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PTE

READ_WRITE = x86_64.PAGE_KERNEL
"""Attributes of memory that the kernel writes."""

READ_ONLY = x86_64.PAGE_KERNEL_RO
"""Attributes of memory that the kernel only reads."""


class Column(NamedTuple):
    """How the same vmemmap page of each of some folios is mapped."""

    frames: array[int]
    """
    PFNs, one for each folio; meaningless where an entry is not present, and none where the
    attributes differ.
    """
    attributes: int | None
    """
    The attributes of these entries, all levels counted: :data:`READ_WRITE`, :data:`READ_ONLY`,
    or anything else; ``None`` unless all have the same.
    """


class ColumnReader:
    """Decodes columns of last-level entries of one kernel."""

    def __init__(self, paging: Paging) -> None:
        self._address_mask = x86_64.address_mask(PTE, paging.encryption_mask)
        self._masks: dict[int, int] = {}
        """That mask for so many entries at once."""

    def read(self, entries: Sequence[int], above: int) -> Column:
        """
        :param entries: Raw last-level entries.
        :param above: What the levels above leave of the access.
        """
        column = entries if isinstance(entries, memoryview) else array("Q", entries)
        raw = column.tobytes()
        attributes = x86_64.attributes(raw, above)
        return Column(array("q") if attributes is None else self.frames(raw), attributes)

    def frame(self, entry: int) -> int:
        """PFN that a last-level entry holds, whether it is present or not."""
        return (entry & self._address_mask) >> PAGE_SHIFT

    def frames(self, entries: bytes) -> array[int]:
        """
        As :meth:`frame()`, of many entries.

        :param entries: Raw entries, 8 bytes each.
        """
        size = len(entries)
        if size not in self._masks:
            self._masks[size] = words.repeated(self._address_mask, size // words.SIZE)
        masked = int.from_bytes(entries, "little") & self._masks[size]
        return array("q", (masked >> PAGE_SHIFT).to_bytes(size, "little"))


def column_of(entries: Sequence[Entry]) -> Column:
    """
    The column of entries that are all mapped to memory, whatever their level.

    Of their attributes, it has only whether the kernel can write there.
    """
    attributes = {READ_WRITE if entry.access.writable else READ_ONLY for entry in entries}
    return Column(
        array("q", [-1 if entry.frame is None else entry.frame for entry in entries]),
        attributes.pop() if len(attributes) == 1 else None,
    )
