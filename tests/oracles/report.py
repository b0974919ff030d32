# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The reference report: what each folio is, by reading everything, one thing after another.

It is slow and obvious: every place where a folio may begin is read, every pointer of every
list is followed, each vmemmap page is walked to from the root. With the package it shares the
kernel's facts, and the plain records that both fill in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import drgn
from drgn.helpers.linux.hugetlb import for_each_hstate

from drgn_vmemmap.hugetlb.folio import Folio, State
from drgn_vmemmap.hvo.folios import FolioReport
from drgn_vmemmap.hvo.verdict import Judgement, Ranges, Verdict
from drgn_vmemmap.kernel.facts import Kernel, ZoneKey
from drgn_vmemmap.kernel.layout import Layout
from tests.oracles.page_tables import Page, ReferenceWalker
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE

PRESENT_WITH_MEMMAP = 0b11
"""``MARKED_PRESENT | HAS_MEM_MAP``"""


class Head(NamedTuple):
    """What the first two struct pages of a folio say."""

    order: int
    node: int
    zone: int
    optimized: bool | None
    next: int


class Own(NamedTuple):
    """How a folio's own kernel and zone optimize it."""

    layout: Layout
    tail_frame: int | None = None
    """The frame that its zone keeps for shared tails of its order."""
    zone_known: bool = True
    """Whether its head shows which zone it is in, if that matters."""


def reference_folios(prog: drgn.Program, kernel: Kernel) -> Iterator[FolioReport]:
    """
    What the report must say of each folio, in ascending order of PFN.

    A folio that is half-way is partial here: whether that is lawful, its entries do not show.
    """
    reference = _Reference(prog, kernel)
    for folio in sorted(reference.folios()):
        yield FolioReport(folio, reference.judgement(folio))


class _Physical:
    """The physical memory of a program. Each number is read once: all walks begin at one root."""

    def __init__(self, prog: drgn.Program) -> None:
        self._prog = prog
        self._words: dict[int, int] = {}

    def read_u64(self, address: int) -> int:
        if address not in self._words:
            self._words[address] = self._prog.read_u64(address, True)
        return self._words[address]


