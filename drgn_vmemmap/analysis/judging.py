# SPDX-License-Identifier: LGPL-2.1-or-later

"""Judges folios, a table of entries at a time, and checks the rules on single folios."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.hugetlb.accounting import Accounting, Accounts
from drgn_vmemmap.hugetlb.folio import STATES
from drgn_vmemmap.hugetlb.tail_frames import TailFrames
from drgn_vmemmap.hvo.adjacent import Answer, FastPath
from drgn_vmemmap.hvo.diagnosis import judge
from drgn_vmemmap.hvo.folios import NOT_JUDGED, FolioReports
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.progress import Progress
from drgn_vmemmap.rules.context import FolioContext, read_entries
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.folio import check_concerned, check_folio, concerns_any
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# Folios that are judged between two checks whether the user has interrupted.
_BATCH = 4096

# Page tables whose entries are compared together.
_TABLES = 16

# Folios of several groups are counted one by one if they are so few, otherwise by halves.
_FEW = 64


Group = tuple[int, int, int]
"""Folios that are alike, by the indices of their class, their state and their judgement."""


class _Basis(NamedTuple):
    """All of a folio that the judgement depends on besides its entries."""

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
        self.groups: Counter[Group] = Counter()
        """How many folios there are in each group."""
        self._accounts = accounts
        self._snapshot = snapshot
        self._walker = snapshot.walker
        self._geometry = snapshot.geometry
        self._span = snapshot.kernel.architecture.table_span
        self._tail_frames = tail_frames
        layout = snapshot.kernel.hvo.layout
        # Where the layout is not known, folios that share frames are judged one by one.
        self._fast = FastPath(snapshot.walker, Layout.NONE if layout is Layout.UNKNOWN else layout)
        self._bases: dict[int, _Basis] = {}
        """By the index of the folios' class."""
        self._concerned: dict[Group, bool] = {}

    def judge_all(self, progress: Progress) -> None:
        """Judge all folios, or those that come before the user interrupts."""
        count, row = len(self.reports), 0
        for start in progress.track(range(0, count, _BATCH), "page tables"):
            first = row
            while row < min(start + _BATCH, count):
                row = self._judge_from(row)
            # The tables of one batch may lead past all folios of the next.
            if first < row:
                self._check(first, row)
        if progress.interrupted:
            self.reports.cut(row)

    def _judge_from(self, row: int) -> int:
        """
        Judge the folio of a row, and those whose entries are in the same tables, where the entries
        are plainly what a layout requires.

        :return: Row of the first folio after them.
        """
        runs, stop = self._adjacent_runs(row)
        for basis, rows in self._by_basis(row, stop):
            for answer in self._fast_answers(runs, basis, rows):
                self.reports.set_all(rows, answer)
        return stop

    def _adjacent_runs(self, row: int) -> tuple[list[Run], int]:
        """
        The leaf or page table over the beginning of a folio's vmemmap, and page tables after it.

        :return: One leaf or some tables that are alike, and the row of the first folio after it.
        """
        pfns, runs = self.reports.folios.pfns, list[Run]()
        while row < len(pfns) and len(runs) < _TABLES:
            run = self._walker.run_at(self._geometry.address(pfns[row]))
            if runs and not _follows(run, runs[-1]):
                break
            runs.append(run)
            last_pfn, _ = self._geometry.pfn_at(run.start + self._span - 1)
            row = bisect_left(pfns, last_pfn + 1, row)
            if not run.raw or not run.is_last_level:
                break
        return runs, row

    def _check(self, start: int, stop: int) -> None:
        """Diagnose the folios without a judgement, and check those that a rule may concern."""
        folios, judgements = self.reports.folios, self.reports.judgements
        groups = self._groups(start, stop)
        chosen = {group for group in groups if self._concerns_a_rule(group)}
        for row in range(start, stop) if chosen else ():
            class_number, state = folios.classes[row], folios.states[row]
            if judgements[row] == NOT_JUDGED:
                self._diagnose(row)
                self.groups[class_number, state, judgements[row]] += 1
            elif (class_number, state, judgements[row]) in chosen:
                self._check_concerned(row)
        for group, count in groups.items():
            *_, judgement = group
            if judgement != NOT_JUDGED:
                self.groups[group] += count

    def _groups(self, start: int, stop: int) -> Counter[Group]:
        """How many of some folios there are in each group."""
        folios = self.reports.folios
        classes, states = folios.classes[start:stop], folios.states[start:stop]
        judgements = self.reports.judgements[start:stop]
        # Fast path: mostly, only the states of folios side by side differ.
        if classes[1:] == classes[:-1] and judgements[1:] == judgements[:-1]:
            first = classes[0], judgements[0]
            return Counter({(first[0], each, first[1]): states.count(each) for each in set(states)})
        if stop - start <= _FEW:
            return Counter(zip(classes, states, judgements))
        middle = (start + stop) // 2
        return self._groups(start, middle) + self._groups(middle, stop)

    def _by_basis(self, start: int, stop: int) -> Iterator[tuple[_Basis, Sequence[int]]]:
        """Rows of folios, those of one basis together."""
        numbers = self.reports.folios.classes[start:stop]
        bases = {number: self._basis(number) for number in set(numbers)}
        distinct = set(bases.values()) if len(bases) > 1 else bases.values()
        if len(distinct) == 1:
            yield from ((basis, range(start, stop)) for basis in distinct)
            return
        for basis in distinct:
            yield basis, [start + i for i, n in enumerate(numbers) if bases[n] == basis]

    def _basis(self, class_number: int) -> _Basis:
        if class_number not in self._bases:
            folio_class = self.reports.folios.class_table[class_number]
            pages = self._geometry.pages_of_order(folio_class.order)
            self._bases[class_number] = _Basis(pages, self._tail_frames.acceptable(folio_class))
        return self._bases[class_number]

    def _fast_answers(
        self, runs: Sequence[Run], basis: _Basis, rows: Sequence[int]
    ) -> Iterable[Answer]:
        """
        The judgements on folios of one basis that are mapped as a layout requires.

        :param runs: What maps the beginning of their vmemmap.
        """
        if basis.tail_frames is None or not runs[0].raw:
            return ()
        if basis.pages > self._span >> self._geometry.page_shift:
            return self._in_several(rows[0], basis)
        starts = self._starts(runs[0], basis, rows)
        if starts[-1] + basis.pages > sum(run.pages for run in runs):
            return ()
        if runs[0].is_last_level:
            self.page_tables.update(run.raw_address for run in runs)
            return self._fast.in_tables(runs, starts, basis.pages, basis.tail_frames)
        return self._fast.in_leaves(runs, len(rows), basis.pages, basis.tail_frames)

    def _starts(self, run: Run, basis: _Basis, rows: Sequence[int]) -> Sequence[int]:
        """Index of each folio's first vmemmap page in a run and those after it."""
        pfns, geometry = self.reports.folios.pfns, self._geometry
        before = geometry.page_number_at(run.start)
        first = geometry.page_number(pfns[rows[0]]) - before
        last = geometry.page_number(pfns[rows[-1]]) - before
        if isinstance(rows, range) and last - first == (len(rows) - 1) * basis.pages:
            return range(first, last + 1, basis.pages)
        struct_size, shift = geometry.struct_size, geometry.page_shift
        return [(pfns[row] * struct_size >> shift) - before for row in rows]

    def _in_several(self, row: int, basis: _Basis) -> Iterable[Answer]:
        """Judge one folio whose vmemmap several tables or leaves map."""
        assert basis.tail_frames is not None
        start = self._geometry.address(self.reports.folios.pfns[row])
        end = start + (basis.pages << self._geometry.page_shift)
        runs = [self._walker.run_at(address) for address in range(start, end, self._span)]
        if runs[0].start != start or any(
            not each.raw or each.level is not runs[0].level for each in runs
        ):
            return ()
        if not runs[0].is_last_level:
            return self._fast.in_leaves(runs, 1, basis.pages, basis.tail_frames)
        self.page_tables.update(run.raw_address for run in runs)
        return self._fast.gigantic(runs, basis.tail_frames)

    def _concerns_a_rule(self, group: Group) -> bool:
        """Whether the folios of a group are diagnosed, or checked, one by one."""
        class_number, state, judgement = group
        if judgement == NOT_JUDGED:
            return True
        if group not in self._concerned:
            self._concerned[group] = concerns_any(
                self.reports.folios.class_table[class_number],
                STATES[state],
                self.reports.judgement_table[judgement],
            )
        return self._concerned[group]

    def _check_concerned(self, row: int) -> None:
        folio, judgement = self.reports[row]
        tail_frames = self._basis(self.reports.folios.classes[row]).tail_frames
        accounting = self._accounts.of(folio)
        context = FolioContext(self._snapshot, folio, judgement, tail_frames, accounting=accounting)
        self.findings.extend(check_concerned(context))

    def _diagnose(self, row: int) -> None:
        """Judge a folio entry by entry, and check all rules on it."""
        snapshot, folio = self._snapshot, self.reports.folios[row]
        tail_frames = self._basis(self.reports.folios.classes[row]).tail_frames
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
        is_made_at_boot = snapshot.kernel.sections.may_be_optimized_at_boot
        judgement = judge(entries, hvo.layout, tail_frames, may_be_partial, is_made_at_boot)
        self.reports.set(row, judgement)
        context = FolioContext(snapshot, folio, judgement, tail_frames, entries, accounting)
        self.findings.extend(check_folio(context))


def _follows(run: Run, table: Run) -> bool:
    """Whether a run is the next page table, and the levels above leave both the same access."""
    return (
        bool(run.raw) and run.is_last_level and run.start == table.end and run.above == table.above
    )
