# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on content: what is in the frames that stand for the tails of folios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.tails import Tails
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.rules import content as content_rules
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.frames import Owner

# Folios whose reuse frames are read together.
_BATCH = 128


def check_tails(context: VmemmapContext) -> Iterator[Finding]:
    """Compare what is in the reuse frames with what a folio's layout requires."""
    yield from _TailCheck(context).findings()


class _TailCheck:
    """Compares the reuse frames of folios of one class and layout, a batch at a time."""

    def __init__(self, context: VmemmapContext) -> None:
        self._context = context
        self._folios = context.report.folios
        self._tails = Tails(context.kernel)

    def findings(self) -> Iterator[Finding]:
        for rows in self._context.progress.track(list(self._batches()), "tails"):
            yield from self._compare(rows)

    def _batches(self) -> Iterator[Sequence[int]]:
        """Rows of folios of one class and layout, a few at a time."""
        compared: set[int] = set()
        for rows in self._alike(Layout.HEAD_REUSE, Layout.TAIL_REUSE):
            yield from (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
        # A frame that a zone keeps is compared once.
        for rows in self._alike(Layout.SHARED_TAIL):
            first = {self._folios.reuse_frames[row]: row for row in reversed(rows)}
            yield from ([first[frame]] for frame in sorted(first.keys() - compared))
            compared.update(first)

    def _alike(self, *layouts: Layout) -> Iterator[Sequence[int]]:
        """Rows of folios of one class with the same judgement."""
        folios = self._folios
        groups: dict[tuple[int, int], list[int]] = {}
        chosen = {n for n, each in enumerate(folios.judgement_table) if each.layout in layouts}
        for row, key in enumerate(zip(folios.folios.classes, folios.judgements)):
            if key[1] in chosen:
                groups.setdefault(key, []).append(row)
        yield from groups.values()

    def _compare(self, rows: Sequence[int]) -> Iterator[Finding]:
        """Compare the reuse frames of folios of one class and layout."""
        folios, kernel, geometry = self._folios, self._context.kernel, self._context.geometry
        layout = folios.judgement_of(rows[0]).layout
        order = folios.folios.class_of(rows[0]).order
        memory, first = self._context.walker.memory, int(layout is Layout.HEAD_REUSE)
        infos = kernel.tail_infos([folios.folios.pfns[row] for row in rows], order)
        addresses = [folios.reuse_frames[row] << geometry.page_shift for row in rows]
        pieces = memory.read_together(addresses, geometry.page_size)
        if pieces is not None and self._tails.are_all_right(pieces, memoryview(infos), first):
            return
        contents = pieces.each() if pieces else memory.read_each(addresses, geometry.page_size)
        unreadable = 0
        for row, info, content in zip(rows, infos, contents):
            if content is None:
                unreadable += folios.reuse_frames[row] < kernel.paging.max_pfn
            elif not self._tails.are_right(content, info, first):
                yield self._wrong_tail(layout, row, content, info)
        if unreadable:
            yield frame_rules.unreadable_frames(unreadable)

    def _wrong_tail(self, layout: Layout, row: int, content: bytes, info: int) -> Finding:
        folios, context = self._folios, self._context
        pfn, frame = folios.folios.pfns[row], folios.reuse_frames[row]
        first = int(layout is Layout.HEAD_REUSE)
        page, found = self._tails.first_wrong(content, info, first)
        belongs_to = None
        if not context.kernel.tails_hold_mask and self._tails.are_right(content, found, first):
            other = context.geometry.pfn_of(found - 1)
            if other is not None and context.folio_at(other) == other:
                belongs_to = other
        index = 1 - first
        address = context.geometry.address(pfn) + index * context.geometry.page_size
        owner = Owner(pfn, index, context.walker.entry(address))
        wrong = address + page * context.kernel.page.size
        return content_rules.tail_content(owner, frame, page, wrong, belongs_to)
