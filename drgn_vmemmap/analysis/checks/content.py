# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on content: what the struct pages of folios hold, where HVO touched their vmemmap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.tails import Tails, WrongTail
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import ZONE, Layout
from drgn_vmemmap.rules import content as content_rules
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.frames import Owner

# Frames that are read together.
_BATCH = 128


class _Piece(NamedTuple):
    """A frame of a folio's vmemmap whose struct pages are compared."""

    row: int
    """Of the folio."""
    page: int
    """Index of the vmemmap page in the folio."""
    frame: int


class _Group(NamedTuple):
    """What such frames of folios of one order, at the same place, have in common."""

    order: int
    has_head: bool
    """They begin with the head page."""
    is_reused: bool
    """They are the folios' reuse frames."""


def check_tails(context: VmemmapContext) -> Iterator[Finding]:
    """Compare the struct pages of folios with what a folio requires."""
    kernel = context.kernel
    # HVO needs struct pages that do not cross page boundaries.
    if not kernel.page.size & (kernel.page.size - 1):
        yield from _TailCheck(context).findings()


class _TailCheck:
    """Compares frames of the folios' vmemmap, a batch at a time."""

    def __init__(self, context: VmemmapContext) -> None:
        self._context = context
        self._folios = context.report.folios
        self._tails: dict[int, Tails] = {}
        self._run_start = -1
        self._run_frames: Sequence[int | None] = ()
        self._not_recorded = 0

    def findings(self) -> Iterator[Finding]:
        batches = (
            (group, pieces[start : start + _BATCH])
            for group, pieces in self._groups()
            for start in range(0, len(pieces), _BATCH)
        )
        for group, pieces in self._context.progress.track(list(batches), "tails"):
            yield from self._compare(group, pieces)
        if self._not_recorded:
            yield content_rules.not_recorded(self._not_recorded)

    def _groups(self) -> Iterator[tuple[_Group, list[_Piece]]]:
        """All frames to compare, those with something in common together."""
        folios, compared = self._folios, set[int]()
        for rows in self._alike():
            judgement = folios.judgement_of(rows[0])
            order = folios.folios.class_of(rows[0]).order
            if judgement.verdict is Verdict.UNOPTIMIZED:
                # Where HVO did not touch the vmemmap, large leaves map it.
                if judgement.mapped_by == "pte":
                    yield from self._restored(rows, order)
                continue
            layout = judgement.layout
            if judgement.verdict is Verdict.OPTIMIZED:
                for index in sorted({*range(layout.kept)} - {layout.reuse_from}):
                    yield _Group(order, index == 0, False), self._pieces(rows, index)
            reused = [_Piece(row, layout.reused_index, folios.reuse_frames[row]) for row in rows]
            if layout.reuse_from is ZONE:
                # A frame that a zone keeps is compared once.
                first = {piece.frame: piece for piece in reversed(reused)}
                reused = [first[frame] for frame in sorted(first.keys() - compared)]
                compared.update(first)
            yield _Group(order, layout.reused_index == 0, True), reused

    def _restored(self, rows: Sequence[int], order: int) -> Iterator[tuple[_Group, list[_Piece]]]:
        """All frames of folios that are not optimized, and whose vmemmap is split."""
        yield _Group(order, True, False), self._pieces(rows, 0)
        pages = self._context.geometry.pages_of_order(order)
        rest = [piece for index in range(1, pages) for piece in self._pieces(rows, index)]
        yield _Group(order, False, False), rest

    def _pieces(self, rows: Sequence[int], index: int) -> list[_Piece]:
        """The frames that back the same vmemmap page of each of some folios."""
        frames = ((row, self._frame(self._folios.folios.pfns[row], index)) for row in rows)
        return [_Piece(row, index, frame) for row, frame in frames if frame is not None]

    def _frame(self, pfn: int, index: int) -> int | None:
        """The frame that backs a vmemmap page of a folio."""
        geometry, span = self._context.geometry, self._context.kernel.architecture.table_span
        address = geometry.address(pfn) + index * geometry.page_size
        start = address // span * span
        if start != self._run_start:
            run = self._context.walker.region(address)
            self._run_start = start
            self._run_frames = self._context.walker.frames(run) if run.is_last_level else ()
        number = (address - start) >> geometry.page_shift
        return self._run_frames[number] if number < len(self._run_frames) else None

    def _alike(self) -> Iterator[Sequence[int]]:
        """Rows of folios of one class with the same judgement, if it says what they hold."""
        folios = self._folios
        groups: dict[tuple[int, int], list[int]] = {}
        chosen = {n for n, each in enumerate(folios.judgement_table) if _says_what_tails_are(each)}
        for row, key in enumerate(zip(folios.folios.classes, folios.judgements)):
            if key[1] in chosen:
                groups.setdefault(key, []).append(row)
        yield from groups.values()

    def _compare(self, group: _Group, pieces: Sequence[_Piece]) -> Iterator[Finding]:
        """Compare some frames with what they must hold."""
        kernel, geometry = self._context.kernel, self._context.geometry
        tails = self._tails.setdefault(group.order, Tails(kernel, group.order))
        memory = self._context.walker.memory
        pfns = self._folios.folios.pfns
        infos = kernel.tail_infos([pfns[piece.row] for piece in pieces], group.order)
        addresses = [piece.frame << geometry.page_shift for piece in pieces]
        together = memory.read_together(addresses, geometry.page_size)
        contents = together.each() if together else memory.read_each(addresses, geometry.page_size)
        unreadable = 0
        for piece, info, content in zip(pieces, infos, contents):
            if content is None:
                unreadable += piece.frame < kernel.paging.max_pfn
            elif not tails.is_right(content, info, group.has_head):
                wrong = tails.first_wrong(content, info, group.has_head)
                if wrong is not None:
                    yield self._wrong_tail(group, piece, content, wrong)
        if unreadable and group.is_reused:
            yield frame_rules.unreadable_frames(unreadable)
        elif unreadable:
            self._not_recorded += unreadable

    def _wrong_tail(
        self, group: _Group, piece: _Piece, content: bytes, wrong: WrongTail
    ) -> Finding:
        folios, context = self._folios, self._context
        pfn = folios.folios.pfns[piece.row]
        address = context.geometry.address(pfn) + piece.page * context.geometry.page_size
        owner = Owner(pfn, piece.page, context.walker.entry(address))
        at = address + wrong.page * context.kernel.page.size
        if not group.is_reused:
            is_restored = folios.judgement_of(piece.row).verdict is Verdict.UNOPTIMIZED
            return content_rules.kept_tail(owner, piece.frame, wrong, at, is_restored)
        belongs_to = None
        tails = self._tails[group.order]
        if not context.kernel.tails_hold_mask and not wrong.is_head:
            other = context.geometry.pfn_of(wrong.link - 1)
            if (
                other is not None
                and context.folio_at(other) == other != pfn
                and tails.is_right(content, wrong.link, group.has_head)
            ):
                belongs_to = other
        return content_rules.tail_content(owner, piece.frame, wrong, at, belongs_to)


def _says_what_tails_are(judgement: Judgement) -> bool:
    """Whether it is known from a judgement where the tails of a folio are."""
    return judgement.layout is not Layout.NONE or judgement.verdict is Verdict.UNOPTIMIZED
