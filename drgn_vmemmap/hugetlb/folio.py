# SPDX-License-Identifier: LGPL-2.1-or-later

"""The folios: HugeTLB pages, named by their head PFNs."""

from __future__ import annotations

import enum
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple, overload


class State(enum.Enum):
    """Where a folio was found."""

    FREE = "free"
    ACTIVE = "active"
    OFF_LIST = "off-list"


STATES = tuple(State)
OFF_LIST = STATES.index(State.OFF_LIST)
"""Index of the state that a folio has until it is found on a list."""


class FolioClass(NamedTuple):
    """The facts that many folios have in common."""

    order: int
    hstate: str
    node: int | None
    """``None`` if neither a list nor the head page names it."""
    zone: int | None
    """Zone number; ``None`` if the head page is not in the dump."""
    flag_optimized: bool | None
    """``HPG_vmemmap_optimized``; ``None`` on a kernel without it, or without the head page."""
    poisoned: bool = False
    """``PG_hwpoison``: some of its memory failed."""


class Folio(NamedTuple):
    """A HugeTLB page, named by its head PFN."""

    pfn: int
    order: int
    hstate: str
    node: int | None
    zone: int | None
    state: State
    flag_optimized: bool | None
    poisoned: bool = False

    @property
    def pfns(self) -> range:
        """All of its PFNs."""
        return range(self.pfn, self.pfn + (1 << self.order))

    @property
    def folio_class(self) -> FolioClass:
        """The facts that it has in common with others."""
        return FolioClass(
            order=self.order,
            hstate=self.hstate,
            node=self.node,
            zone=self.zone,
            flag_optimized=self.flag_optimized,
            poisoned=self.poisoned,
        )


class Folios(Sequence[Folio]):
    """Folios: a column for each fact; a :class:`Folio` is made when it is asked for."""

    def __init__(self) -> None:
        self.pfns = array("Q")
        self.classes = array("I")
        """Of each folio, the index of its class in :attr:`class_table`."""
        self.states = bytearray()
        """Of each folio, the index of its state in :data:`STATES`."""
        self.compared = bytearray()
        """
        Of each folio, 1 if the frame with its head was read whole, and the tails in it are right,
        even if others share them.
        """
        self.class_table: list[FolioClass] = []
        self._class_numbers: dict[FolioClass, int] = {}

    def class_number(self, folio_class: FolioClass) -> int:
        """Index of a class in :attr:`class_table`."""
        number = self._class_numbers.setdefault(folio_class, len(self.class_table))
        if number == len(self.class_table):
            self.class_table.append(folio_class)
        return number

    def add(self, pfn: int, class_number: int, state: int) -> None:
        """
        :param state: Index of its state in :data:`STATES`.
        """
        self.pfns.append(pfn)
        self.classes.append(class_number)
        self.states.append(state)
        self.compared.append(False)

    def extend(self, pfns: Sequence[int], class_numbers: array[int], state: int) -> None:
        """
        Add consecutive folios.

        :param state: Index of the state of all of them in :data:`STATES`.
        """
        self.pfns.extend(pfns)
        self.classes.extend(class_numbers)
        self.states.extend(bytes((state,)) * len(pfns))
        self.compared.extend(bytes(len(pfns)))

    def class_of(self, row: int) -> FolioClass:
        """The class of the folio of a row."""
        return self.class_table[self.classes[row]]

    def pfns_of(self, row: int) -> range:
        """The PFNs of the folio of a row."""
        head = self.pfns[row]
        return range(head, head + (1 << self.class_of(row).order))

    def row_at(self, pfn: int) -> int | None:
        """
        Row of the folio that contains a PFN; ``None`` if none does.

        The folios must be in ascending order.
        """
        row = bisect_right(self.pfns, pfn) - 1
        if row < 0 or pfn >= self.pfns[row] + (1 << self.class_of(row).order):
            return None
        return row

    def rows_in(self, pfns: range) -> range:
        """
        Rows of the folios whose heads are among consecutive PFNs.

        The folios must be in ascending order.
        """
        return range(bisect_left(self.pfns, pfns.start), bisect_left(self.pfns, pfns.stop))

    def pick(self, rows: Sequence[int]) -> None:
        """Keep some folios, in a given order."""
        self.pfns = array("Q", [self.pfns[row] for row in rows])
        self.classes = array("I", [self.classes[row] for row in rows])
        self.states = bytearray(self.states[row] for row in rows)
        self.compared = bytearray(self.compared[row] for row in rows)

    def __len__(self) -> int:
        return len(self.pfns)

    @overload
    def __getitem__(self, index: int) -> Folio: ...
    @overload
    def __getitem__(self, index: slice) -> list[Folio]: ...
    def __getitem__(self, index: int | slice) -> Folio | list[Folio]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        folio_class = self.class_of(index)
        return Folio(
            pfn=self.pfns[index],
            order=folio_class.order,
            hstate=folio_class.hstate,
            node=folio_class.node,
            zone=folio_class.zone,
            state=STATES[self.states[index]],
            flag_optimized=folio_class.flag_optimized,
            poisoned=folio_class.poisoned,
        )
