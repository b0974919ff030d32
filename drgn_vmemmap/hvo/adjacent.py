# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The fast path: many folios that are plainly right, judged together.

Most folios are mapped exactly as optimized or as unoptimized ones are. Their entries are
compared column by column, without an object for each. Where this gives an answer, it is that
of :func:`drgn_vmemmap.hvo.diagnosis.judge`; for all other folios it gives none.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from operator import eq
from typing import NamedTuple

from drgn_vmemmap.hvo.diagnosis import BOOT_PROTECTED
from drgn_vmemmap.hvo.predicate import admits
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.architecture import X86_64
from drgn_vmemmap.paging.column import READ_WRITE, Column, ColumnReader
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.paging.walker import Walker

NO_FRAME = -1
"""In place of the PFN of a reuse frame."""

_ENTRY_SIZE = X86_64.entry_size

_ALIKE = re.compile(rb"\x00+|\x01+")


class Answer(NamedTuple):
    """The judgement on some of the folios that were asked for."""

    stretches: Sequence[range]
    """Which of them, counted from 0: ascending ranges."""
    judgement: Judgement
    """Without its reuse frame; one object for all folios alike."""
    reuse_frames: array[int]
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

    def in_tables(
        self, runs: Sequence[Run], starts: Sequence[int], pages: int, zone: frozenset[int]
    ) -> Iterator[Answer]:
        """
        Judge folios of one size whose vmemmap adjacent last-level tables map.

        :param runs: The entries of each table; the levels above leave them the same access.
        :param starts: Of each folio, the index of its first entry, ascending.
        :param pages: How many vmemmap pages a folio has.
        :param zone: PFNs that their zone keeps for shared tails of their order.
        """
        entries = _joined([run.entries() for run in runs])
        if starts[-1] - starts[0] == (len(starts) - 1) * pages:
            entries = entries[starts[0] : starts[-1] + pages]
        else:
            entries = _joined([entries[start : start + pages] for start in starts])
        yield from self._judged(entries, [range(len(starts))], pages, runs[0].above, zone)

    def _judged(
        self,
        entries: memoryview[int],
        stretches: Sequence[range],
        pages: int,
        above: int,
        zone: frozenset[int],
    ) -> Iterator[Answer]:
        """
        Judge some folios: all together, if they are alike.

        Otherwise, optimized folios are judged apart from others, and then smaller and smaller
        stretches, so that a few wrong folios do not keep the others from an answer.

        :param entries: Entries of these folios and maybe others, folio by folio.
        :param stretches: Positions of the folios to judge.
        """
        chosen = _joined([entries[each.start * pages : each.stop * pages] for each in stretches])
        columns = [chosen[page::pages] for page in range(pages)]
        found = self._all(columns, above, zone)
        if found is not None:
            yield Answer(stretches, *found)
            return
        for part in self._parts(stretches, columns):
            yield from self._judged(entries, part, pages, above, zone)

    def _parts(
        self, stretches: Sequence[range], columns: Sequence[memoryview[int]]
    ) -> Iterator[list[range]]:
        """
        Parts of some folios in which more of them are alike.

        :param columns: Their entries.
        """
        if len(stretches) > 1:
            yield from ([each] for each in stretches)
            return
        (stretch,) = stretches
        if len(stretch) == 1:
            return
        # The first and the last tail of an optimized folio are the same.
        kinds = bytes(map(eq, columns[self._kept], columns[-1])) if columns[self._kept :] else b""
        found = [range(*match.span()) for match in _ALIKE.finditer(kinds)]
        if len(found) < 2:
            half = len(stretch) // 2
            yield [stretch[:half]]
            yield [stretch[half:]]
            return
        for first in (0, 1):
            yield [stretch[each.start : each.stop] for each in found[first::2]]

    def _all(
        self, columns: Sequence[memoryview[int]], above: int, zone: frozenset[int]
    ) -> tuple[Judgement, array[int]] | None:
        """The judgement on folios and their reuse frames, if all are optimized, or all are not."""
        read, pages = self._columns.read, len(columns)
        one_tail = columns[self._kept] if pages > self._kept else None
        if one_tail is not None and all(tail == one_tail for tail in columns[self._kept + 1 :]):
            own = [read(column, above) for column in columns[: self._kept]]
            tails = read(one_tail, above)
            if admits(self._layout, own, tails, zone, self._limit):
                return self._judgement(pages, Verdict.OPTIMIZED, "pte"), tails.frames
            return None
        own = []
        for column in reversed(columns):
            own.append(read(column, above))
            if own[-1].attributes is None:
                return None  # some are optimized, and others are not
        if admits(Layout.NONE, own, None, zone, self._limit):
            return self._judgement(pages, Verdict.UNOPTIMIZED, "pte"), _no_frames(len(columns[0]))
        return None

    def gigantic(self, runs: Sequence[Run], zone: frozenset[int]) -> Iterator[Answer]:
        """
        Judge one folio whose vmemmap fills last-level tables.

        :param runs: The entries of each of these tables.
        :param zone: PFNs that its zone keeps for shared tails of its order.
        """
        if any(run.above != runs[0].above for run in runs):
            return
        kept, above, entries = self._kept, runs[0].above, runs[0].entries()
        pages = sum(run.pages for run in runs)
        # Kernels that protect a part keep the head's frame alone: see first_unprotected().
        for protected in (pages, BOOT_PROTECTED) if kept == 1 else (pages,):
            if not _repeat([run.raw for run in runs], kept, protected):
                continue
            own = [self._columns.read(entries[index : index + 1], above) for index in range(kept)]
            tails = self._columns.read(entries[kept : kept + 1], above)
            rest = Column(tails.frames, READ_WRITE)
            if (protected == pages or self._columns.read(entries[-1:], above) == rest) and admits(
                self._layout, own, tails, zone, self._limit
            ):
                judgement = self._judgement(pages, Verdict.OPTIMIZED, "pte")
                judgement = judgement._replace(read_only=((kept, protected - 1),))
                yield Answer([range(1)], judgement, tails.frames)
                return
        entries = _joined([run.entries() for run in runs])
        yield from self._judged(entries, [range(1)], pages, above, zone)

    def in_leaves(
        self, runs: Sequence[Run], count: int, pages: int, zone: frozenset[int]
    ) -> Iterator[Answer]:
        """
        Judge folios whose vmemmap large leaves map.

        :param runs: The leaves over all of it, of one level.
        :param count: How many folios.
        :param pages: How many vmemmap pages a folio has.
        :param zone: PFNs that their zone keeps for shared tails of their order.
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
        yield Answer([range(count)], judgement, _no_frames(count))

    def _judgement(self, pages: int, verdict: Verdict, mapped_by: str) -> Judgement:
        key = pages, verdict, mapped_by
        if key not in self._known:
            tails = ((self._kept, pages - 1),) if verdict is Verdict.OPTIMIZED else ()
            layout = self._layout if tails else Layout.NONE
            freed = pages - self._kept if tails else 0
            self._known[key] = Judgement(verdict, layout, mapped_by, None, tails, tails, freed)
        return self._known[key]


def _repeat(tables: Sequence[bytes], kept: int, protected: int) -> bool:
    """
    Whether the entries of a folio's tails are all the same among those that are protected, and
    among the rest.

    :param tables: The entries of its last-level tables.
    :param kept: Index of the first tail.
    :param protected: Index of the first entry of the rest; after the last entry if there is none.
    """
    first, count = tables[0], len(tables[0]) // _ENTRY_SIZE
    own, tail = first[: kept * _ENTRY_SIZE], first[kept * _ENTRY_SIZE : (kept + 1) * _ENTRY_SIZE]
    rest = tail if protected > count else first[-_ENTRY_SIZE:]
    tails = min(protected, count) - kept
    others = rest * count
    return first == own + tail * tails + others[(kept + tails) * _ENTRY_SIZE :] and all(
        table == others for table in tables[1:]
    )


def _no_frames(count: int) -> array[int]:
    return array("q", [NO_FRAME]) * count


def _joined(parts: Sequence[memoryview[int]]) -> memoryview[int]:
    """Entries, some after others."""
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts)).cast("Q")
