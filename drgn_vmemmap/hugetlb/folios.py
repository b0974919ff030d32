# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The folios: what the hstates say of themselves, what their lists hold, and what
the memmap itself shows.

Follows ``struct hstate`` of ``include/linux/hugetlb.h`` and the lists that
``mm/hugetlb.c`` keeps in it: a free list for each node, one active list.
"""

from __future__ import annotations

import enum
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple, overload

from drgn_vmemmap.errors import MissingMemory, printable
from drgn_vmemmap.hugetlb.columns import not_followed, stretches
from drgn_vmemmap.kernel.facts import Kernel, ZoneKey
from drgn_vmemmap.paging.walker import Run, Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.target.memory import StridedRead
from drgn_vmemmap.vmemmap.sections import MissingSections, Section, present_sections

# From 2 MiB to 16 GiB: x86-64 has folios of 2 MiB and 1 GiB, and any other order is damage.
_ORDERS = range(9, 23)

# A list that is followed alone, pointer by pointer, is seldom caught in a change.
_WALKS = 4

# A pool's folios have a few flags in common; a dump's folios may be damaged one by one.
_KINDS_LIMIT = 4096


class Counters(NamedTuple):
    """What the kernel counts for a hstate, or for one node of it, in folios."""

    nr_huge_pages: int
    free_huge_pages: int
    surplus_huge_pages: int


class HstateList(NamedTuple):
    """One list of a hstate's folios."""

    hstate: str
    node: int | None
    """The node of a free list; ``None`` for the active list."""
    head: int
    """Virtual address of its ``struct list_head``."""
    first: int
    """Its ``next`` pointer."""

    def __str__(self) -> str:
        return f"{self.hstate} " + (
            "active list" if self.node is None else f"free list of node {self.node}"
        )


class Hstate(NamedTuple):
    """A size of HugeTLB folios: ``struct hstate``."""

    name: str
    order: int
    counters: Counters
    node_counters: dict[int, Counters]
    """Of the nodes with anything to count."""
    lists: list[HstateList]


class State(enum.Enum):
    """Where a folio was found."""

    FREE = "free"
    ACTIVE = "active"
    OFF_LIST = "off-list"


STATES = tuple(State)
OFF_LIST = STATES.index(State.OFF_LIST)
"""Index of the state that a folio has until a list is seen to hold it."""


class Folio(NamedTuple):
    """A HugeTLB page, named by its head PFN."""

    pfn: int
    order: int
    hstate: str
    node: int | None
    """``None`` if neither its list nor its head page tells."""
    zone: int | None
    """Zone number; ``None`` if the head page is not in the dump."""
    state: State
    flag_optimized: bool | None
    """``HPG_vmemmap_optimized``; ``None`` on a kernel without it, or without the head page."""


class BrokenHstate(NamedTuple):
    """A hstate of an order that no folio can have; its lists are not followed."""

    name: str
    order: int


class BrokenList(NamedTuple):
    """A list whose walk ended before its end."""

    list: HstateList
    address: int
    """The pointer that could not be followed, or the head page that could not be read."""
    unreadable: bool
    """The dump lacks memory; otherwise, the list itself is damaged."""
    reason: str


def read_hstates(kernel: Kernel, walker: Walker) -> Iterator[Hstate | BrokenHstate]:
    """
    The kernel's hstates.

    :raises MissingMemory: if they are not in the dump.
    """
    for index in range(kernel.hstate_count):
        address = kernel.hstates + index * kernel.hstate.size
        hstate = _hstate(kernel, address, walker.read(address, kernel.hstate.size))
        yield hstate if hstate.order in _ORDERS else BrokenHstate(hstate.name, hstate.order)


