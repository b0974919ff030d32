# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The list pointers of folios: ``lru`` of their head pages, a ``struct list_head`` of
``include/linux/types.h``.
"""

from __future__ import annotations

from array import array

from drgn_vmemmap.words import rotated


class Links:
    """The list pointers of folios: their addresses, and a column for each direction."""

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

    def add(self, pfn: int, next_: int, prev: int) -> None:
        self.addresses.append(self._start + pfn * self._struct_size)
        self.next.append(next_)
        self.prev.append(prev)

    def extend(self, pfns: range, next_: memoryview[int], prev: memoryview[int]) -> None:
        start, size = self._start, self._struct_size
        self.addresses.extend(
            range(start + pfns.start * size, start + pfns.stop * size, pfns.step * size)
        )
        self.next.frombytes(next_.tobytes())
        self.prev.frombytes(prev.tobytes())


class LinkIndex:
    """Finds folios by the addresses of their list pointers."""

    def __init__(self, links: Links) -> None:
        self._rows = dict(zip(_keys(links.addresses), range(len(links.addresses))))

    def row_at(self, pointer: int) -> int | None:
        """Row of the folio whose list pointers are at an address; ``None`` if there is none."""
        (row,) = self.rows_at(array("Q", (pointer,)))
        return row

    def rows_at(self, pointers: array[int]) -> list[int | None]:
        """As :meth:`row_at()`, of many addresses."""
        return list(map(self._rows.get, _keys(pointers)))


def _keys(pointers: array[int]) -> array[int]:
    """
    Addresses as keys of a dict.

    Folios are multiples of 32 KiB of struct pages apart, and a dict takes the low bits of a number
    for its hash: rotated, they are not the same for all.
    """
    return rotated(pointers, 15)
