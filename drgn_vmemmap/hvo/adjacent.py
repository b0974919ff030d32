# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The fast path: many folios that are plainly right, judged together.

Most folios are mapped exactly as optimized or as unoptimized ones are. Their entries are
compared column by column, without an object for each. Where this gives an answer, it is that
of :func:`drgn_vmemmap.hvo.diagnosis.judge`; for all other folios it gives none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple, Union

from drgn_vmemmap.hvo.predicate import admits
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.column import READ_WRITE, Column, ColumnReader
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.paging.walker import Walker

RawColumn = Union["memoryview[int]", Sequence[int]]

NO_FRAME = -1
"""In place of the PFN of a reuse frame."""


class Answer(NamedTuple):
    """The judgement on some of the folios that were asked for."""

    positions: Sequence[int]
    """Which of them, counted from 0."""
    judgement: Judgement
    """Without its reuse frame; one object for all folios alike."""
    reuse_frames: list[int]
    """PFN of the reuse frame of each; :data:`NO_FRAME` if there is none."""


class FastPath:
    """Judges the folios of one kernel that are mapped as a layout requires."""

    def __init__(self, walker: Walker, layout: Layout) -> None:
        """
        :param layout: What this kernel makes of an optimized folio.
        """
        self._layout = layout
        self._kept = layout.kept
        self._walker = walker
        self._columns = ColumnReader(walker.paging)
        self._limit = walker.paging.max_pfn
        self._known: dict[tuple[int, Verdict, str], Judgement] = {}

    def in_table(
        self, run: Run, starts: Sequence[int], pages: int, zone: frozenset[int]
    ) -> Iterator[Answer]:
        """
        Judge folios of one size whose vmemmap one last-level table maps.

        :param run: The table's entries.
        :param starts: Of each folio, the index of its first entry, ascending.
        :param pages: How many vmemmap pages a folio has.
        :param zone: PFNs that their zone keeps for shared tails of their order.
        """
        columns = _columns(run.entries(), starts, pages)
        positions: Sequence[int] = range(len(starts))
        answer = self._all(positions, columns, run.above, zone)
        if answer is not None:
            yield answer
            return
        if pages <= self._kept:
            return
        # In a table with optimized and other folios, the tails tell them apart.
        alike = [len({*tails}) == 1 for tails in zip(*columns[self._kept :])]
        for kind in (True, False):
            group = [position for position in positions if alike[position] is kind]
            if group and len(group) < len(starts):
                chosen = [[column[position] for position in group] for column in columns]
                answer = self._all(group, chosen, run.above, zone)
                if answer is not None:
                    yield answer

    def _all(
        self,
        positions: Sequence[int],
        columns: Sequence[RawColumn],
        above: int,
        zone: frozenset[int],
    ) -> Answer | None:
        """The judgement on folios, if all are optimized, or all are not."""
        read, pages = self._columns.read, len(columns)
        one_tail = columns[self._kept] if pages > self._kept else None
        if one_tail is not None and all(tail == one_tail for tail in columns[self._kept + 1 :]):
            own = [read(column, above) for column in columns[: self._kept]]
            tails = read(one_tail, above)
            if admits(self._layout, own, tails, zone, self._limit):
                judgement = self._judgement(pages, Verdict.OPTIMIZED, "pte")
                return Answer(positions, judgement, tails.frames)
            return None
        own = [read(column, above) for column in columns]
        if admits(Layout.NONE, own, None, zone, self._limit):
            judgement = self._judgement(pages, Verdict.UNOPTIMIZED, "pte")
            return Answer(positions, judgement, [NO_FRAME] * len(positions))
        return None

    def in_tables(self, runs: Sequence[Run], zone: frozenset[int]) -> Iterator[Answer]:
        """
        Judge one folio whose vmemmap whole last-level tables map.

        :param runs: The entries of each of these tables.
        :param zone: PFNs that its zone keeps for shared tails of its order.
        """
        if any(run.above != runs[0].above for run in runs):
            return
        entries = memoryview(b"".join(run.raw for run in runs)).cast("Q")
        kept, above = self._kept, runs[0].above
        own = [self._columns.read(entries[index : index + 1], above) for index in range(kept)]
        # As boot_protected() recognises: of 4096 pages, the first 64 are protected.
        for protected in (len(entries), len(entries) >> 6):
            tails = self._uniform(entries[kept:protected], above)
            rest = self._uniform(entries[protected:], above)
            if (
                tails is not None
                and rest is not None
                and (not rest.frames or rest == Column(tails.frames, {READ_WRITE}))
                and admits(self._layout, own, tails, zone, self._limit)
            ):
                judgement = self._judgement(len(entries), Verdict.OPTIMIZED, "pte")
                judgement = judgement._replace(read_only=((kept, protected - 1),))
                yield Answer((0,), judgement, tails.frames)
                return
        columns = [entries[index : index + 1] for index in range(len(entries))]
        answer = self._all((0,), columns, above, zone)
        if answer is not None:
            yield answer

    def _uniform(self, entries: memoryview[int], above: int) -> Column | None:
        """The column of the first of some entries, if they are all the same."""
        if entries[1:] != entries[:-1]:
            return None
        return self._columns.read(entries[:1], above)

    def in_leaves(
        self, runs: Sequence[Run], positions: Sequence[int], pages: int, zone: frozenset[int]
    ) -> Iterator[Answer]:
        """
        Judge folios whose vmemmap large leaves map.

        :param runs: The leaves over all of it, of one level.
        :param positions: Which of the folios that were asked for.
        :param pages: How many vmemmap pages a folio has.
        """
        places = set()
        for run in runs:
            frames = self._walker.writable_leaf(run)
            if frames is None or any(frame in frames for frame in zone):
                return
            places.add((frames.start, run.start % run.level.entry_span))
        if len(places) < len(runs):
            return
        judgement = self._judgement(pages, Verdict.UNOPTIMIZED, runs[0].level.name.lower())
        yield Answer(positions, judgement, [NO_FRAME] * len(positions))

    def _judgement(self, pages: int, verdict: Verdict, mapped_by: str) -> Judgement:
        key = pages, verdict, mapped_by
        if key not in self._known:
            tails = ((self._kept, pages - 1),) if verdict is Verdict.OPTIMIZED else ()
            layout = self._layout if tails else Layout.NONE
            freed = pages - self._kept if tails else 0
            self._known[key] = Judgement(verdict, layout, mapped_by, None, tails, tails, freed)
        return self._known[key]


def _columns(entries: memoryview[int], starts: Sequence[int], pages: int) -> list[RawColumn]:
    """
    The same vmemmap page of each folio, for all pages of a folio.

    :param starts: Of each folio, the index of its first entry, ascending.
    """
    first, last = starts[0], starts[-1]
    if last - first == (len(starts) - 1) * pages:
        return [entries[first + page : last + page + 1 : pages] for page in range(pages)]
    values = entries.tolist()
    if len(starts) == 1:
        return [[value] for value in values[first : first + pages]]
    return [itemgetter(*(start + page for start in starts))(values) for page in range(pages)]
