# SPDX-License-Identifier: LGPL-2.1-or-later

"""The analysis: from the hstates to the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from drgn_vmemmap.analysis.judging import Judging
from drgn_vmemmap.analysis.page_tables import never_split, split_at_boot
from drgn_vmemmap.analysis.report import EVERYTHING, Counts, HstateReport, Report, Selection, Totals
from drgn_vmemmap.errors import MissingFacts, MissingMemory
from drgn_vmemmap.hugetlb.accounting import Accounts
from drgn_vmemmap.hugetlb.folio import STATES, FolioClass, Folios, State
from drgn_vmemmap.hugetlb.head import count_with_reservation
from drgn_vmemmap.hugetlb.hstate import BrokenHstate, Hstate, may_change, read_hstates
from drgn_vmemmap.hugetlb.search import SearchResult, find_folios
from drgn_vmemmap.hugetlb.tail_frames import TailFrames
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.rules import counters, lists
from drgn_vmemmap.rules.confirmed import counting
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.unchecked import with_meaning
from drgn_vmemmap.vmemmap.frames import MAX_PAGE_ORDER
from drgn_vmemmap.vmemmap.sections import MissingSections, SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from drgn_vmemmap.vmemmap.special import (
    BOOT,
    DEVICE,
    SELF_HOSTED,
    SpecialVmemmap,
    UnknownMemory,
    find_special,
)


def analyse(
    snapshot: Snapshot,
    selection: Selection = EVERYTHING,
    progress: Progress = SILENT,
    compare_tails: bool = False,
) -> Report:
    """
    Analyse a kernel whose facts are known.

    :param snapshot: Fresh for this analysis.
    :param selection: What to narrow the report to.
    :param progress: May end the analysis early.
    :param compare_tails: As for :class:`drgn_vmemmap.hugetlb.scan.MemmapScan`.
    :raises MissingFacts: if the hstates are not in the dump.
    """
    try:
        found = list(read_hstates(snapshot))
    except MissingMemory as error:
        raise MissingFacts(f"hstates: {error}") from error
    hstates = [hstate for hstate in found if isinstance(hstate, Hstate)]
    report = _Analysis(snapshot, hstates, selection, progress).report(compare_tails)
    broken = [hstate for hstate in found if isinstance(hstate, BrokenHstate)]
    report.findings[:0] = map(lists.broken_hstate, broken)
    meant = with_meaning(snapshot.kernel, report.findings)
    report.findings[:] = counting(snapshot.kernel, meant)
    return report


class _Analysis:
    """Carries one analysis from the lists to the report."""

    def __init__(
        self,
        snapshot: Snapshot,
        hstates: list[Hstate],
        selection: Selection,
        progress: Progress,
    ) -> None:
        self._snapshot = snapshot
        self._hstates = hstates
        self._selection = selection
        self._progress = progress
        self._tail_frames = TailFrames(snapshot)

    def report(self, compare_tails: bool) -> Report:
        snapshot = self._snapshot
        found = find_folios(snapshot, self._hstates, self._progress, compare_tails)
        counts = _by_class_and_state(found.folios)
        accounts = Accounts(self._hstates, counts, found.complete)
        with_reservation = self._with_reservation(found)
        judging = self._judge_selected(found.folios, accounts)
        special, unknown = self._special(found.sections, judging.reports)
        hstates, totals = self._added_up(judging, special)
        if snapshot.kernel.hvo.built_in:
            totals.page_tables = len(self._tables_by_hvo(found.sections, judging))
        return Report(
            kernel=snapshot.kernel,
            hstates=hstates,
            totals=totals,
            folios=judging.reports,
            special=special,
            findings=[
                *map(lists.search_problem, found.problems),
                *judging.findings,
                *self._counters(counts, found, with_reservation),
                *(
                    lists.shared_slot(frame, slots, snapshot.geometry.address(frame))
                    for frame, slots in self._tail_frames.shared()
                ),
                *map(lists.invalid_slot, self._tail_frames.invalid),
                *map(lists.unknown_memory, unknown),
                *self._missing_zones(),
            ],
            sections=found.sections,
            unknown=self._unknown_pfns(found, special, unknown),
            tail_uses=self._tail_frames.uses(),
            accounts=accounts,
            interrupted=self._progress.interrupted,
            selection=self._selection,
        )

    def _counters(
        self,
        folios: Mapping[tuple[FolioClass, State], int],
        found: SearchResult,
        with_reservation: Mapping[str, int],
    ) -> Iterator[Finding]:
        """Compare the kernel's counters with the folios that were found, if these can be all."""
        if self._progress.interrupted:
            return
        hstates, changing = self._hstates, may_change(self._snapshot)
        # Folios that a damaged list lost are not on their way.
        may_move = changing and not found.has_corrupt_lists
        yield from counters.count_mismatches(
            hstates, folios, found.complete, found.incomplete_lists, may_move
        )
        for hstate in hstates:
            reservations = with_reservation.get(hstate.name, 0)
            free_is_compared = found.complete and hstate.name not in found.incomplete_lists
            yield from counters.impossible_counters(
                hstate, changing, reservations, free_is_compared
            )

    def _missing_zones(self) -> Iterator[Finding]:
        missing = self._tail_frames.missing()
        if missing:
            yield lists.missing_zones(missing)

    def _unknown_pfns(
        self,
        found: SearchResult,
        special: Sequence[SpecialVmemmap],
        unknown: Sequence[UnknownMemory],
    ) -> list[range]:
        """PFNs of which the dump does not show what memory they are, or whether they are memory."""
        missing = (each for each in found.problems if isinstance(each, MissingSections))
        # A device's pages may share what a zone keeps, too.
        devices = (each for each in special if each.kind == DEVICE and self._tail_frames.missing())
        return [
            *(each.described for each in missing),
            *(each.pfns for each in unknown),
            *(each.pfns for each in devices),
        ]

    def _with_reservation(self, found: SearchResult) -> dict[str, int]:
        """
        How many folios give back a reservation when they are freed: for each hstate whose
        reservations are below zero, by its name.

        Where not all folios were found, the missing ones may explain the whole difference.
        """
        below_zero = {
            hstate.name: -hstate.resv_huge_pages
            for hstate in self._hstates
            if hstate.resv_huge_pages is not None and hstate.resv_huge_pages < 0
        }
        if not found.complete:
            return below_zero
        return {
            name: count_with_reservation(self._snapshot, found.folios, name) for name in below_zero
        }

    def _judge_selected(self, folios: Folios, accounts: Accounts) -> Judging:
        """Keep the folios that are selected, and judge them."""
        rows = self._selection.of(folios)
        if len(rows) < len(folios):
            folios.pick(rows)
        judging = self._judged(folios, accounts)
        if self._selection.verdict is not None:
            folios.pick(_rows_of(judging.reports, Verdict(self._selection.verdict)))
            judging = self._judged(folios, accounts)
        return judging

    def _judged(self, folios: Folios, accounts: Accounts) -> Judging:
        judging = Judging(self._snapshot, self._tail_frames, FolioReports(folios), accounts)
        judging.judge_all(self._progress)
        return judging

    def _special(
        self, sections: Sequence[SectionRange], reports: FolioReports
    ) -> tuple[list[SpecialVmemmap], list[UnknownMemory]]:
        """Special vmemmap in ascending order, and memory whose vmemmap may be special."""
        found = list(
            find_special(
                self._snapshot,
                sections,
                lambda pfn: reports.folios.row_at(pfn) is not None,
                self._tail_frames.all(),
            )
        )
        special = [each for each in found if isinstance(each, SpecialVmemmap)]
        special += _optimized_at_boot(self._snapshot, sections, reports)
        return (
            sorted(special, key=lambda each: each.pfns.start),
            [each for each in found if isinstance(each, UnknownMemory)],
        )

    def _tables_by_hvo(self, sections: Sequence[SectionRange], judging: Judging) -> set[int]:
        """Physical addresses of the page tables that exist only because of HVO."""
        snapshot, tables = self._snapshot, judging.page_tables
        if self._selection == EVERYTHING:
            tables = tables | split_at_boot(snapshot, sections)
        return tables - never_split(snapshot, sections, judging.reports)

    def _added_up(
        self, judging: Judging, special: Sequence[SpecialVmemmap]
    ) -> tuple[list[HstateReport], Totals]:
        snapshot, reports = self._snapshot, judging.reports
        hstates = {
            hstate.name: HstateReport(
                hstate,
                snapshot.geometry.pages_of_order(hstate.order),
                narrowed=self._selection != EVERYTHING,
            )
            for hstate in self._hstates
            if self._selection.hstate in (None, hstate.name)
        }
        totals = Totals(
            snapshot.geometry.page_size,
            shared_tail_frames=len(self._tail_frames.all()),
        )
        for (class_number, _, number), count in sorted(judging.groups.items()):
            folio_class = reports.folios.class_table[class_number]
            judgement = reports.judgement_table[number]
            hstate = hstates[folio_class.hstate]
            node = hstate.nodes.setdefault(folio_class.node, Counts())
            for counts in (hstate.counts, node, totals.counts):
                counts.add(judgement, count)
            if judgement.verdict is Verdict.UNOPTIMIZED:
                freed = snapshot.kernel.freed_when_optimized(folio_class.order)
                totals.still_possible += count * freed
        totals.still_possible -= _impossible(snapshot, reports, special)
        return list(hstates.values()), totals


