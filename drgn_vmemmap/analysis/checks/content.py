# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on content: what the struct pages of folios hold, where HVO touched their vmemmap."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import compress, groupby
from typing import NamedTuple

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hugetlb.folio import OFF_LIST
from drgn_vmemmap.hugetlb.tails import Tails, WrongTail
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import ZONE, Layout
from drgn_vmemmap.rules import content as content_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.frames import VmemmapPage
from drgn_vmemmap.target.memory import StridedRead
from drgn_vmemmap.vmemmap.frames import MAX_PAGE_ORDER
from drgn_vmemmap.vmemmap.owners import TAIL

# Frames that are read together.
_BATCH = 256

# Folios whose classes and judgements are compared together.
_AT_ONCE = 1024


class _Batch(NamedTuple):
    """Frames that back vmemmap of folios of one order, and of which the same is required."""

    order: int
    rows: Sequence[int]
    """Of the folios, ascending unless the frames are reused ones."""
    pages: range
    """Indices of the vmemmap pages of each folio: the first one alone, or others."""
    is_reused: bool = False
    """They are the folios' reuse frames."""

    @property
    def has_head(self) -> bool:
        """Whether they begin with the head page."""
        return 0 in self.pages


class _Pieces(NamedTuple):
    """The frames of a batch: a column for each fact."""

    rows: Sequence[int]
    """Of the folio."""
    pages: Sequence[int]
    """Index of the vmemmap page in the folio."""
    frames: Sequence[int]
    """PFN."""


def check_tails(context: VmemmapContext) -> Iterator[Finding]:
    """Compare the struct pages of folios with what a folio requires."""
    if context.geometry.is_aligned and context.kernel.hvo.layout is not Layout.UNKNOWN:
        yield from _TailCheck(context).findings()