def _hstate(kernel: Kernel, address: int, data: bytes) -> Hstate:
    layout = kernel.hstate
    member = layout.members["name"]
    name = data[member.offset : member.offset + member.length].split(b"\0")[0]
    text = printable(name.decode("ascii", "backslashreplace"))

    def lists(name: str) -> Iterator[tuple[int, int]]:
        """Address of each list's head, and the ``next`` pointer in it."""
        member = layout.members[name]
        return zip(count(address + member.offset, member.size), layout.elements(data, name))

    counters = zip(*(layout.elements(data, f"{name}_node") for name in Counters._fields))
    # Lists of nodes that do not exist are empty: they point at themselves.
    free = enumerate(lists("hugepage_freelists"))
    found = [HstateList(text, node, *list_) for node, list_ in free if len({*list_}) > 1]
    found += [HstateList(text, None, *list_) for list_ in lists("hugepage_activelist")]
    return Hstate(
        text,
        layout.value(data, "order"),
        Counters(*(layout.value(data, name) for name in Counters._fields)),
        {node: Counters(*counts) for node, counts in enumerate(counters) if any(counts)},
        found,
    )


class FolioClass(NamedTuple):
    """What many folios have in common."""

    order: int
    hstate: str
    node: int | None
    zone: int | None
    flag_optimized: bool | None


class Folios(Sequence[Folio]):
    """Folios: a column for each fact, and a :class:`Folio` for who asks for one."""

    def __init__(self) -> None:
        self.pfns = array("Q")
        self.kinds = array("I")
        """Of each folio, the index of its kind in :attr:`kind_table`."""
        self.states = bytearray()
        """Of each folio, the index of its state in :data:`STATES`."""
        self.class_table: list[FolioClass] = []
        self._kind_numbers: dict[FolioClass, int] = {}

    def class_number(self, kind: FolioClass) -> int:
        """Index of a kind in :attr:`kind_table`."""
        number = self._kind_numbers.setdefault(kind, len(self.class_table))
        if number == len(self.class_table):
            self.class_table.append(kind)
        return number

    def add(self, pfn: int, kind: int, state: int) -> None:
        """
        :param kind: Index of its kind.
        :param state: Index of its state.
        """
        self.pfns.append(pfn)
        self.kinds.append(kind)
        self.states.append(state)

    def extend(self, pfns: range, kinds: array[int], state: int) -> None:
        """
        Add folios side by side.

        :param kinds: Indices of their kinds.
        :param state: Index of the state of all of them.
        """
        self.pfns.extend(pfns)
        self.kinds.extend(kinds)
        self.states.extend(bytes((state,)) * len(pfns))

    def row_at(self, pfn: int) -> int | None:
        """Row of the folio that contains a PFN, if there is one; they must be in order."""
        row = bisect_right(self.pfns, pfn) - 1
        if row < 0:
            return None
        size = 1 << self.class_table[self.kinds[row]].order
        return row if pfn < self.pfns[row] + size else None

    def pick(self, rows: Sequence[int]) -> None:
        """Keep some folios, in an order."""
        self.pfns = array("Q", [self.pfns[row] for row in rows])
        self.kinds = array("I", [self.kinds[row] for row in rows])
        self.states = bytearray(self.states[row] for row in rows)

    def tally(self) -> Counter[tuple[FolioClass, State]]:
        """How many folios there are of each kind in each state."""
        counts: Counter[tuple[FolioClass, State]] = Counter()
        for rows in stretches(self.kinds, self.states):
            kind, state = self.kinds[rows.start], self.states[rows.start]
            counts[self.class_table[kind], STATES[state]] += len(rows)
        return counts

    def __len__(self) -> int:
        return len(self.pfns)

    @overload
    def __getitem__(self, index: int) -> Folio: ...
    @overload
    def __getitem__(self, index: slice) -> list[Folio]: ...
    def __getitem__(self, index: int | slice) -> Folio | list[Folio]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        kind = self.class_table[self.kinds[index]]
        state = STATES[self.states[index]]
        return Folio(self.pfns[index], *kind[:4], state, kind.flag_optimized)


class SearchResult(NamedTuple):
    """What the memmap and the hstates' lists hold."""

    folios: Folios
    """In ascending order of PFN."""
    sections: list[Section]
    problems: list[BrokenList | MissingSections]


