# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The list pointers of folios: ``lru`` of their head pages, a ``struct list_head`` of
``include/linux/types.h``.
"""

from __future__ import annotations

from array import array
from itertools import repeat
from operator import getitem

from drgn_vmemmap.words import ascending, split

NO_ROW = -1
"""In place of the row of a folio: there is none."""

# Folios are multiples of 32 KiB of struct pages apart.
_UNIT_SHIFT = 15

# Rows of the folios in 1 GiB of memory are kept together.
_SLOT_BITS = 9
_SLOTS = 1 << _SLOT_BITS
_NO_ROWS = array("q", [NO_ROW]) * _SLOTS

# So many pointers stay in a processor's cache while they are looked up.
_TOGETHER = 2048


class Links:
    """
    The list pointers of folios: their addresses, a column for each direction, and their rows.

    A list leads to folios in any order. Their rows are in small arrays, of which a processor's
    cache holds more than of a dict of all folios.
    """

    def __init__(self, start: int, struct_size: int) -> None:
        """
        :param start: Address of the list pointers of PFN 0.
        :param struct_size: Bytes from there to those of the next PFN.
        """
        self._start = start
        self._struct_size = struct_size
        self.addresses = array("Q")
        self.next = array("Q")
        self.prev = array("Q")
        self._rows: dict[int, array[int]] = {}
        """By the bits of an address that are the same in 1 GiB of memory, then by the others."""

    def add(self, pfn: int, next_: int, prev: int) -> None:
        """Add those of one folio."""
        self.extend(range(pfn, pfn + 1), array("Q", (next_,)), array("Q", (prev,)))

    def extend(
        self,
        pfns: range,
        next_: array[int] | memoryview[int],
        prev: array[int] | memoryview[int],
    ) -> None:
        """Add those of some folios, with as many pointers in each direction."""
        start, size = self._start, self._struct_size
        addresses = range(start + pfns.start * size, start + pfns.stop * size, pfns.step * size)
        self._add_rows(addresses, len(self.addresses))
        self.addresses.frombytes(ascending(addresses))
        self.next.frombytes(next_.tobytes())
        self.prev.frombytes(prev.tobytes())

    def _add_rows(self, addresses: range, row: int) -> None:
        """
        :param addresses: Of the pointers of some folios.
        :param row: Of the first of them.
        """
        while addresses:
            slot = addresses[0] >> _UNIT_SHIFT & _SLOTS - 1
            count = 1
            if addresses.step == 1 << _UNIT_SHIFT:
                count = min(_SLOTS - slot, len(addresses))
            rows = self._rows.setdefault(addresses[0] - (slot << _UNIT_SHIFT), _NO_ROWS[:])
            rows[slot : slot + count] = array("q", ascending(range(row, row + count)))
            addresses, row = addresses[count:], row + count

    def row_at(self, pointer: int) -> int:
        """Row of the folio whose list pointers are at an address; :data:`NO_ROW` if none is."""
        (row,) = self.rows_at(array("Q", (pointer,)))
        return row

    def rows_at(self, pointers: array[int]) -> array[int]:
        """As :meth:`row_at()`, of many addresses."""
        found = array("q")
        for start in range(0, len(pointers), _TOGETHER):
            keys, slots = split(pointers[start : start + _TOGETHER], _UNIT_SHIFT, _SLOT_BITS)
            rows = map(self._rows.get, keys, repeat(_NO_ROWS))
            found.extend(map(getitem, rows, slots))
        return found
