# SPDX-License-Identifier: LGPL-2.1-or-later

"""Judges folios, a table of entries at a time, and checks the rules on single folios."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.hugetlb.accounting import Accounting, Accounts
from drgn_vmemmap.hugetlb.folio import STATES
from drgn_vmemmap.hugetlb.tail_frames import TailFrames
from drgn_vmemmap.hvo.adjacent import Answer, FastPath
from drgn_vmemmap.hvo.diagnosis import judge
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Judgement
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.progress import Progress
from drgn_vmemmap.rules.context import FolioContext, read_entries
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.folio import check_concerned, check_folio, concerns_any
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# Folios that are judged between two checks whether the user has interrupted.
_BATCH = 4096


class _Size(NamedTuple):
    """What the judgement on a folio depends on besides its entries."""

    pages: int
    """How many vmemmap pages it has."""
    tail_frames: frozenset[int] | None
    """PFNs that its zone keeps for tails of its order; ``None`` if that is not in the dump."""


class Judging:
    """Judges folios, a table of entries at a time, and checks the rules on single folios."""

    def __init__(
        self,
        snapshot: Snapshot,
        tail_frames: TailFrames,
        reports: FolioReports,
        accounts: Accounts,
    ) -> None:
        self.reports = reports
        self.findings: list[Finding] = []
        self.page_tables: set[int] = set()
        """Physical addresses of the last-level tables over the folios' vmemmap."""
        self._accounts = accounts
        self._snapshot = snapshot
        self._walker = snapshot.walker
        self._geometry = snapshot.geometry
        self._span = snapshot.kernel.architecture.table_span
        self._tail_frames = tail_frames
        self._fast = FastPath(snapshot.walker, snapshot.kernel.hvo.layout)
        self._sizes: dict[int, _Size] = {}
        self._concerned: dict[tuple[int, int, Judgement], bool] = {}

    def judge_all(self, progress: Progress) -> None:
        """Judge all folios, or those that come before the user interrupts."""
        count, row = len(self.reports), 0
        for start in progress.track(range(0, count, _BATCH), "page tables"):
            while row < min(start + _BATCH, count):
                row = self._judge_from(row)
        if progress.interrupted:
            self.reports.cut(row)

    def _judge_from(self, row: int) -> int:
        """
        Judge the folio of a row, and those whose entries the same table has.

        :return: Row of the first folio that was not judged.
        """
        folios, geometry = self.reports.folios, self._geometry
        run = self._walker.region(geometry.address(folios.pfns[row]))
        last_pfn, _ = geometry.pfn_at(run.start + self._span - 1)
        stop = bisect_left(folios.pfns, last_pfn + 1, row)
        judged: set[int] = set()
        concerned: set[int] = set()
        for size, rows in self._by_size(row, stop):
            for answer in self._fast_answers(run, size, rows):
                answered = self._record(rows, answer)
                judged.update(answered)
                if self._concerns_a_rule(answered, answer.judgement):
                    concerned.update(answered)
        if concerned or len(judged) < stop - row:
            for each in range(row, stop):
                if each not in judged:
                    self._diagnose(each)
                elif each in concerned:
                    self._check_concerned(each)
        return stop

    def _by_size(self, start: int, stop: int) -> Iterator[tuple[_Size, Sequence[int]]]:
        """Rows of folios, those of one size together."""
        numbers = self.reports.folios.classes[start:stop]
        sizes = {number: self._size(number) for number in set(numbers)}
        distinct = set(sizes.values())
        for size in distinct:
            if len(distinct) == 1:
                yield size, range(start, stop)
            else:
                yield size, [start + i for i, n in enumerate(numbers) if sizes[n] == size]

    def _size(self, class_number: int) -> _Size:
        if class_number not in self._sizes:
            folio_class = self.reports.folios.class_table[class_number]
            pages = self._geometry.pages_of_order(folio_class.order)
            self._sizes[class_number] = _Size(pages, self._tail_frames.acceptable(folio_class))
        return self._sizes[class_number]

    def _fast_answers(self, run: Run, size: _Size, rows: Sequence[int]) -> Iterable[Answer]:
        """
        The judgements on folios of one size that are mapped as a layout requires.

        :param run: What maps the beginning of their vmemmap.
        """
        if size.tail_frames is None or not run.raw:
            return ()
        pfns, geometry = self.reports.folios.pfns, self._geometry
        per_table = self._span >> geometry.page_shift
        if size.pages > per_table:
            return (
                self._in_several(run, size) if geometry.address(pfns[rows[0]]) == run.start else ()
            )
        starts = self._starts(run, size, rows)
        if starts[-1] + size.pages > per_table:
            return ()
        if run.is_last_level:
            self._add_page_tables((run,))
            return self._fast.in_table(run, starts, size.pages, size.tail_frames)
        return self._fast.in_leaves((run,), range(len(rows)), size.pages, size.tail_frames)

    def _starts(self, run: Run, size: _Size, rows: Sequence[int]) -> Sequence[int]:
        """Of each folio, the index of its first vmemmap page in a run."""
        pfns, geometry = self.reports.folios.pfns, self._geometry
        before = geometry.page_number_at(run.start)
        first = geometry.page_number(pfns[rows[0]]) - before
        last = geometry.page_number(pfns[rows[-1]]) - before
        if isinstance(rows, range) and last - first == (len(rows) - 1) * size.pages:
            return range(first, last + 1, size.pages)
        struct_size, shift = geometry.struct_size, geometry.page_shift
        return [(pfns[row] * struct_size >> shift) - before for row in rows]

    def _in_several(self, run: Run, size: _Size) -> Iterable[Answer]:
        """Judge one folio whose vmemmap several tables or leaves map."""
        assert size.tail_frames is not None
        end = run.start + (size.pages << self._geometry.page_shift)
        runs = [self._walker.region(start) for start in range(run.start, end, self._span)]
        if any(not each.raw or each.level is not run.level for each in runs):
            return ()
        if not run.is_last_level:
            return self._fast.in_leaves(runs, (0,), size.pages, size.tail_frames)
        self._add_page_tables(runs)
        return self._fast.in_tables(runs, size.tail_frames)

    def _add_page_tables(self, runs: Sequence[Run]) -> None:
        for run in runs:
            if run.is_last_level and run.raw:
                self.page_tables.add(run.raw_address & -self._geometry.page_size)

    def _record(self, rows: Sequence[int], answer: Answer) -> Sequence[int]:
        """
        Record an answer.

        :return: Rows of the folios that it is on.
        """
        positions = answer.positions
        if isinstance(rows, range):
            self.reports.set_all(rows.start, answer)
            if isinstance(positions, range):
                return rows[positions.start : positions.stop]
            return [rows[position] for position in positions]
        judged = [rows[position] for position in positions]
        self.reports.set_all(0, answer._replace(positions=judged))
        return judged

    def _concerns_a_rule(self, rows: Sequence[int], judgement: Judgement) -> bool:
        """Whether a rule may fire for folios that are mapped as a layout requires."""
        folios = self.reports.folios
        if isinstance(rows, range):
            classes = set(folios.classes[rows.start : rows.stop])
            states = set(folios.states[rows.start : rows.stop])
        else:
            classes = {folios.classes[row] for row in rows}
            states = {folios.states[row] for row in rows}
        return any(
            self._concerns((number, state, judgement)) for number in classes for state in states
        )

    def _concerns(self, triple: tuple[int, int, Judgement]) -> bool:
        """Whether a rule may fire for folios of a class and a state with a judgement."""
        if triple not in self._concerned:
            number, state, judgement = triple
            folio_class = self.reports.folios.class_table[number]
            self._concerned[triple] = concerns_any(folio_class, STATES[state], judgement)
        return self._concerned[triple]

    def _check_concerned(self, row: int) -> None:
        folio, judgement = self.reports[row]
        tail_frames = self._size(self.reports.folios.classes[row]).tail_frames
        accounting = self._accounts.of(folio)
        context = FolioContext(self._snapshot, folio, judgement, tail_frames, accounting=accounting)
        self.findings.extend(check_concerned(context))

    def _diagnose(self, row: int) -> None:
        """Judge a folio entry by entry, and check all rules on it."""
        snapshot, folio = self._snapshot, self.reports.folios[row]
        tail_frames = self._size(self.reports.folios.classes[row]).tail_frames
        entries = read_entries(snapshot, folio)
        self.page_tables.update(
            entry.raw_address & -self._geometry.page_size
            for entry in entries
            if entry.is_last_level and entry.raw is not None
        )
        hvo, accounting = snapshot.kernel.hvo, self._accounts.of(folio)
        may_be_partial = accounting is not Accounting.COUNTED or (
            hvo.may_stay_partial and folio.flag_optimized is True
        )
        judgement = judge(entries, hvo.layout, tail_frames, may_be_partial)
        self.reports.set(row, judgement)
        context = FolioContext(snapshot, folio, judgement, tail_frames, entries, accounting)
        self.findings.extend(check_folio(context))