def find_folios(
    kernel: Kernel, walker: Walker, hstates: Sequence[Hstate], progress: Progress = SILENT
) -> SearchResult:
    """
    Find all HugeTLB folios: those on the hstates' lists, and those on none.

    A list that cannot be followed to its end gives what was found, and a
    :class:`BrokenList`. No folio is found twice.
    """
    search = _Search(kernel, walker, hstates)
    sections = []
    for section in present_sections(kernel, walker):
        if isinstance(section, MissingSections):
            search.problems.append(section)
        else:
            sections.append(section)
    # Nobody may have written struct pages of other memory yet: pfn_to_online_page().
    online = [section for section in sections if section.flags & kernel.sections.online]
    for section in progress.track(online, "memmap"):
        search.scan(section)
    search.follow_lists(hstates)
    return SearchResult(search.folios, sections, search.problems)


class Head(NamedTuple):
    """What the first two struct pages of a HugeTLB folio say of it."""

    order: int
    flags: int
    private: int
    next: int
    """The pointer to the next folio of its list."""


def parse_head(kernel: Kernel, pages: bytes) -> Head | None:
    """
    :param pages: The first two struct pages of what may be a HugeTLB folio.
    :return: ``None`` if they are none's.
    """
    if not kernel.hugetlb_test.matches(pages) or not kernel.head_test.matches(pages):
        return None
    return Head(
        order=pages[kernel.order.offset],
        flags=kernel.page.value(pages, "flags"),
        private=kernel.page.value(pages, "private"),
        next=kernel.page.value(pages, "lru"),
    )


def read_head(kernel: Kernel, walker: Walker, pfn: int) -> Head | None:
    """
    :return: The head of the HugeTLB folio at a PFN; ``None`` if there is none.
    :raises MissingMemory: if its struct pages are not mapped, or not in the dump.
    """
    return parse_head(kernel, walker.read(kernel.page_address(pfn), 2 * kernel.page.size))


class _NoFolio(Exception):
    """A list leads to what is none."""


