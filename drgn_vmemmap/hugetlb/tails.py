# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The tails: what the struct pages of a folio hold, and what they must hold.

Follows ``prep_compound_tail()`` of ``mm/internal.h``, and the checks when a folio is freed:
``free_tail_page_prepare()``, ``page_expected_state()`` and ``free_page_is_bad()`` of
``mm/page_alloc.c``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.structs import FORMATS, Member, Struct
from drgn_vmemmap.target.memory import StridedRead
from drgn_vmemmap.vmemmap.frames import MAX_PAGE_ORDER
from drgn_vmemmap.vmemmap.owners import NO_PAGE_TYPE, TAIL

TAIL_MAPPING = 0xDEAD000000000400
"""``mapping`` of a tail, ``include/linux/poison.h`` with x86-64's offset of illegal pointers."""

FIRST_PLAIN = 4
"""
The first tail all of whose members but ``private`` are a plain tail's: those before it hold the
folio's order, its counts, its subpool, its cgroup and the list of its failed pages
(``__NR_USED_SUBPAGE``). In v6.0 and v6.1 this list is in the ``private`` of tail 4.
"""


class WrongTail(NamedTuple):
    """A struct page that is not the tail that it should be."""

    page: int
    """Its index in the frame."""
    reason: str
    link: int
    """Raw ``compound_head``."""
    is_head: bool
    """Whether it has ``PG_head``, as a copy of a head has."""
    info: int
    """What ``compound_head`` should be."""
    keeps_references: bool = False
    """
    All that is wrong with the plain tails in the frame is the one reference that each has: v7.1 to
    v7.3 leave it to the tails of gigantic folios from boot, and to the smaller folios and the
    memory that these become.
    """

    @property
    def leads_elsewhere(self) -> bool:
        """Whether it is the tail of something else."""
        return self.link != self.info and bool(self.link & TAIL)


class _Check(NamedTuple):
    """What a member of each plain tail must be."""

    member: str
    accepts: Callable[[int], bool]
    reason: str
    """What is wrong with any other value; ``{}`` stands for the value."""


