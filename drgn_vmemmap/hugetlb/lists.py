# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The hstates' lists: which folio is on which, and whether they are sound.

A list is ``struct list_head`` of ``include/linux/types.h``, linked through the head pages'
``lru``: a free list for each node and one active list, as ``mm/hugetlb.c`` keeps them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import OFF_LIST, STATES, FolioClass, Folios, State
from drgn_vmemmap.hugetlb.head import HeadClasses, read_head
from drgn_vmemmap.hugetlb.hstate import Hstate, HstateList
from drgn_vmemmap.hugetlb.links import NO_ROW, Links
from drgn_vmemmap.vmemmap.sections import SectionIndex
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# A list of a live kernel seldom changes while only its pointers are followed.
_RETRIES = 4

# Folios of a list whose pointers are compared together.
_TOGETHER = 4096


class BrokenList(NamedTuple):
    """A list that is damaged, or that cannot be followed."""

    list: HstateList
    address: int
    """The pointer that is wrong, or the head page that could not be read."""
    unreadable: bool
    """The dump lacks memory; otherwise, the list itself is damaged."""
    reason: str
    in_flight: bool = False
    """It is as between the two stores of an insertion or a removal."""
    loses_folios: bool = False
    """There may be folios on it that neither of its ends leads to."""
    added: int = NO_ROW
    """Row of the folio that the wrong ``prev`` points to: if on no list, it is being inserted."""


class _NotAFolio(Exception):
    """A list leads to something that is no folio."""


class _Broken(Exception):
    """A list cannot be followed further."""

    def __init__(self, address: int, reason: str, unreadable: bool = False) -> None:
        super().__init__(reason)
        self.address, self.reason, self.unreadable = address, reason, unreadable