class _Search:
    """Carries the search from the memmap to the lists."""

    def __init__(self, kernel: Kernel, walker: Walker, hstates: Sequence[Hstate]) -> None:
        self.folios = Folios()
        self.problems: list[BrokenList | MissingSections] = []
        self._kernel = kernel
        self._walker = walker
        self._names = {hstate.order: hstate.name for hstate in hstates}
        self._step, *self._larger = (1 << order for order in sorted(self._names or (0,)))
        self._behind = 0
        """PFN behind the last folio found in the memmap."""
        self._next = array("Q")
        """Of each folio, its pointer to the next one of its list."""
        self._kinds: dict[tuple[int, ...], int] = {}
        """Kinds by the words of the head pages that tell them."""
        marks = [mark.offset for mark in (kernel.head_test, kernel.hugetlb_test, kernel.order)]
        members = [kernel.page.offset(name) for name in ("flags", "private")]
        self._telling = sorted({offset // 8 for offset in marks + members})
        self._next_word = kernel.page.offset("lru") // 8
        self._size = 2 * kernel.page.size
        """Bytes that are read of each head."""
        self._pool: list[memoryview[int]] = []
        """The telling words of the last pool's head pages, a column for each."""
        self._pool_kinds = array("I")
        """Kinds of its folios."""
        self._by_list: dict[int, int] = {}
        """Rows of the folios to which lists alone led, by PFN."""

    def scan(self, section: Section) -> None:
        """Find the folios in the memmap of a section."""
        if not self._names:
            return
        kernel, complete = self._kernel, True
        first = max(-(-section.pfns.start // self._step) * self._step, self._behind)
        while first < section.pfns.stop:
            run = self._walker.region(kernel.page_address(first))
            last = (run.end - kernel.vmemmap - 1) // kernel.page.size
            pfns = range(first, min(last + 1, section.pfns.stop), self._step)
            if any(first % size == 0 for size in self._larger):
                # It may be a folio that all the others are in.
                pfns = pfns[:1]
            complete = self._scan_run(run, pfns) and complete
            # Within a folio, a remapped tail page may look like its head.
            first = max(first + len(pfns) * self._step, self._behind)
        if not complete:
            self.problems.append(MissingSections(section.pfns))

    def _scan_run(self, run: Run, pfns: range) -> bool:
        """
        Find the folios among PFNs whose struct pages lie in one run.

        :return: Whether the struct pages could be read, as far as they are mapped.
        """
        if not run.raw:
            return False
        kernel, memory = self._kernel, self._walker.memory
        start = (kernel.page_address(pfns.start) - run.start) // PAGE_SIZE
        stride = self._step * kernel.page.size // PAGE_SIZE
        frames = self._walker.frames(run, start, stride)[: len(pfns)]
        addresses = [frame << PAGE_SHIFT for frame in frames if frame is not None]
        pieces = memory.read_together(addresses, self._size)
        if pieces is None:
            heads = memory.read_each(addresses, self._size)
        elif len(addresses) == len(pfns) and self._add_pool(pfns, pieces):
            return True
        else:
            heads = pieces.each()
        complete = True
        mapped = (pfn for pfn, frame in zip(pfns, frames) if frame is not None)
        for pfn, pages in zip(mapped, heads):
            if pfn < self._behind:
                continue
            if pages is None:
                complete = False
            else:
                self._add(pfn, pages)
        return complete

    def _add_pool(self, pfns: range, heads: StridedRead) -> bool:
        """
        Add folios side by side, if there is one at each PFN.

        :return: Whether there is; otherwise, none was added.
        """
        columns = list(heads.columns(self._telling))
        # Mostly, they are all of one kind, and of that of the pool before.
        if columns != self._pool:
            keys = list(zip(*(column.tolist() for column in columns)))
            numbers: dict[tuple[int, ...], int] = {}
            for key in set(keys):
                number = self._kinds.get(key)
                if number is None:
                    number = self._learn(heads.each()[keys.index(key)] or b"", key)
                if number is None or 1 << self.folios.class_table[number].order != self._step:
                    return False
                numbers[key] = number
            self._pool = [memoryview(array("Q", column)) for column in columns]
            self._pool_kinds = array("I", map(numbers.__getitem__, keys))
        self.folios.extend(pfns, self._pool_kinds, OFF_LIST)
        for column in heads.columns([self._next_word]):
            self._next.frombytes(column.tobytes())
        self._behind = pfns[-1] + self._step
        return True

    def _add(self, pfn: int, pages: bytes) -> None:
        """Add the folio at a PFN, if there is one."""
        if not self._kernel.hugetlb_test.matches(pages):
            return
        words = memoryview(pages).cast("Q")
        key = tuple(words[word] for word in self._telling)
        number = self._kinds.get(key)
        if number is None:
            number = self._learn(pages, key)
        if number is None:
            return
        size = 1 << self.folios.class_table[number].order
        if pfn % size == 0:
            self._behind = pfn + size
            self.folios.add(pfn, number, OFF_LIST)
            self._next.append(words[self._next_word])

    def _learn(self, pages: bytes, key: tuple[int, ...]) -> int | None:
        """What kind the folio is of whose head pages these are; ``None`` if they are none's."""
        head = parse_head(self._kernel, pages)
        if head is None or head.order not in self._names:
            return None
        number = self._class_number(head, head.order)
        if len(self._kinds) < _KINDS_LIMIT:
            self._kinds[key] = number
        return number

    def _class_number(self, head: Head, order: int) -> int:
        kernel = self._kernel
        bit = kernel.hvo.optimized_bit
        return self.folios.class_number(
            FolioClass(
                order=order,
                hstate=self._names[order],
                node=kernel.page_flags.node(head.flags),
                zone=kernel.page_flags.zone(head.flags),
                flag_optimized=None if bit is None else bool(head.private >> bit & 1),
            )
        )

    def follow_lists(self, hstates: Sequence[Hstate]) -> None:
        """Tell which list each folio is on, and find those that lists alone lead to."""
        self._in_memmap = len(self.folios)
        self._base = self._kernel.vmemmap + self._kernel.page.offset("lru")
        # In a pool as it was made, each folio is followed by its neighbour.
        jumps = not_followed(self._next, self.folios.pfns, self._kernel.page.size, self._base)
        self._jumps = [*jumps, self._in_memmap - 1]
        for hstate in hstates:
            for list_ in hstate.lists:
                broken = self._follow(list_, hstate.order)
                if broken is not None and not self._follow_alone(list_, hstate.order):
                    self.problems.append(broken)
        echoes = self._echoes()
        if self._by_list or echoes:
            rows = (row for row in range(len(self.folios)) if row not in echoes)
            self.folios.pick(sorted(rows, key=self.folios.pfns.__getitem__))

    def _echoes(self) -> set[int]:
        """Rows of what shows another folio's head page, which its vmemmap is mapped to."""
        states = self.folios.states
        if OFF_LIST not in states:
            return set()
        return {row for row, state in enumerate(states) if state == OFF_LIST and self._is_echo(row)}

    def _is_echo(self, row: int) -> bool:
        """Whether the next one of its list has another folio before it, with the same head page."""
        kernel, walker, pfn = self._kernel, self._walker, self.folios.pfns[row]
        try:
            before = int.from_bytes(walker.read(self._next[row] + 8, 8), "little")
        except MissingMemory:
            return False
        other, misaligned = divmod(before - self._base, kernel.page.size)
        if misaligned or other == pfn or not 0 <= other < kernel.paging.max_pfn:
            return False
        frames = {walker.entry(kernel.page_address(each)).frame for each in (pfn, other)}
        return len(frames) == 1

    def _follow(self, list_: HstateList, order: int) -> BrokenList | None:
        """Follow one list, from one stretch of neighbours to the next."""
        folios, states = self.folios, self.folios.states
        state = STATES.index(State.ACTIVE if list_.node is None else State.FREE)
        pointer, behind = list_.first, "its head"
        while pointer != list_.head:
            pfn, misaligned = divmod(pointer - self._base, self._kernel.page.size)
            row = self._row(pfn)
            if misaligned or row is None or states[row] != OFF_LIST:
                broken = self._step_off(list_, order, pointer)
                if broken is not None:
                    return broken._replace(reason=f"behind {behind}, {broken.reason}")
                row = last = self._by_list[pfn]
            else:
                last = self._jumps[bisect_left(self._jumps, row)]
                if states.count(OFF_LIST, row, last + 1) != last + 1 - row:
                    last = row
                if any(
                    folios.class_table[kind].order != order
                    for kind in set(folios.kinds[row : last + 1])
                ):
                    last = row
                found = folios.class_table[folios.kinds[row]].order
                if found != order:
                    reason = f"behind {behind}, leads to PFN {pfn:#x}, a folio of order {found}"
                    return BrokenList(list_, pointer, False, reason)
            states[row : last + 1] = bytes((state,)) * (last + 1 - row)
            pointer, behind = self._next[last], f"the folio at PFN {folios.pfns[last]:#x}"
        return None

    def _follow_alone(self, list_: HstateList, order: int) -> bool:
        """
        Follow a list of a live kernel anew: it may have changed since the memmap was read.

        :return: Whether it leads past folios of an order back to its head.
        """
        for _ in range(_WALKS if self._kernel.live else 0):
            try:
                rows = list(map(self._row, self._walk(list_, order)))
            except (MissingMemory, _NoFolio):
                continue
            state = STATES.index(State.ACTIVE if list_.node is None else State.FREE)
            for row in rows:
                if row is not None:
                    self.folios.states[row] = state
            return True
        return False

    def _walk(self, list_: HstateList, order: int) -> Iterator[int]:
        """
        PFNs of the folios on a list, as it is now.

        :raises _NoFolio: if it leads elsewhere, or in a circle.
        """
        kernel, met = self._kernel, set[int]()
        pointer = int.from_bytes(self._walker.read(list_.head, 8), "little")
        while pointer != list_.head:
            pfn, misaligned = divmod(pointer - self._base, kernel.page.size)
            if misaligned or pfn in met or not 0 <= pfn < kernel.paging.max_pfn:
                raise _NoFolio
            met.add(pfn)
            head = read_head(kernel, self._walker, pfn)
            if head is None or head.order != order:
                raise _NoFolio
            yield pfn
            pointer = head.next

    def _row(self, pfn: int) -> int | None:
        """Row of the folio at a PFN, if there is one."""
        row = bisect_left(self.folios.pfns, pfn, 0, self._in_memmap)
        if row < self._in_memmap and self.folios.pfns[row] == pfn:
            return row
        return self._by_list.get(pfn)

    def _step_off(self, list_: HstateList, order: int, pointer: int) -> BrokenList | None:
        """Go where the memmap shows no folio that could be the next one of a list."""
        kernel = self._kernel
        pfn, misaligned = divmod(pointer - self._base, kernel.page.size)
        reason = None
        if misaligned or not 0 <= pfn < kernel.paging.max_pfn:
            reason = f"pointer {pointer:#x} leads out of the memmap"
        elif pfn % (1 << order):
            reason = f"leads to PFN {pfn:#x}, which can be no folio of order {order}"
        elif self._row(pfn) is not None:
            reason = f"meets the folio at PFN {pfn:#x} a second time"
        if reason is not None:
            return BrokenList(list_, pointer, False, reason)
        try:
            head = read_head(kernel, self._walker, pfn)
        except MissingMemory:
            kind = FolioClass(order, list_.hstate, list_.node, None, None)
            state = State.ACTIVE if list_.node is None else State.FREE
            self._add_from_list(pfn, self.folios.class_number(kind), state, 0)
            reason = f"head page of PFN {pfn:#x} is not in the dump"
            return BrokenList(list_, pointer, True, reason)
        if head is None:
            reason = f"leads to PFN {pfn:#x}, which is no HugeTLB folio"
            return BrokenList(list_, pointer, False, reason)
        self._add_from_list(pfn, self._class_number(head, order), State.OFF_LIST, head.next)
        return None

    def _add_from_list(self, pfn: int, kind: int, state: State, next_: int) -> None:
        self._by_list[pfn] = len(self.folios)
        self.folios.add(pfn, kind, STATES.index(state))
        self._next.append(next_)


class TailFrames:
    """
    The frames that zones keep for the shared tails of optimized folios.

    Follows ``vmemmap_tails`` of ``struct zone``: for each order from
    ``VMEMMAP_TAIL_MIN_ORDER`` on, a pointer to the frame's ``struct page``.
    """

    def __init__(self, kernel: Kernel, walker: Walker) -> None:
        self._by_zone: dict[ZoneKey, dict[int, int] | None] = {
            key: _tail_frames(kernel, walker, address) for key, address in kernel.zones.items()
        }

    def all(self) -> frozenset[int]:
        """PFNs of all of them that the dump tells."""
        return frozenset(
            pfn for frames in self._by_zone.values() if frames for pfn in frames.values()
        )

    def acceptable(self, folio: Folio | FolioClass) -> frozenset[int] | None:
        """
        :return: PFNs that may be a folio's reuse frame because its zone keeps
            them for its order; ``None`` if the dump does not tell.
        """
        if not self._by_zone:
            return frozenset()
        if folio.node is None or folio.zone is None:
            return None
        frames = self._by_zone.get(ZoneKey(folio.node, folio.zone), {})
        if frames is None:
            return None
        return frozenset(frames[order] for order in frames if order == folio.order)


def _tail_frames(kernel: Kernel, walker: Walker, zone: int) -> dict[int, int] | None:
    """PFNs of one zone's tail frames by order; ``None`` if the zone is not in the dump."""
    member = kernel.zone.members["vmemmap_tails"]
    try:
        data = walker.read(zone + member.offset, member.size * member.length)
    except MissingMemory:
        return None
    # ilog2(2 * PAGE_SIZE / sizeof(struct page)): the first order with a tail frame to share.
    first_order = (2 * PAGE_SIZE // kernel.page.size).bit_length() - 1
    frames = {}
    for index, (page,) in enumerate(struct.iter_unpack("<Q", data)):
        pfn, misaligned = divmod(page - kernel.vmemmap, kernel.page.size)
        if page and not misaligned and 0 <= pfn < kernel.paging.max_pfn:
            frames[first_order + index] = pfn
    return frames