class Tails:
    """Compares the struct pages in frames of a folio's vmemmap with what a folio requires."""

    def __init__(
        self, kernel: Kernel, order: int, are_shared: bool = False, place: int | None = None
    ) -> None:
        """
        :param order: Of the folios.
        :param are_shared: The frames stand for more than one vmemmap page.
        :param place: Bits of the node and the zone that all tails have in their flags; ``None`` if
            that is not known. Where there is a head in the frame, tails have its bits.
        """
        self._kernel = kernel
        self._page = kernel.page
        self._size = kernel.page.size
        self._count = kernel.page_size // self._size
        self._place_mask, self._place = kernel.page_flags.place, place
        # In the frame that a zone keeps for gigantic folios, v7.1 to v7.3 leave each struct page
        # the reference that memory from boot begins with.
        self._has_references = kernel.tails_hold_mask and "refcount" in self._page.members
        self._keeps_references = self._has_references and order > MAX_PAGE_ORDER
        is_device = place is not None and kernel.page_flags.zone(place) == kernel.device_zone
        checks = _checks(kernel, order, are_shared, is_device)
        self._checks = [each for each in checks if each.member in self._page.members]
        self._words = _joined([self._page.members[check.member] for check in self._checks])
        self._link = self._page.members["compound_head"]
        self._expected: dict[tuple[Member, int], memoryview] = {}
        """
        Columns that were right, by the word and by how many struct pages at the beginning of each
        frame may have anything in it.
        """

    def wrong_among(
        self, frames: StridedRead, infos: array[int], has_head: bool
    ) -> Iterator[tuple[int, WrongTail]]:
        """
        Find the frames of folios' vmemmap that do not hold what they must.

        :param infos: What a tail's ``compound_info`` holds, of each: :meth:`Kernel.tail_info()`.
        :param has_head: They begin with the head and the tails that carry its metadata.
        :return: Position of each such frame, counted from 0, and its first wrong struct page.
        """
        for position in self._not_alike(frames, infos, range(len(infos)), has_head):
            start = frames.starts[position]
            frame = frames.block[start : start + frames.size]
            wrong = self._wrong_in(frame, infos[position], has_head)
            if wrong is not None:
                yield position, wrong

    def _not_alike(
        self, frames: StridedRead, infos: array[int], positions: range, has_head: bool
    ) -> Iterator[int]:
        """
        The frames in which tails are not right, or right and not all alike.

        :param positions: Of those in which to search.
        """
        if self.are_alike(
            frames.part(positions), infos[positions.start : positions.stop], has_head
        ):
            return
        if len(positions) == 1:
            yield positions.start
            return
        middle = len(positions) // 2
        for half in (positions[:middle], positions[middle:]):
            yield from self._not_alike(frames, infos, half, has_head)

    def are_alike(self, frames: StridedRead, infos: array[int], has_head: bool) -> bool:
        """
        Whether all plain tails in some frames are as one that is right, but for their links.

        Mostly, they are, and nothing else needs to be done with each.

        :param frames: As :meth:`wrong_among()` has them, and the other parameters.
        """
        if not infos:
            return True
        infos = infos if frames.starts.step > 0 else infos[::-1]
        block = frames.ascending()
        size, first = self._size, FIRST_PLAIN if has_head else 0
        plain = bytes(block[first * size : (first + 1) * size])
        for check in self._checks_of(plain, has_head):
            if not check.accepts(self._page.value(plain, check.member)):
                return False
        flags = self._column(block, self._page.members["flags"])
        places = {self._place}
        if has_head:
            places = {head & self._place_mask for head in set(flags[:: self._count])}
        if not places <= {None, self._page.value(plain, "flags") & self._place_mask}:
            return False
        if not all(self._is_alike(word, self._column(block, word), first) for word in self._words):
            return False
        column, links = self._column(block, self._link), memoryview(infos)
        tails = range(int(has_head), self._count)
        return all(column[tail :: self._count] == links for tail in tails)

    def _column(self, block: memoryview, word: Member) -> memoryview[int]:
        """A word of each struct page."""
        words = block.cast(FORMATS[word.size])
        return words[word.offset // word.size :: self._size // word.size]

    def _is_alike(self, word: Member, column: memoryview, first: int) -> bool:
        """
        Whether all plain tails have what the first one has.

        :param first: How many struct pages of each frame are no plain tails.
        """
        value, length = column[first], len(column)
        known = self._expected.get((word, first))
        if known is None or len(known) != length or known[first] != value:
            known = memoryview(array(FORMATS[word.size], [value]) * length)
            self._expected[word, first] = known
        # Fast path: mostly, the whole column is as one that was right, heads included.
        if column == known:
            return True
        for index in range(first):
            known[index :: self._count] = column[index :: self._count]
        return column == known

    def _wrong_in(self, frame: bytes, info: int, has_head: bool) -> WrongTail | None:
        """As :meth:`first_wrong()`, but faster: most tails that are not alike are right, too."""
        tails = frame[FIRST_PLAIN * self._size if has_head else 0 :]
        links = self._page.values(frame[self._size if has_head else 0 :], "compound_head")
        place, flags = self._place_in(frame, has_head), self._page.values(tails, "flags")
        if (
            links == {info}
            and self._accept(self._checks_of(tails, has_head), tails)
            and (place is None or {each & self._place_mask for each in flags} == {place})
        ):
            return None
        return self.first_wrong(frame, info, has_head)

    def _place_in(self, content: bytes, has_head: bool) -> int | None:
        """Bits of the node and the zone that the tails in a frame have; ``None`` for any."""
        if has_head:
            return self._page.value(content, "flags") & self._place_mask
        return self._place

    def _accept(self, checks: Iterable[_Check], tails: bytes) -> bool:
        """Whether checks accept all of some plain tails."""
        return all(
            all(map(check.accepts, self._page.values(tails, check.member))) for check in checks
        )

    def first_wrong(self, content: bytes, info: int, has_head: bool) -> WrongTail | None:
        """
        Find a struct page that is not the tail that it should be.

        :param content: The bytes of a frame of a folio's vmemmap.
        :param info: What a tail's ``compound_info`` holds: :meth:`Kernel.tail_info()`.
        :param has_head: It begins with the head and the tails that carry its metadata.
        :return: The first one; ``None`` if the frame holds what it must.
        """
        size, page, place = self._size, self._page, self._place_in(content, has_head)
        checks = self._checks_of(content, has_head)
        for index in range(int(has_head), self._count):
            each = content[index * size : (index + 1) * size]
            found = page.value(each, "compound_head")
            is_plain = not has_head or index >= FIRST_PLAIN
            reason = "is no tail of this folio" if found != info else None
            if reason is None and is_plain:
                reason = next(_faults(page, each, checks), None)
            flags = page.value(each, "flags")
            if reason is None and is_plain and place not in (None, flags & self._place_mask):
                reason = f"is of another node or zone than its folio: flags {flags:#x}"
            if reason is not None:
                is_head = bool(flags & self._kernel.head_test.value)
                keeps = self._only_keep_references(content, info, has_head)
                return WrongTail(index, reason, found, is_head, info, keeps)
        return None

    def _only_keep_references(self, content: bytes, info: int, has_head: bool) -> bool:
        """See :attr:`WrongTail.keeps_references`."""
        tails = content[FIRST_PLAIN * self._size if has_head else 0 :]
        return (
            self._has_references
            and self._page.values(tails, "compound_head") == {info}
            and self._page.values(tails, "refcount") == {1}
            and self._accept((c for c in self._checks if c.member != "refcount"), tails)
        )

    def _checks_of(self, tails: bytes, has_head: bool) -> list[_Check]:
        """The checks of tails in one frame, but that of references where each may have one."""
        may_keep = self._keeps_references and not has_head
        if may_keep and self._page.values(tails, "refcount") == {1}:
            return [check for check in self._checks if check.member != "refcount"]
        return self._checks


def _joined(members: Iterable[Member]) -> list[Member]:
    """Words with some members; two members that are the halves of a word share it."""
    words: list[Member] = []
    for member in sorted(members):
        if words and words[-1] == Member(member.offset - 4, 4, 1) and not words[-1].offset % 8:
            words[-1] = Member(words[-1].offset, 8, 1)
        else:
            words.append(member)
    return words


def _faults(layout: Struct, page: bytes, checks: Iterable[_Check]) -> Iterator[str]:
    """What is wrong with one struct page as a plain tail, in words."""
    for check in checks:
        value = layout.value(page, check.member)
        if not check.accepts(value):
            yield check.reason.format(value)


def _checks(kernel: Kernel, order: int, are_shared: bool, is_device: bool) -> list[_Check]:
    """
    What is checked of the plain tails of folios of an order, as far as struct pages have it.
    """
    forbidden = kernel.page_marks.checked_at_free | kernel.head_test.value
    if is_device:
        # Not in v7.3: as all of a device's pages are, the tails that its zone keeps for them are
        # reserved (vmemmap_shared_tail_page()).
        forbidden &= ~kernel.page_marks.reserved
    # Which memory of a folio failed, its head records (folio_set_hugetlb_hwpoison()); a tail that
    # others share is never marked.
    if are_shared:
        forbidden |= kernel.poison.flag
    # Older kernels do not write the mapping of a gigantic folio's tails.
    mappings = (TAIL_MAPPING, 0) if order > MAX_PAGE_ORDER else (TAIL_MAPPING,)
    return [
        _Check("flags", lambda flags: not flags & forbidden, "has flags that no tail has: {:#x}"),
        _Check("refcount", lambda count: count == 0, "has {} references, and a tail has none"),
        _Check("page_type", NO_PAGE_TYPE.__eq__, "has a mapcount or page type: {:#x}"),
        _Check(
            "mapping",
            mappings.__contains__,
            f"has the mapping {{:#x}}, and a tail has {TAIL_MAPPING:#x}",
        ),
        _Check("memcg_data", lambda data: data == 0, "is charged to a memory cgroup"),
    ]