class ListWalk:
    """Follows the lists through the folios that the memmap shows, and beyond them."""

    def __init__(
        self, snapshot: Snapshot, classes: HeadClasses, folios: Folios, links: Links
    ) -> None:
        self._snapshot = snapshot
        self._classes = classes
        self._folios = folios
        self._links = links
        self._next = links.rows_at(links.next)
        """Of each folio, the row of the next one on its list, if that was found before it."""
        self._in_memmap = len(folios)
        """How many folios the memmap shows."""

    @property
    def has_added(self) -> bool:
        """Whether lists have shown folios that the memmap does not."""
        return len(self._folios) > self._in_memmap

    def follow(self, hstates: Sequence[Hstate], index: SectionIndex | None) -> Iterator[BrokenList]:
        """
        Record in each folio's state which list it is on, and add those that only lists show.

        :param index: Of all sections; ``None`` if some are not in the dump.
        :return: What is wrong with the lists.
        """
        found: list[BrokenList] = []
        for hstate in hstates:
            for list_ in hstate.lists:
                first = len(self._folios)
                problems = list(self._follow(list_, hstate.order))
                for row in range(first, len(self._folios)):
                    if index is not None and index.at(self._folios.pfns[row]) is None:
                        problems.append(self._of_no_section(list_, row))
                if problems and not self._follow_alone(list_, hstate.order):
                    found += problems
        for problem in found:
            is_inserted = problem.added != NO_ROW and self._is_off_list(problem.added)
            yield problem._replace(in_flight=problem.in_flight or is_inserted)

    def _of_no_section(self, list_: HstateList, row: int) -> BrokenList:
        pfn = self._folios.pfns[row]
        reason = f"leads to PFN {pfn:#x}, of memory that has no section"
        return BrokenList(list_, self._links.addresses[row], False, reason)

    def _is_off_list(self, row: int) -> bool:
        return self._folios.states[row] == OFF_LIST

    def _follow(self, list_: HstateList, order: int) -> Iterator[BrokenList]:
        chain: list[int] = []
        closes = False
        try:
            self._walk(list_, order, chain)
            closes = True
        except _Broken as broken:
            after = f"the folio at PFN {self._folios.pfns[chain[-1]]:#x}" if chain else "its head"
            reason = f"after {after}, {broken.reason}"
            loses = not self._follow_back(list_, order, chain)
            yield BrokenList(list_, broken.address, broken.unreadable, reason, loses_folios=loses)
        yield from self._one_way(list_, chain, closes)
        if list_.node is not None:
            yield from self._of_another_node(list_, chain)

    def _walk(self, list_: HstateList, order: int, chain: list[int]) -> None:
        """
        Follow a list to its end, and record in each folio's state that it is on this list.

        :param chain: Receives the rows of its folios.
        :raises _Broken: where it cannot be followed.
        """
        state, states = _state(list_), self._folios.states
        following = self._next
        pointer = list_.first
        try:
            while pointer != list_.head:
                row = self._links.row_at(pointer)
                if row == NO_ROW or states[row] != OFF_LIST:
                    row = self._step_off(list_, order, pointer)
                while row != NO_ROW and states[row] == OFF_LIST:
                    states[row] = state
                    chain.append(row)
                    row = following[row]
                pointer = self._links.next[chain[-1]]
        finally:
            self._end_at_another_order(order, chain)

    def _follow_back(self, list_: HstateList, order: int, chain: Sequence[int]) -> bool:
        """
        Follow a list that is broken from its end on, as far as its pointers agree both ways, and
        record in each folio's state that it is on this list.

        :param chain: Rows of the folios that its beginning leads to.
        :return: Whether both ends lead to all folios between them.
        """
        states, of_order, last = self._folios.states, self._of_order(order), list_.last
        end = self._links.addresses[chain[-1]] if chain else list_.head
        after = list_.head
        while last != end:
            row = self._links.row_at(last)
            if row == NO_ROW or states[row] != OFF_LIST or self._links.next[row] != after:
                return False
            if self._folios.classes[row] not in of_order:
                return False
            states[row] = _state(list_)
            after, last = last, self._links.prev[row]
        return True

    def _end_at_another_order(self, order: int, chain: list[int]) -> None:
        """
        End a chain before the first folio of another order.

        :raises _Broken: if there is one.
        """
        classes, of_order = self._folios.classes, self._of_order(order)
        if len(of_order) == len(self._folios.class_table) or of_order.issuperset(
            map(classes.__getitem__, chain)
        ):
            return
        wrong = next(i for i, row in enumerate(chain) if classes[row] not in of_order)
        first = chain[wrong]
        for row in chain[wrong:]:
            self._folios.states[row] = OFF_LIST
        del chain[wrong:]
        pfn, found = self._folios.pfns[first], self._folios.class_of(first).order
        reason = f"leads to PFN {pfn:#x}, a folio of order {found}"
        raise _Broken(self._links.addresses[first], reason)

    def _of_order(self, order: int) -> set[int]:
        """Classes of an order."""
        table = self._folios.class_table
        return {number for number, each in enumerate(table) if each.order == order}

    def _one_way(
        self, list_: HstateList, chain: Sequence[int], closes: bool
    ) -> Iterator[BrokenList]:
        """
        Where the ``prev`` pointers of a list that could be followed do not lead back the same way.

        :param closes: The chain ends at the list's head.
        """
        wrong = self._wrong_ways_back(list_, chain, closes)
        if not wrong:
            return
        ways = [list_.head, *(self._links.addresses[row] for row in chain[: wrong[0]])]
        what, address, back = "its head", list_.head, list_.last
        if wrong[0] < len(chain):
            row = chain[wrong[0]]
            what = f"the folio at PFN {self._folios.pfns[row]:#x}"
            address, back = self._links.addresses[row], self._links.prev[row]
        reason = f"prev of {what} is {back:#x}, not {ways[-1]:#x}"
        # __list_add() and __list_del() write next->prev first; hugetlb_lock admits one at a time.
        if len(wrong) > 1 or not closes:
            yield BrokenList(list_, address, False, reason)
            return
        is_removed = len(ways) > 1 and back == ways[-2]
        added = self._links.row_at(back)
        yield BrokenList(list_, address, False, reason, is_removed, added=added)

    def _wrong_ways_back(
        self, list_: HstateList, chain: Sequence[int], closes: bool
    ) -> Sequence[int]:
        """Positions in a chain where ``prev`` is wrong, its end for the head's: at most two."""
        before, wrong = list_.head, list[int]()
        for start in range(0, len(chain), _TOGETHER):
            rows = chain[start : start + _TOGETHER]
            *ways, before = before, *_values(self._links.addresses, rows)
            back = _values(self._links.prev, rows)
            # Fast path: mostly, all lead back.
            if back != ways:
                pairs = enumerate(zip(back, ways), start)
                wrong += [position for position, (found, way) in pairs if found != way]
            if len(wrong) > 1:
                return wrong[:2]
        if closes and list_.last != before:
            wrong.append(len(chain))
        return wrong

    def _of_another_node(self, list_: HstateList, chain: list[int]) -> Iterator[BrokenList]:
        """Folios on a free list of a node that are of another one."""
        classes, table = self._folios.classes, self._folios.class_table
        elsewhere = {number for number, each in enumerate(table) if each.node != list_.node}
        # Fast path: mostly, all are of one node.
        if not elsewhere or elsewhere.isdisjoint(map(classes.__getitem__, chain)):
            return
        for row in chain:
            if classes[row] in elsewhere:
                pfn, node = self._folios.pfns[row], self._folios.class_of(row).node
                reason = f"holds the folio at PFN {pfn:#x} of node {node}"
                yield BrokenList(list_, self._links.addresses[row], False, reason)

    def _step_off(self, list_: HstateList, order: int, pointer: int) -> int:
        """
        Follow a pointer of a list to a folio that the memmap does not show.

        :return: Row of the folio that is there.
        :raises _Broken: if there is none, or one that is already on a list.
        """
        pfn = self._pfn(pointer)
        if pfn is None:
            raise _Broken(pointer, f"pointer {pointer:#x} leads out of the memmap")
        if pfn % (1 << order):
            raise _Broken(pointer, f"leads to PFN {pfn:#x}, where no folio of order {order} begins")
        if self._links.row_at(pointer) != NO_ROW:
            raise _Broken(pointer, f"leads to the folio at PFN {pfn:#x} a second time")
        try:
            head = read_head(self._snapshot, pfn)
        except MissingMemory as error:
            unknown = FolioClass(order, list_.hstate, list_.node, None, None)
            self._add(pfn, self._folios.class_number(unknown), _state(list_), 0, 0)
            reason = f"head page of PFN {pfn:#x} is {error.state}"
            raise _Broken(pointer, reason, unreadable=True) from None
        if head is None or head.order not in self._classes.names:
            raise _Broken(pointer, f"leads to PFN {pfn:#x}, which is no HugeTLB folio")
        if head.order != order:
            raise _Broken(pointer, f"leads to PFN {pfn:#x}, a folio of order {head.order}")
        number = self._classes.number(head)
        assert number is not None
        return self._add(pfn, number, OFF_LIST, head.next, head.prev)

    def _add(self, pfn: int, class_number: int, state: int, next_: int, prev: int) -> int:
        """Add a folio that only a list shows."""
        row = len(self._folios)
        self._folios.add(pfn, class_number, state)
        self._links.add(pfn, next_, prev)
        self._next.append(self._links.row_at(next_))
        return row

    def _pfn(self, pointer: int) -> int | None:
        """PFN of the folio whose list pointers are at an address; ``None`` if it can be none's."""
        return self._snapshot.geometry.pfn_of(pointer - self._snapshot.kernel.links_offset)

    def _follow_alone(self, list_: HstateList, order: int) -> bool:
        """
        Follow a list of a live kernel anew: it may have changed since the memmap was read.

        :return: Whether it leads past folios of an order back to its head.
        """
        for _ in range(_RETRIES if self._snapshot.kernel.live else 0):
            try:
                pfns = set(self._walk_alone(list_, order))
            except (MissingMemory, _NotAFolio):
                continue
            for row, pfn in enumerate(self._folios.pfns):
                if pfn in pfns:
                    self._folios.states[row] = _state(list_)
            return True
        return False

    def _walk_alone(self, list_: HstateList, order: int) -> Iterator[int]:
        """
        PFNs of the folios on a list, as it is now.

        :raises _NotAFolio: if it leads elsewhere, or in a circle.
        """
        met: set[int] = set()
        pointer = int.from_bytes(self._snapshot.read(list_.head, 8), "little")
        while pointer != list_.head:
            pfn = self._pfn(pointer)
            if pfn is None or pfn in met:
                raise _NotAFolio
            met.add(pfn)
            head = read_head(self._snapshot, pfn)
            if head is None or head.order != order:
                raise _NotAFolio
            yield pfn
            pointer = head.next


def _values(column: array[int], rows: Sequence[int]) -> list[int]:
    """Values of a column at some rows."""
    # Of one row alone, itemgetter() makes no tuple.
    return list(itemgetter(*rows)(column)) if len(rows) > 1 else [column[row] for row in rows]


def _state(list_: HstateList) -> int:
    """Index in :data:`STATES` of the state of the folios on a list."""
    return STATES.index(State.ACTIVE if list_.node is None else State.FREE)