def _impossible(
    snapshot: Snapshot, reports: FolioReports, special: Sequence[SpecialVmemmap]
) -> int:
    """Frames of folios that HVO never optimizes: their memory hosts its own vmemmap."""
    return sum(
        snapshot.kernel.freed_when_optimized(reports.folios.class_of(row).order)
        for each in special
        if each.kind == SELF_HOSTED
        for row in reports.folios.rows_in(each.pfns)
        if reports.judgement_of(row).verdict is Verdict.UNOPTIMIZED
    )


def _rows_of(reports: FolioReports, verdict: Verdict) -> list[int]:
    """Rows of the folios with a verdict."""
    return [row for row in range(len(reports)) if reports.judgement_of(row).verdict is verdict]


def _by_class_and_state(folios: Folios) -> Counter[tuple[FolioClass, State]]:
    """How many folios there are of each class in each state."""
    counts: Counter[tuple[FolioClass, State]] = Counter()
    start = 0
    for number, stretch in groupby(folios.classes):
        stop = start + len(list(stretch))
        states = folios.states[start:stop]
        for state in set(states):
            counts[folios.class_table[number], STATES[state]] += states.count(state)
        start = stop
    return counts


def _optimized_at_boot(
    snapshot: Snapshot, sections: Sequence[SectionRange], reports: FolioReports
) -> Iterator[SpecialVmemmap]:
    """
    The gigantic folios whose vmemmap HugeTLB made at boot, and what they freed.

    The memory of those that were demoted or freed since then is like any other.
    """
    facts = snapshot.kernel.sections
    made = (
        section.pfns
        for section in sections
        if section.flags & facts.optimized_at_boot
        or (section.order and section.flags & facts.early)
    )
    for pfns in joined(made):
        for row in reports.folios.rows_in(pfns):
            if reports.folios.class_of(row).order > MAX_PAGE_ORDER:
                freed = reports.judgement_of(row).freed
                yield SpecialVmemmap(BOOT, reports.folios.pfns_of(row), freed)
