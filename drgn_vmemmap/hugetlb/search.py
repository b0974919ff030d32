# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The search for HugeTLB folios: the memmap shows their heads, the hstates' lists hold them.

Each folio is found once: in the memmap if its head page is there, otherwise through a list.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import OFF_LIST, Folios
from drgn_vmemmap.hugetlb.head import HeadClasses, parse_head, parse_removed
from drgn_vmemmap.hugetlb.hstate import Hstate
from drgn_vmemmap.hugetlb.lists import BrokenList, Links, ListWalk
from drgn_vmemmap.kernel.layout import ZONE
from drgn_vmemmap.paging.mapping import Problem, Run
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.target.memory import StridedRead
from drgn_vmemmap.vmemmap.sections import MissingSections, Section, present_sections
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# A pool's folios have a few flags in common; a dump's folios may be damaged one by one.
_CLASSES_LIMIT = 4096


class MissingHeads(NamedTuple):
    """Memory in which a folio may begin whose head page is not in the dump."""

    pfns: range


SearchProblem = Union[BrokenList, MissingSections, MissingHeads]
"""What keeps a search from being complete."""


class SearchResult(NamedTuple):
    """What the memmap and the hstates' lists hold."""

    folios: Folios
    """In ascending order of PFN."""
    sections: list[Section]
    problems: list[SearchProblem]

    @property
    def complete(self) -> bool:
        """Whether the dump holds all that shows folios and what lists they are on."""
        return all(isinstance(each, BrokenList) and not each.unreadable for each in self.problems)


def find_folios(
    snapshot: Snapshot, hstates: Sequence[Hstate], progress: Progress = SILENT
) -> SearchResult:
    """
    Find all HugeTLB folios: those on the hstates' lists, and those on none.

    A list that cannot be followed to its end gives what was found, and a
    :class:`BrokenList`.
    """
    problems: list[SearchProblem] = []
    sections = []
    for section in present_sections(snapshot):
        if isinstance(section, MissingSections):
            problems.append(section)
        else:
            sections.append(section)
    scan = _MemmapScan(snapshot, hstates)
    # Nothing may have initialized the struct pages of other memory: pfn_to_online_page().
    online = [section for section in sections if section.flags & snapshot.kernel.sections.online]
    for section in progress.track(online, "memmap"):
        if not scan.add_section(section):
            problems.append(MissingHeads(section.pfns))
    walk = ListWalk(snapshot, scan.classes, scan.folios, scan.links)
    problems += walk.follow(hstates)
    for pfn, number in scan.removed:
        scan.folios.add(pfn, number, OFF_LIST)
        scan.links.add(0, 0)
    _put_in_order(snapshot, scan.folios, scan.links, walk.has_added or bool(scan.removed))
    return SearchResult(scan.folios, sections, problems)