class _TailCheck:
    """Compares frames of the folios' vmemmap, a batch at a time."""

    def __init__(self, context: VmemmapContext) -> None:
        self._context = context
        self._folios = context.report.folios
        self._tails: dict[tuple[int, bool, int | None], Tails] = {}
        """
        By the order of the folios, whether vmemmap pages share the frames, and the bits of the
        folios' node and zone.
        """
        self._not_compared = 0
        self._compared: set[int] = set()
        """PFNs of the frames that zones keep and that folios share."""

    def findings(self) -> Iterator[Finding]:
        for batch in self._context.progress.track(list(self._batches()), "tails"):
            yield from self._compare(batch)
        yield from self._unused()
        if self._not_compared:
            yield content_rules.not_compared(
                self._not_compared, "folios", self._context.kernel.report_only
            )

    def _batches(self) -> Iterator[_Batch]:
        """All frames to compare."""
        for rows in self._alike():
            judgement = self._folios.judgement_of(rows[0])
            order = self._folios.folios.class_of(rows[0]).order
            if judgement.verdict is not Verdict.UNOPTIMIZED:
                yield from self._of_sharing(rows, order, judgement)
            # Where HVO did not touch the vmemmap, large leaves map it.
            elif judgement.mapped_by == "pte":
                yield from self._of_unoptimized(rows, order)

    def _of_unoptimized(self, rows: Sequence[int], order: int) -> Iterator[_Batch]:
        """All frames of folios that are not optimized."""
        rows = self._not_in_demotion(rows, order)
        pages = self._context.geometry.pages_of_order(order)
        yield from _in_parts(_Batch(order, self._still_to_compare(rows), range(1)))
        yield from _in_parts(_Batch(order, rows, range(1, pages)))

    def _of_sharing(
        self, rows: Sequence[int], order: int, judgement: Judgement
    ) -> Iterator[_Batch]:
        """The frames that folios keep if they are optimized, and those that they reuse."""
        layout, folios = judgement.layout, self._folios
        if judgement.verdict is Verdict.OPTIMIZED:
            for index in sorted({*range(layout.kept)} - {layout.reuse_from}):
                kept = rows if index else self._still_to_compare(rows)
                yield from _in_parts(_Batch(order, kept, range(index, index + 1)))
        if layout.reuse_from is ZONE:
            # A frame that a zone keeps is compared once.
            first = {folios.reuse_frames[row]: row for row in reversed(rows)}
            rows = [first[frame] for frame in sorted(first.keys() - self._compared)]
            self._compared.update(first)
        elif layout.reuse_from == 0:
            rows = self._still_to_compare(rows)
        reused = range(layout.reused_index, layout.reused_index + 1)
        yield from _in_parts(_Batch(order, rows, reused, is_reused=True))

    def _still_to_compare(self, rows: Sequence[int]) -> Sequence[int]:
        """Rows of the folios whose head frame is still to be compared, among some rows."""
        compared = self._folios.folios.compared
        return [row for row in rows if not compared[row]]

    def _not_in_demotion(self, rows: Sequence[int], order: int) -> Sequence[int]:
        """
        Of the folios of some rows, those that are not being demoted.

        The tails of a demoted folio are cleared, or become the first smaller folio's, before its
        head changes (``demote_free_hugetlb_folio()`` of v5.16 to v6.11,
        ``demote_free_hugetlb_folios()``).
        """
        context, states = self._context, self._folios.folios.states
        if OFF_LIST not in states or order == min(context.orders):
            return rows
        return [row for row in rows if not context.may_be_in_flight(row)]

    def _unused(self) -> Iterator[Finding]:
        """Compare the frames that zones keep and that no folio shares, as far as it is known."""
        kernel, geometry = self._context.kernel, self._context.geometry
        uses = self._context.report.tail_uses
        frames = sorted(uses.keys() - self._compared)
        addresses = [frame << geometry.page_shift for frame in frames]
        contents = self._context.walker.memory.read_each(addresses, geometry.page_size)
        for frame, content in zip(frames, contents):
            if content is None:
                self._not_compared += 1
                continue
            zone, order = uses[frame]
            info, place = kernel.tail_info(0, order), kernel.page_flags.of_place(*zone)
            wrong = self._tails_of(order, True, place).first_wrong(content, info, has_head=False)
            if wrong is not None and not self._may_come_later(wrong, frame):
                yield content_rules.unused_tail(frame, order, wrong, geometry.address(frame))

    def _pieces(self, batch: _Batch) -> _Pieces:
        """The frames of a batch, as far as there are any."""
        pfns, geometry = self._folios.folios.pfns, self._context.geometry
        if batch.is_reused:
            frames = [*map(self._folios.reuse_frames.__getitem__, batch.rows)]
            return _Pieces(batch.rows, [batch.pages.start] * len(frames), frames)
        rows = [row for row in batch.rows for _ in batch.pages]
        pages = [*batch.pages] * len(batch.rows)
        numbers = [geometry.page_number(pfns[row]) + page for row, page in zip(rows, pages)]
        found = zip(rows, pages, self._frames(numbers))
        mapped = [(row, page, frame) for row, page, frame in found if frame is not None]
        return _Pieces(*zip(*mapped)) if mapped else _Pieces((), (), ())

    def _frames(self, numbers: Sequence[int]) -> list[int | None]:
        """
        The frames that last-level entries map.

        :param numbers: Those of vmemmap pages, ascending.
        :return: PFNs; ``None`` for each page that is mapped by a leaf, or to no memory.
        """
        geometry, walker = self._context.geometry, self._context.walker
        frames: list[int | None] = []
        while len(frames) < len(numbers):
            position = len(frames)
            run = walker.run_at(geometry.page_number_address(numbers[position]))
            first = geometry.page_number_at(run.start)
            stop = bisect_left(numbers, first + run.pages, position)
            indices = [number - first for number in numbers[position:stop]]
            frames += walker.frames(run, indices) if run.is_last_level else [None] * len(indices)
        return frames

    def _alike(self) -> Iterator[Sequence[int]]:
        """Rows of folios of one class with the same judgement, if it says what they hold."""
        folios = self._folios
        chosen = {n for n, each in enumerate(folios.judgement_table) if _says_what_tails_are(each)}
        groups = defaultdict[tuple[int, int], list[int]](list)
        for rows, key in _stretches(folios.folios.classes, folios.judgements):
            groups[key] += rows
        yield from (rows for (_, judgement), rows in groups.items() if judgement in chosen)

    def _compare(self, batch: _Batch) -> Iterator[Finding]:
        """Compare the frames of a batch with what they must hold."""
        kernel, geometry = self._context.kernel, self._context.geometry
        memory, pieces, missing = self._context.walker.memory, self._pieces(batch), 0
        addresses = [frame << geometry.page_shift for frame in pieces.frames]
        frames = memory.read_together(addresses, geometry.page_size)
        if frames is None:
            each = memory.read_each(addresses, geometry.page_size)
            absent = (frame for frame, content in zip(pieces.frames, each) if content is None)
            missing = sum(frame < kernel.paging.max_pfn for frame in absent)
            pieces = _Pieces(*(list(compress(column, each)) for column in pieces))
            frames = StridedRead.joined([*filter(None, each)], geometry.page_size)
        pfns = self._folios.folios.pfns
        infos = kernel.tail_infos([*map(pfns.__getitem__, pieces.rows)], batch.order)
        tails = self._tails_in(batch)
        for position, wrong in tails.wrong_among(frames, infos, batch.has_head):
            yield self._wrong_tail(batch, pieces, position, wrong)
        if batch.is_reused and missing:
            yield content_rules.reuse_frames_not_compared(missing)
        else:
            self._not_compared += missing

    def _tails_in(self, batch: _Batch) -> Tails:
        """The checks for the frames of a batch, whose folios are all of one node and zone."""
        found, place = self._folios.folios.class_of(batch.rows[0]), None
        # A gigantic folio from boot may be of two zones; its reuse frame is of one.
        is_of_one = batch.is_reused or batch.order <= MAX_PAGE_ORDER
        if is_of_one and found.node is not None and found.zone is not None:
            place = self._context.kernel.page_flags.of_place(found.node, found.zone)
        return self._tails_of(batch.order, batch.is_reused, place)

    def _tails_of(self, order: int, are_shared: bool, place: int | None) -> Tails:
        key = order, are_shared, place
        if key not in self._tails:
            self._tails[key] = Tails(self._context.kernel, order, are_shared, place)
        return self._tails[key]

    def _wrong_tail(
        self, batch: _Batch, pieces: _Pieces, position: int, wrong: WrongTail
    ) -> Finding:
        """
        :param position: Of the frame in the batch.
        """
        folios, context = self._folios, self._context
        row, page, frame = (column[position] for column in pieces)
        pfn = folios.folios.pfns[row]
        address = context.geometry.address(pfn) + page * context.geometry.page_size
        vmemmap_page = VmemmapPage(pfn, page, context.walker.entry(address))
        at = address + wrong.page * context.kernel.page.size
        if not batch.is_reused:
            is_restored = folios.judgement_of(row).verdict is Verdict.UNOPTIMIZED
            return content_rules.kept_tail(vmemmap_page, frame, wrong, at, is_restored)
        if self._may_come_later(wrong, frame):
            is_certain = context.kernel.booting is not None
            return content_rules.not_written_yet(vmemmap_page, frame, is_certain)
        other = None if wrong.is_head else self._belongs_to(batch, pfn, frame, wrong)
        return content_rules.tail_content(vmemmap_page, frame, wrong, at, other)

    def _may_come_later(self, wrong: WrongTail, frame: int) -> bool:
        """Whether the tails in a zone's frame may not be written yet: the kernel may be booting."""
        kernel = self._context.kernel
        if kernel.hvo.layout.reuse_from is not ZONE or wrong.link & TAIL:
            return False
        return not self._has_tails(frame) if kernel.booting is None else kernel.booting

    def _has_tails(self, frame: int) -> bool:
        """Whether a struct page in a frame is a tail, or the frame is not in the dump."""
        content, page = self._content(frame), self._context.kernel.page
        links = None if content is None else content[page.offset("compound_head") :: page.size]
        return links is None or any(byte & TAIL for byte in links)

    def _belongs_to(self, batch: _Batch, pfn: int, frame: int, wrong: WrongTail) -> int | None:
        """PFN of another folio of which a frame holds the tails."""
        context = self._context
        other = context.geometry.pfn_of(wrong.link - 1)
        if context.kernel.tails_hold_mask or other is None or other == pfn:
            return None
        if context.folio_at(other) != other:
            return None
        content = self._content(frame)
        if content is None:
            return None
        wrong_here = self._tails_in(batch).first_wrong(content, wrong.link, batch.has_head)
        return other if wrong_here is None else None

    def _content(self, frame: int) -> bytes | None:
        """The bytes of a frame; ``None`` if they are not in the dump."""
        geometry = self._context.geometry
        address = frame << geometry.page_shift
        (content,) = self._context.walker.memory.read_each([address], geometry.page_size)
        return content