class _Reference:
    """Finds the folios of a kernel, and judges each."""

    def __init__(self, prog: drgn.Program, kernel: Kernel) -> None:
        self._prog = prog
        self._kernel = kernel
        self._walker = ReferenceWalker(_Physical(prog), *kernel.paging[:4])
        self._hstates = list(for_each_hstate(prog))
        self._names = {
            int(hstate.order): hstate.name.string_().decode() for hstate in self._hstates
        }

    # The folios.

    def folios(self) -> Iterator[Folio]:
        """In no order."""
        heads = self._heads_in_memmap()
        states = dict.fromkeys(heads, State.OFF_LIST)
        for hstate in self._hstates:
            for node, freelist in enumerate(hstate.hugepage_freelists):
                yield from self._follow(freelist, node, hstate, heads, states)
                self._follow_back(freelist, State.FREE, int(hstate.order), heads, states)
            yield from self._follow(hstate.hugepage_activelist, None, hstate, heads, states)
            active = hstate.hugepage_activelist
            self._follow_back(active, State.ACTIVE, int(hstate.order), heads, states)
        for pfn, head in heads.items():
            yield Folio(
                pfn,
                head.order,
                self._names[head.order],
                head.node,
                head.zone,
                states[pfn],
                head.optimized,
            )

    def _heads_in_memmap(self) -> dict[int, Head]:
        """The heads of folios, wherever in the memmap one may be."""
        heads: dict[int, Head] = {}
        end = 0
        for pfn in self._pfns_with_memmap():
            if pfn < end:
                continue
            try:
                head = self._head(pfn)
            except drgn.FaultError:
                continue
            if head is not None and head.order in self._names and pfn % (1 << head.order) == 0:
                heads[pfn] = head
                end = pfn + (1 << head.order)
        return heads

    def _pfns_with_memmap(self) -> Iterator[int]:
        """Each PFN at which a folio of the smallest order may begin."""
        facts = self._kernel.sections
        step = 1 << min(self._names)
        per_root = PAGE_SIZE // facts.section.size
        for number, root in enumerate(self._words(facts.roots, facts.root_count)):
            if not root:
                continue
            words = self._words(root, PAGE_SIZE // 8)
            flags = words[facts.section.offset("section_mem_map") // 8 :: facts.section.size // 8]
            for index in range(per_root):
                if flags[index] & PRESENT_WITH_MEMMAP == PRESENT_WITH_MEMMAP:
                    first = (number * per_root + index) * facts.pages
                    yield from range(first, first + facts.pages, step)

    def _head(self, pfn: int) -> Head | None:
        """
        :return: ``None`` if no folio begins there.
        :raises drgn.FaultError: if that cannot be read.
        """
        kernel = self._kernel
        pages = self._read(kernel.vmemmap + pfn * kernel.page.size, 2 * kernel.page.size)
        if not kernel.hugetlb_test.matches(pages) or not kernel.head_test.matches(pages):
            return None
        flags, bit = kernel.page.value(pages, "flags"), kernel.hvo.optimized_bit
        return Head(
            order=pages[kernel.order.offset],
            node=kernel.page_flags.node(flags),
            zone=kernel.page_flags.zone(flags),
            optimized=None if bit is None else bool(kernel.page.value(pages, "private") >> bit & 1),
            next=kernel.page.value(pages, "lru"),
        )

    def _words(self, address: int, count: int) -> list[int]:
        """Numbers that lie in a row; 0 in place of those in pages that are not in the dump."""
        words: list[int] = []
        while len(words) < count:
            here = address + 8 * len(words)
            size = min(PAGE_SIZE - here % PAGE_SIZE, 8 * (count - len(words)))
            try:
                data = self._read(here, size)
            except drgn.FaultError:
                data = bytes(size)
            words += memoryview(data).cast("Q")
        return words

    def _read(self, address: int, size: int) -> bytes:
        """
        Read virtual memory that lies within a page.

        :raises drgn.FaultError: if it is not mapped, or not in the dump.
        """
        page = self._walker.walk(address)
        if page.frame is None or page.problem is not None:
            raise drgn.FaultError("not mapped", address)
        physical = (page.frame << PAGE_SHIFT) + address % PAGE_SIZE
        data: bytes = self._prog.read(physical, size, True)
        return data

    def _follow(
        self,
        list_: drgn.Object,
        node: int | None,
        hstate: drgn.Object,
        heads: dict[int, Head],
        states: dict[int, State],
    ) -> Iterator[Folio]:
        """
        Follow a list as far as it can be, and note the state of the folios on it.

        :param node: The list's; ``None`` for the active one.
        :return: The folio that the walk ends at because its head is not in the dump.
        """
        kernel, order = self._kernel, int(hstate.order)
        state = State.ACTIVE if node is None else State.FREE
        pointer = int(list_.next)
        while pointer != list_.address_:
            page = pointer - kernel.page.offset("lru")
            pfn, misaligned = divmod(page - kernel.vmemmap, kernel.page.size)
            if misaligned or pfn not in range(0, kernel.paging.max_pfn, 1 << order):
                return
            if states.get(pfn, State.OFF_LIST) is not State.OFF_LIST:
                return
            if pfn in heads and heads[pfn].order != order:
                return
            try:
                head = self._head(pfn)
            except drgn.FaultError:
                states[pfn] = state
                yield Folio(pfn, order, self._names[order], node, None, state, None)
                return
            if head is None:
                return
            heads[pfn], states[pfn] = head._replace(order=order), state
            pointer = head.next

    def _follow_back(
        self,
        list_: drgn.Object,
        state: State,
        order: int,
        heads: dict[int, Head],
        states: dict[int, State],
    ) -> None:
        """Note the state of the folios that the end of a list leads to, and that lead there."""
        kernel, after, pointer = self._kernel, list_.address_, int(list_.prev)
        while pointer != list_.address_:
            page = pointer - kernel.page.offset("lru")
            pfn, misaligned = divmod(page - kernel.vmemmap, kernel.page.size)
            if misaligned or states.get(pfn) is not State.OFF_LIST:
                return
            if heads[pfn].order != order or heads[pfn].next != after:
                return
            states[pfn] = state
            after, (pointer,) = pointer, self._words(pointer + 8, 1)

    # What their entries amount to.

    def judgement(self, folio: Folio) -> Judgement:
        kernel = self._kernel
        start = kernel.vmemmap + folio.pfn * kernel.page.size
        count = (kernel.page.size << folio.order) // PAGE_SIZE
        pages = [self._walker.walk(start + index * PAGE_SIZE) for index in range(count)]
        own = self._own(folio)
        reuse = _reuse_frame(pages, own)
        shape = _shape(pages, reuse, own)
        kept = KEPT.get(shape, 0)
        shared = [
            index
            for index, page in enumerate(pages)
            if reuse is not None and page.frame == reuse and index >= kept
        ]
        levels = {page.level.lower() for page in pages if page.frame is not None}
        return Judgement(
            verdict=_verdict(pages, own),
            layout=shape,
            mapped_by=None if not levels else levels.pop() if len(levels) == 1 else "mixed",
            reuse_frame=reuse,
            shared=_ranges(shared),
            read_only=_ranges([i for i, p in enumerate(pages) if _letter(p) == "R"]),
            freed=len(shared),
        )

    def _own(self, folio: Folio) -> Own:
        kernel, layout = self._kernel, self._kernel.hvo.layout
        if layout is not Layout.SHARED_TAIL:
            return Own(layout)
        if folio.node is None or folio.zone is None:
            return Own(layout, zone_known=False)
        zone = kernel.zones[ZoneKey(folio.node, folio.zone)]
        # The smallest order whose folios have a vmemmap page of nothing but tails, to share.
        first_order = (2 * PAGE_SIZE // kernel.page.size).bit_length() - 1
        slots = zone + kernel.zone.offset("vmemmap_tails")
        if kernel.tails_by_pointer:
            (slots,) = self._words(slots, 1)
        if not slots:
            return Own(layout, None)
        (page,) = self._words(slots + 8 * (folio.order - first_order), 1)
        return Own(layout, (page - kernel.vmemmap) // kernel.page.size if page else None)


def _letter(page: Page) -> str:
    """W if a page is writable, R if it is read-only, - if there is none."""
    return "-" if page.frame is None else "W" if "W" in page.access else "R"


def _reuse_frame(pages: Sequence[Page], own: Own) -> int | None:
    """The zone's frame, or the head's, or the most common one among several tails."""
    tails = Counter(page.frame for page in pages[1:] if page.frame is not None)
    for frame in (own.tail_frame, pages[0].frame):
        if frame in tails:
            return frame
    most_common, count = max(tails.items(), key=lambda item: item[1], default=(None, 0))
    return most_common if count > 1 else None


def _shape(pages: Sequence[Page], reuse: int | None, own: Own) -> Layout:
    """Which layout's shape the entries have."""
    if reuse is None:
        return Layout.NONE
    if reuse == pages[0].frame:
        return Layout.HEAD_REUSE
    source = REUSED_PAGE.get(own.layout)
    # Where the entry that decides is missing, this kernel's own layout is presumed.
    if source == 0 and pages[0].frame is None:
        return own.layout
    if reuse == own.tail_frame or not own.zone_known:
        return Layout.SHARED_TAIL
    if source is not None and source > 0:
        return own.layout
    for layout, index in REUSED_PAGE.items():
        if index and pages[index].frame == reuse and _letter(pages[index]) == "W":
            return layout
    return Layout.SHARED_TAIL


def _verdict(pages: Sequence[Page], own: Own) -> Verdict:
    """By comparing the pages with the picture of each layout."""
    problems = {page.problem for page in pages if page.problem}
    if problems:
        unreadable = "not in the dump" in problems
        return Verdict.UNREADABLE if unreadable else Verdict.INCONSISTENT
    # Same number, same frame: the first frame that is seen is 0.
    numbers: dict[int | None, int] = {}
    frames = [numbers.setdefault(page.frame, len(numbers)) for page in pages]
    access, count = "".join(map(_letter, pages)), len(pages)
    if frames == list(range(count)) and access == "W" * count:
        return Verdict.INCONSISTENT if own.tail_frame in numbers else Verdict.UNOPTIMIZED
    if own.layout is Layout.NONE:
        return Verdict.INCONSISTENT
    kept, source = KEPT[own.layout], REUSED_PAGE[own.layout]
    shared = kept if source is None else source
    if frames != [*range(kept), *[shared] * (count - kept)]:
        return Verdict.PARTIAL if _is_half_way(pages, own) else Verdict.INCONSISTENT
    if own.tail_frame != pages[1].frame and own.layout is Layout.SHARED_TAIL and own.zone_known:
        return Verdict.INCONSISTENT
    right = ["W" * kept + "R" * (count - kept)]
    if count > 64 and kept == 1:
        # From boot: the kernel protected 64 pages of a folio of 1 GiB, and forgot the others.
        right.append("W" + "R" * 63 + "W" * (count - 64))
    if access not in right:
        return Verdict.INCONSISTENT
    return Verdict.OPTIMIZED if own.zone_known else Verdict.UNREADABLE


def _is_half_way(pages: Sequence[Page], own: Own) -> bool:
    """Whether some tails are remapped, and all others as they were."""
    kept, source = KEPT[own.layout], REUSED_PAGE[own.layout]
    reuse = own.tail_frame if source is None else pages[source].frame
    if reuse is None:
        return False
    remapped = [page.frame == reuse for page in pages[kept:]]
    rest = [*pages[:kept], *(p for p, shares in zip(pages[kept:], remapped) if not shares)]
    frames = [page.frame for page in rest]
    return (
        any(remapped)
        and all(_letter(p) == "R" for p, shares in zip(pages[kept:], remapped) if shares)
        and all(_letter(page) == "W" for page in rest)
        and len(set(frames)) == len(frames)
        and own.tail_frame not in frames
    )


def _ranges(indices: Sequence[int]) -> Ranges:
    """Ascending indices as ranges."""
    if not indices:
        return ()
    breaks = [(one, other) for one, other in zip(indices, indices[1:]) if other != one + 1]
    firsts = [indices[0], *(other for _, other in breaks)]
    lasts = [*(one for one, _ in breaks), indices[-1]]
    return tuple(zip(firsts, lasts))