class _MemmapScan:
    """Finds the folios in the memmap, section by section in ascending order."""

    def __init__(self, snapshot: Snapshot, hstates: Sequence[Hstate]) -> None:
        self.folios = Folios()
        self.links = Links()
        self.classes = HeadClasses(snapshot, hstates, self.folios)
        self.removed: list[tuple[int, int]] = []
        """PFNs and classes of folios that left their pool, but whose vmemmap is not restored."""
        self._snapshot = snapshot
        kernel = snapshot.kernel
        self._step, *self._larger = (1 << order for order in sorted(self.classes.names or (0,)))
        self._end = 0
        """The first PFN after the last folio found."""
        self._known: dict[tuple[int, ...], int] = {}
        """Classes by the words of the head pages that decide them."""
        members = [(kernel.page.offset(name), 8) for name in ("flags", "private")]
        tests = [(test.offset, test.size) for test in (kernel.head_test, kernel.hugetlb_test)]
        deciding = [*members, *tests, (kernel.order.offset, 1)]
        self._class_words = sorted(
            {
                word
                for offset, size in deciding
                for word in range(offset // 4, -(-(offset + size) // 4))
            }
        )
        """Indices of these words, of 4 bytes each."""
        self._link_word = kernel.page.offset("lru") // 8
        self._size = 2 * kernel.page.size
        """Bytes that are read of each head."""

    def add_section(self, section: Section) -> bool:
        """
        Find the folios in the memmap of a section.

        :return: Whether the struct pages could be read, as far as they are mapped.
        """
        if not self.classes.names:
            return True
        snapshot, complete = self._snapshot, True
        first = max(-(-section.pfns.start // self._step) * self._step, self._end)
        while first < section.pfns.stop:
            run = snapshot.walker.run_at(snapshot.geometry.address(first))
            last, _ = snapshot.geometry.pfn_at(run.end - 1)
            pfns = range(first, min(last + 1, section.pfns.stop), self._step)
            if any(first % size == 0 for size in self._larger):
                # It may be a folio that contains all the others.
                pfns = pfns[:1]
            complete = self._add_run(run, pfns) and complete
            # Within a folio, a remapped tail page may have what its head has.
            first = max(first + len(pfns) * self._step, self._end)
        return complete

    def _add_run(self, run: Run, pfns: range) -> bool:
        """
        Find the folios among PFNs whose struct pages lie in one run.

        :return: Whether the struct pages could be read, as far as they are mapped.
        """
        if not run.raw:
            return False
        geometry, walker = self._snapshot.geometry, self._snapshot.walker
        start = (geometry.address(pfns.start) - run.start) // geometry.page_size
        stride = self._step * geometry.struct_size // geometry.page_size
        frames = walker.frames(run, range(start, start + stride * len(pfns), stride))
        addresses = [frame << geometry.page_shift for frame in frames if frame is not None]
        heads = self._read_heads(addresses)
        if isinstance(heads, StridedRead):
            if len(addresses) == len(pfns) and self._add_adjacent(pfns, heads):
                return True
            heads = heads.each()
        mapped = (pfn for pfn, frame in zip(pfns, frames) if frame is not None)
        return self._add_each(zip(mapped, heads))

    def _read_heads(self, addresses: list[int]) -> StridedRead | Sequence[bytes | None]:
        """
        Read the first two struct pages of what may be folios.

        :return: ``None`` for each that is not in the dump.
        """
        memory = self._snapshot.walker.memory
        together = memory.read_together(addresses, self._size)
        if together is not None:
            return together
        heads = memory.read_each(addresses, self._size)
        pieces = [head for head in heads if head is not None]
        return StridedRead.joined(pieces, self._size) if len(pieces) == len(heads) > 1 else heads

    def _add_adjacent(self, pfns: range, heads: StridedRead) -> bool:
        """
        Add folios if there is one of the smallest size at each PFN.

        :return: Whether there is; otherwise, none was added.
        """
        columns = list(heads.columns(self._class_words, 4))
        # Fast path: mostly, the heads of adjacent folios are of one class.
        if all(column[1:] == column[:-1] for column in columns):
            keys = [tuple(column[0] for column in columns)]
        else:
            keys = list(zip(*(column.tolist() for column in columns)))
        numbers: list[int] = []
        for start, key in zip(heads.starts, keys):
            number = self._known.get(key)
            if number is None:
                number = self._learn(heads.block[start : start + self._size], key)
            if number is None:
                return False
            numbers.append(number)
        table = self.folios.class_table
        if any(1 << table[number].order != self._step for number in set(numbers)):
            return False
        classes = array("I", numbers) * (len(pfns) // len(keys))
        self.folios.extend(pfns, classes, OFF_LIST)
        self.links.extend(*heads.columns((self._link_word, self._link_word + 1), 8))
        self._end = pfns[-1] + self._step
        return True

    def _add_each(self, heads: Iterable[tuple[int, bytes | None]]) -> bool:
        """
        Add the folios among PFNs with the bytes of their first two struct pages.

        :return: Whether all bytes are in the dump.
        """
        complete = True
        for pfn, pages in heads:
            if pfn < self._end:
                continue
            if pages is None:
                complete = False
            else:
                self._add(pfn, pages)
        return complete

    def _add(self, pfn: int, pages: bytes) -> None:
        """Add the folio at a PFN, if there is one."""
        if not self._snapshot.kernel.hugetlb_test.matches(pages):
            self._add_removed(pfn, pages)
            return
        words = memoryview(pages).cast("I")
        key = tuple([words[word] for word in self._class_words])
        number = self._known.get(key)
        if number is None:
            number = self._learn(pages, key)
        if number is None:
            return
        size = 1 << self.folios.class_table[number].order
        if pfn % size == 0:
            self._end = pfn + size
            self.folios.add(pfn, number, OFF_LIST)
            links = memoryview(pages).cast("Q")
            self.links.add(links[self._link_word], links[self._link_word + 1])

    def _add_removed(self, pfn: int, pages: bytes) -> None:
        """Add the folio at a PFN, if one left its pool or is being made, and it is remapped."""
        head = parse_removed(self._snapshot.kernel, pages)
        number = None if head is None else self.classes.number(head)
        if head is None or number is None or pfn % (1 << head.order):
            return
        if _is_remapped(self._snapshot, pfn, head.order):
            self._end = pfn + (1 << head.order)
            self.removed.append((pfn, number))

    def _learn(self, pages: bytes, key: tuple[int, ...]) -> int | None:
        """The class of the folio with these head pages; ``None`` if they are none's."""
        head = parse_head(self._snapshot.kernel, pages)
        number = None if head is None else self.classes.number(head)
        if number is not None and len(self._known) < _CLASSES_LIMIT:
            self._known[key] = number
        return number


def _is_remapped(snapshot: Snapshot, pfn: int, order: int) -> bool:
    """
    Whether tails of what may be a folio share, or may share, its reuse frame.

    A remap begins with the first tail, and the last one is the last that a restore gives back its
    own frame (``vmemmap_remap_range()``).
    """
    geometry, layout = snapshot.geometry, snapshot.kernel.hvo.layout
    if layout.reuse_from is ZONE:
        return False
    start, size = geometry.address(pfn), geometry.page_size
    reused = snapshot.walker.entry(start + layout.reuse_from * size)
    for index in (layout.kept, geometry.pages_of_order(order) - 1):
        tail = snapshot.walker.entry(start + index * size)
        if Problem.UNREADABLE in (reused.problem, tail.problem):
            return True
        if tail.frame is not None and tail.frame == reused.frame and not tail.access.writable:
            return True
    return False


def _put_in_order(snapshot: Snapshot, folios: Folios, links: Links, lists_have_added: bool) -> None:
    """
    Put the folios in ascending order, without those that show the head page of another one.

    The vmemmap of these is mapped to the other folio's head frame.
    """
    shown_twice: set[int] = set()
    if OFF_LIST in folios.states:
        shown_twice = {
            row
            for row, state in enumerate(folios.states)
            if state == OFF_LIST and _shows_another(snapshot, folios.pfns[row], links.next[row])
        }
    if shown_twice or lists_have_added:
        rows = (row for row in range(len(folios)) if row not in shown_twice)
        folios.pick(sorted(rows, key=folios.pfns.__getitem__))


def _shows_another(snapshot: Snapshot, pfn: int, next_: int) -> bool:
    """
    Whether what seems a folio shows the head page of another one.

    The next folio on its list has that other one before it, and both have the same head frame.

    :param next_: The pointer to the next folio.
    """
    geometry = snapshot.geometry
    try:
        previous = int.from_bytes(snapshot.read(next_ + 8, 8), "little")
    except MissingMemory:
        return False
    other = geometry.pfn_of(previous - snapshot.kernel.page.offset("lru"))
    if other is None or other == pfn:
        return False
    frames = {snapshot.walker.entry(geometry.address(each)).frame for each in (pfn, other)}
    return len(frames) == 1
