# SPDX-License-Identifier: LGPL-2.1-or-later

"""The scan of the memmap: it finds each folio by its head page, whether a list holds it or not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from drgn_vmemmap.hugetlb.folio import OFF_LIST, Folios
from drgn_vmemmap.hugetlb.head import HeadClasses, parse_head, parse_removed
from drgn_vmemmap.hugetlb.hstate import Hstate
from drgn_vmemmap.hugetlb.links import Links
from drgn_vmemmap.hugetlb.tails import Tails
from drgn_vmemmap.kernel.layout import ZONE
from drgn_vmemmap.paging.mapping import Problem, Run
from drgn_vmemmap.target.memory import StridedRead
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# A pool's folios have a few flags in common; a dump's folios may be damaged one by one.
_CLASSES_LIMIT = 4096

# Page tables whose folios' heads are read together.
_TABLES = 4


class _Part(NamedTuple):
    """PFNs at which folios may begin, and whose struct pages lie in one run."""

    run: Run
    pfns: range


class MemmapScan:
    """Finds the folios in the memmap, in ascending order."""

    def __init__(
        self, snapshot: Snapshot, hstates: Sequence[Hstate], compare_tails: bool = False
    ) -> None:
        """
        :param compare_tails: Where many folios are adjacent, read the frames with their heads
            whole, and see whether the tails in them are right: :attr:`Folios.compared`. The first
            wrong tail ends that.
        """
        self.folios = Folios()
        self.links = Links(
            snapshot.geometry.base + snapshot.kernel.links_offset, snapshot.geometry.struct_size
        )
        self.classes = HeadClasses(snapshot, hstates, self.folios)
        self.removed: list[tuple[int, int]] = []
        """PFNs and classes of folios that left their pool, but whose vmemmap is not restored."""
        self._missing: set[int] = set()
        """First PFNs of the sections of which struct pages could not be read."""
        self._snapshot = snapshot
        kernel = snapshot.kernel
        self._step, *self._larger = (1 << order for order in sorted(self.classes.names or (0,)))
        self._end = 0
        """The first PFN after the last folio found."""
        self._known: dict[tuple[int, ...], int] = {}
        """Classes by the words of the head pages that decide them."""
        names = {"flags", "private"} & kernel.page.members.keys()
        members = [(kernel.page.offset(name), 8) for name in names]
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
        self._link_word = kernel.links_offset // 8
        self._size = 2 * kernel.page.size
        """Bytes that are read of each head."""
        self._tails: Tails | None = None
        """For frames with heads, if they are to be compared."""
        if compare_tails and snapshot.geometry.is_aligned:
            # By the stricter rules for shared tails: a folio that breaks them is compared later.
            self._tails = Tails(kernel, self._step.bit_length() - 1, are_shared=True)
        self._adjacent = False
        """Whether a folio was found at each of the last PFNs, and there were many."""

    def add_all(self, pfns: range) -> None:
        """
        Find the folios among PFNs that have a memmap.

        :param pfns: Of one section, or of adjacent ones.
        """
        if not self.classes.names:
            return
        first, at_once = max(-(-pfns.start // self._step) * self._step, self._end), 1
        while first < pfns.stop:
            parts = self._parts(first, pfns.stop, at_once)
            # As long as there is a folio at each PFN, or at none, more tables are read together.
            count = len(self.folios)
            at_once = min(2 * at_once, _TABLES) if self._add_parts(parts) else 1
            self._adjacent = at_once == _TABLES and len(self.folios) > count
            # PFNs within a folio are left out: a remapped tail may show a copy of the head.
            first = max(parts[-1].pfns[-1] + self._step, self._end)

    def missing(self) -> list[range]:
        """The sections of which struct pages could not be read, although they are mapped."""
        pages = self._snapshot.kernel.sections.pages
        return [range(start, start + pages) for start in sorted(self._missing)]

    def _parts(self, first: int, stop: int, count: int) -> list[_Part]:
        """
        Where folios may begin next.

        :param first: First PFN.
        :param stop: PFN after the last one.
        :param count: How many runs at most.
        """
        geometry, pages = self._snapshot.geometry, self._snapshot.kernel.sections.pages
        parts: list[_Part] = []
        while first < stop and len(parts) < count:
            run = self._snapshot.walker.run_at(geometry.address(first))
            if any(first % size == 0 for size in self._larger):
                # It may be a folio that contains all the others.
                return parts or [_Part(run, range(first, first + self._step, self._step))]
            last, _ = geometry.pfn_at(run.end - 1)
            end = min(last + 1, first // pages * pages + pages, stop)
            parts.append(_Part(run, range(first, end, self._step)))
            first = parts[-1].pfns[-1] + self._step
        return parts

    def _add_parts(self, parts: Sequence[_Part]) -> bool:
        """
        Find the folios among PFNs.

        :return: Whether there is one of the smallest size at each of them, or none at all.
        """
        pfns = range(parts[0].pfns.start, parts[-1].pfns.stop, self._step)
        frames = list(chain.from_iterable(map(self._frames, parts)))
        shift = self._snapshot.geometry.page_shift
        addresses = [frame << shift for frame in frames if frame is not None]
        memory, heads = self._snapshot.walker.memory, None
        if len(addresses) == len(pfns):
            if self._add_compared(parts, pfns, addresses):
                return True
            heads = memory.read_all(addresses, self._size)
            if heads is not None and self._add_alike(pfns, heads):
                return True
        each = memory.read_each(addresses, self._size) if heads is None else heads.each()
        self._add_each(zip((pfn for pfn, frame in zip(pfns, frames) if frame is not None), each))
        return False

    def _frames(self, part: _Part) -> Sequence[int | None]:
        """Frames with the head pages of what may be folios; ``None`` where nothing is mapped."""
        run, pfns = part
        if not run.raw:
            self._miss(pfns.start)
        geometry = self._snapshot.geometry
        start = (geometry.address(pfns.start) - run.start) // geometry.page_size
        stride = self._step * geometry.struct_size // geometry.page_size
        return self._snapshot.walker.frames(run, range(start, start + stride * len(pfns), stride))

    def _miss(self, pfn: int) -> None:
        """Record that the section of a PFN cannot be read completely."""
        pages = self._snapshot.kernel.sections.pages
        self._missing.add(pfn // pages * pages)

    def _add_compared(self, parts: Sequence[_Part], pfns: range, addresses: list[int]) -> bool:
        """
        Add folios if there is one of the smallest size at each PFN, and compare their tails.

        :param addresses: Physical addresses of the frames with their heads.
        :return: Whether the folios were added: all, or none.
        """
        tails, size = self._tails, self._snapshot.geometry.page_size
        # At most PFNs there is no folio: frames are read whole only after many adjacent folios.
        if tails is None or not self._adjacent or not all(part.run.is_last_level for part in parts):
            return False
        frames = self._snapshot.walker.memory.read_all(addresses, size)
        if frames is None or not self._add_adjacent(pfns, frames):
            return False
        infos = self._snapshot.kernel.tail_infos(pfns, self._step.bit_length() - 1)
        if tails.are_alike(frames, infos, has_head=True):
            self.folios.compared[-len(pfns) :] = b"\1" * len(pfns)
        else:
            # Frames with wrong tails are read again, to be compared tail by tail: once.
            self._tails = None
        return True

    def _add_alike(self, pfns: range, heads: StridedRead) -> bool:
        """
        Add folios if there is one of the smallest size at each PFN, or none at all.

        :param heads: The first two struct pages of each.
        :return: Whether that is so; otherwise, none was added.
        """
        if self._add_adjacent(pfns, heads):
            return True
        kernel, pages = self._snapshot.kernel, bytes(heads.ascending())
        tests = (kernel.hugetlb_test, kernel.removed_test)
        return not any(test and test.matches_any(pages, self._size) for test in tests)

    def _add_adjacent(self, pfns: range, heads: StridedRead) -> bool:
        """
        Add folios if there is one of the smallest size at each PFN.

        :param heads: At least the first two struct pages of each.
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
        self.links.extend(pfns, *heads.columns((self._link_word, self._link_word + 1), 8))
        self._end = pfns[-1] + self._step
        return True

    def _add_each(self, heads: Iterable[tuple[int, bytes | None]]) -> None:
        """Add the folios among PFNs with the bytes of their first two struct pages."""
        for pfn, pages in heads:
            if pfn < self._end:
                continue
            if pages is None:
                self._miss(pfn)
            else:
                self._add(pfn, pages)

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
            self.links.add(pfn, links[self._link_word], links[self._link_word + 1])

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