def _stretches(
    classes: array[int], judgements: array[int]
) -> Iterator[tuple[range, tuple[int, int]]]:
    """Rows one after the other whose folios have the same class and the same judgement."""
    for start in range(0, len(classes), _AT_ONCE):
        columns = [column[start : start + _AT_ONCE] for column in (classes, judgements)]
        end = start + len(columns[0])
        # Fast path: mostly, adjacent folios are alike.
        if all(column == column[:1] * len(column) for column in columns):
            yield range(start, end), (columns[0][0], columns[1][0])
            continue
        for key, stretch in groupby(zip(*columns)):
            end = start + len(list(stretch))
            yield range(start, end), key
            start = end


def _in_parts(batch: _Batch) -> Iterator[_Batch]:
    """A batch in parts of at most as many frames as are read together."""
    rows, pages = batch.rows, batch.pages
    at_once = max(1, _BATCH // len(pages))
    for row in range(0, len(rows), at_once):
        for page in range(0, len(pages), _BATCH):
            part = rows[row : row + at_once]
            yield batch._replace(rows=part, pages=pages[page : page + _BATCH])


def _says_what_tails_are(judgement: Judgement) -> bool:
    """Whether it is known from a judgement where the tails of a folio are."""
    return judgement.layout is not Layout.NONE or judgement.verdict is Verdict.UNOPTIMIZED
