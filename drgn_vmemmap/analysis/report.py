# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report: everything found, judged and added up, as plain objects."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

from drgn_vmemmap.errors import MissingFacts, MissingMemory
from drgn_vmemmap.hugetlb import folios as hugetlb
from drgn_vmemmap.hugetlb.columns import stretches
from drgn_vmemmap.hugetlb.folios import BrokenHstate, Counters, Folio, FolioClass, Folios, Hstate
from drgn_vmemmap.hvo.judgement import Comparison, Judgement, Verdict, judge
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.origin import UNKNOWN_ORIGIN, Origin
from drgn_vmemmap.paging.walker import Run, Walker
from drgn_vmemmap.paging.x86_64 import ENTRY_SIZE, PAGE_SHIFT, PAGE_SIZE, PMD, PTE
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.rules import folio as rules
from drgn_vmemmap.rules.folio import Finding, FolioContext, Severity
from drgn_vmemmap.vmemmap.sections import Section
from drgn_vmemmap.vmemmap.special import SpecialVmemmap, find_special, joined

# Folios that are judged between two looks at whether the user has had enough.
_BATCH = 4096

# An entry of 8 bytes maps a page of 4096.
_ENTRY_SHIFT = 9


class FolioReport(NamedTuple):
    """One folio and what its entries amount to."""

    folio: Folio
    judgement: Judgement


class FolioReports(Sequence[FolioReport]):
    """
    Folios and what their entries amount to, in ascending order of PFN.

    A column for each fact; the objects are made for who asks for them.
    """

    def __init__(self, folios: Folios) -> None:
        self.folios = folios
        self.judgements = array("I")
        """Of each folio, the index of its judgement in :attr:`judgement_table`."""
        self.reuse_frames = array("q")
        """Of each folio, the PFN of its reuse frame; -1 if there is none."""
        self.judgement_table: list[Judgement] = []
        """Judgements without their reuse frames."""
        self._numbers: dict[Judgement, int] = {}
        self._last: tuple[Judgement | None, int] = None, 0

    def add(self, judgement: Judgement, reuse_frame: int) -> None:
        """
        Judge the next folio.

        :param judgement: Without its reuse frame.
        :param reuse_frame: PFN; -1 if there is none.
        """
        last, number = self._last
        if judgement is not last:
            number = self._numbers.setdefault(judgement, len(self.judgement_table))
            if number == len(self.judgement_table):
                self.judgement_table.append(judgement)
            self._last = judgement, number
        self.judgements.append(number)
        self.reuse_frames.append(reuse_frame)

    def extend(self, judgement: Judgement, reuse_frames: list[int]) -> None:
        """Judge the next folios, all alike."""
        self.add(judgement, reuse_frames[0])
        self.judgements.extend(self.judgements[-1:] * (len(reuse_frames) - 1))
        self.reuse_frames.fromlist(reuse_frames[1:])

    def __len__(self) -> int:
        return len(self.judgements)

    @overload
    def __getitem__(self, index: int) -> FolioReport: ...
    @overload
    def __getitem__(self, index: slice) -> list[FolioReport]: ...
    def __getitem__(self, index: int | slice) -> FolioReport | list[FolioReport]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        judgement = self.judgement_table[self.judgements[index]]
        frame = self.reuse_frames[index]
        if frame >= 0:
            judgement = judgement._replace(reuse_frame=frame)
        return FolioReport(self.folios[index], judgement)


@dataclass
class Counts:
    """Folios by verdict, and the frames that they freed."""

    folios: int = 0
    optimized: int = 0
    unoptimized: int = 0
    inconsistent: int = 0
    unreadable: int = 0
    freed: int = 0
    """Frames of 4 KiB."""

    def add(self, judgement: Judgement, folios: int) -> None:
        """
        :param folios: How many folios are judged so.
        """
        self.folios += folios
        self.freed += judgement.freed * folios
        verdict = judgement.verdict.value
        setattr(self, verdict, getattr(self, verdict) + folios)


@dataclass
class HstateReport:
    """One size of folios: the kernel's counters, and what was found."""

    hstate: Hstate
    vmemmap_pages: int
    """How many vmemmap pages describe one folio."""
    counts: Counts = field(default_factory=Counts)
    nodes: dict[int, Counts] = field(default_factory=dict)

    def by_node(self) -> list[tuple[int, Counters, Counts]]:
        """Each node with folios or counters, in order: what the kernel counts, what was found."""
        return [
            (
                node,
                self.hstate.node_counters.get(node, Counters(0, 0, 0)),
                self.nodes.get(node, Counts()),
            )
            for node in sorted({*self.hstate.node_counters, *self.nodes})
        ]


@dataclass
class Totals:
    """All hstates together."""

    counts: Counts = field(default_factory=Counts)
    page_tables: int = 0
    """Last-level tables over the folios' vmemmap: HVO split a PMD for each."""
    shared_tail_frames: int = 0
    """Frames that zones keep for shared tails."""
    still_possible: int = 0
    """Frames that optimizing the rest would free."""

    @property
    def freed_bytes(self) -> int:
        return self.counts.freed * PAGE_SIZE

    @property
    def net_saved_bytes(self) -> int:
        return self.freed_bytes - (self.page_tables + self.shared_tail_frames) * PAGE_SIZE

    @property
    def still_possible_bytes(self) -> int:
        return self.still_possible * PAGE_SIZE


@dataclass(frozen=True)
class Selection:
    """What a report is narrowed to; ``None`` for everything."""

    hstate: str | None = None
    node: int | None = None
    pfn: int | None = None
    """Any PFN within the folio."""

    def of(self, folios: Folios) -> Sequence[int]:
        """Rows of the folios that are meant."""
        if self == EVERYTHING:
            return range(len(folios))
        kinds = {
            number: kind.order
            for number, kind in enumerate(folios.class_table)
            if self.hstate in (None, kind.hstate) and self.node in (None, kind.node)
        }
        return [
            row
            for row, (pfn, kind) in enumerate(zip(folios.pfns, folios.kinds))
            if kind in kinds and (self.pfn is None or pfn == self.pfn & -(1 << kinds[kind]))
        ]


EVERYTHING = Selection()


class Stability(NamedTuple):
    """How much a live kernel moved while it was looked at."""

    seconds: float
    """How long it was looked at."""
    passes: int
    """How often."""
    moved: int
    """Folios that came, went or changed between two looks."""
    transient: int
    """Findings that not all looks had in common; they do not count."""


@dataclass
class Report:
    """What one look at a kernel found."""

    kernel: Kernel
    hstates: list[HstateReport]
    totals: Totals
    folios: FolioReports
    others: list[SpecialVmemmap]
    """Vmemmap that is special without being a fault."""
    findings: list[Finding]
    sections: list[Section]
    """The pieces of physical memory that have a memmap."""
    tail_frames: frozenset[int]
    """PFNs of the frames that zones keep for shared tails."""
    interrupted: bool
    """The user ended the look: it is not all."""
    stability: Stability | None = None
    """Of a live kernel."""
    verified: bool = False
    """All rules were run, not only those on single folios' entries."""
    selection: Selection = EVERYTHING
    """What it was narrowed to."""
    origin: Origin = UNKNOWN_ORIGIN
    """Which dump of which machine it is of."""

    @property
    def broken(self) -> bool:
        """Whether anything of severity error was found."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def incomplete(self) -> bool:
        """Whether memory that was needed is not in the dump."""
        return self.interrupted or any(f.rule == "unreadable" for f in self.findings)


def analyse(
    kernel: Kernel, walker: Walker, selection: Selection = EVERYTHING, progress: Progress = SILENT
) -> Report:
    """
    Look at a kernel whose facts are known.

    :param walker: Fresh for this look; its memory is the kernel's.
    :raises MissingFacts: if the hstates are not in the dump.
    """
    try:
        found = list(hugetlb.read_hstates(kernel, walker))
    except MissingMemory as error:
        raise MissingFacts(f"hstates: {error}") from error
    hstates = [hstate for hstate in found if isinstance(hstate, Hstate)]
    report = _Analysis(kernel, walker, hstates, selection, progress).report()
    broken = [hstate for hstate in found if isinstance(hstate, BrokenHstate)]
    report.findings[:0] = map(rules.broken_hstate, broken)
    return report


class _Analysis:
    """Carries one look from the lists to the report."""

    def __init__(
        self,
        kernel: Kernel,
        walker: Walker,
        hstates: list[Hstate],
        selection: Selection,
        progress: Progress,
    ) -> None:
        self._kernel = kernel
        self._walker = walker
        self._hstates = hstates
        self._selection = selection
        self._progress = progress
        self._tail_frames = hugetlb.TailFrames(kernel, walker)
        self._compare = Comparison(kernel.paging, kernel.hvo.layout)
        self._expected: dict[int, tuple[int, frozenset[int] | None]] = {}
        self._page_tables: set[int] = set()
        self._findings: list[Finding] = []

    def report(self) -> Report:
        found = hugetlb.find_folios(self._kernel, self._walker, self._hstates, self._progress)
        self._findings += map(rules.search_problem, found.problems)
        counts = found.folios.tally()
        rows = self._selection.of(found.folios)
        if len(rows) < len(found.folios):
            found.folios.pick(rows)
        folios = self._judged(found.folios)
        if not self._progress.interrupted:
            for hstate in self._hstates:
                self._findings.extend(rules.count_mismatch(hstate, counts))
        reports, totals = self._added_up(folios)
        others = list(find_special(self._kernel, self._walker, found.sections))
        others += self._optimized_at_boot(found.sections, folios)
        others.sort(key=lambda other: other.pfns.start)
        return Report(
            kernel=self._kernel,
            hstates=reports,
            totals=totals,
            folios=folios,
            others=others,
            findings=self._findings,
            sections=found.sections,
            tail_frames=self._tail_frames.all(),
            interrupted=self._progress.interrupted,
        )

    def _optimized_at_boot(
        self, sections: Sequence[Section], folios: FolioReports
    ) -> Iterator[SpecialVmemmap]:
        """Memory whose vmemmap HugeTLB made at boot, and the optimized folios in it."""
        flag = self._kernel.sections.optimized_at_boot
        for pfns in joined(section.pfns for section in sections if section.flags & flag):
            first = bisect_left(folios.folios.pfns, pfns.start)
            last = bisect_left(folios.folios.pfns, pfns.stop)
            table = folios.judgement_table
            freed = sum(table[number].freed for number in folios.judgements[first:last])
            yield SpecialVmemmap("boot-optimized", pfns, freed)

    def _judged(self, folios: Folios) -> FolioReports:
        """Judge all folios, and say what is wrong with them."""
        reports = FolioReports(folios)
        batches = range(0, len(folios), _BATCH)
        for start in self._progress.track(batches, "page tables"):
            self._judge(reports, range(start, min(start + _BATCH, len(folios))))
        if self._progress.interrupted:
            folios.pick(range(len(reports)))
        return reports

    def _judge(self, reports: FolioReports, rows: range) -> None:
        row = rows.start
        while row < rows.stop:
            judged = self._judge_pool(reports, row, rows.stop)
            if not judged:
                self._judge_folio(reports, row)
            row += judged or 1

    def _judge_pool(self, reports: FolioReports, row: int, stop: int) -> int:
        """
        Judge the folios side by side that one run of entries describes.

        :param row: Of the first one.
        :return: How many were judged: all or none.
        """
        kernel, folios = self._kernel, reports.folios
        pages, tail_frames = expected = self._what_to_expect(folios, folios.kinds[row])
        address = kernel.page_address(folios.pfns[row])
        run = self._walker.region(address)
        behind = -(-(run.end - kernel.vmemmap) // kernel.page.size)
        end = bisect_left(folios.pfns, behind, row, stop)
        count = end - row
        start, length = (address - run.start) >> _ENTRY_SHIFT, count * pages * ENTRY_SIZE
        if (
            count < 2
            or tail_frames is None
            or (folios.pfns[end - 1] - folios.pfns[row]) * kernel.page.size
            != (count - 1) * pages << PAGE_SHIFT
            or start + length > (run.end - run.start) >> _ENTRY_SHIFT
        ):
            return 0
        kinds, states = set(folios.kinds[row:end]), set(folios.states[row:end])
        if any(self._what_to_expect(folios, kind) != expected for kind in kinds):
            return 0
        if run.level is PTE:
            self._add_page_tables((run,))
            raw = run.raw[start : start + length]
            answer = self._compare.table(raw, run.above, pages, tail_frames)
        else:
            leaf = self._compare.leaves((run,), pages, tail_frames)
            answer = None if leaf is None else (leaf[0], [-1] * count)
        if answer is None:
            return 0
        judgement, reuse_frames = answer
        reports.extend(judgement, reuse_frames)
        if any(
            self._is_odd(folios.class_table[kind], state, judgement)
            for kind in kinds
            for state in states
        ):
            for number in range(row, end):
                self._check_state(reports, number)
        return count

    def _what_to_expect(self, folios: Folios, number: int) -> tuple[int, frozenset[int] | None]:
        """How many vmemmap pages folios of a kind have, and which frames their zone keeps."""
        if number not in self._expected:
            kind = folios.class_table[number]
            pages = self._kernel.vmemmap_pages(kind.order)
            self._expected[number] = pages, self._tail_frames.acceptable(kind)
        return self._expected[number]

    def _judge_folio(self, reports: FolioReports, row: int) -> None:
        folios = reports.folios
        pages, tail_frames = self._what_to_expect(folios, folios.kinds[row])
        address = self._kernel.page_address(folios.pfns[row])
        answer = None
        if tail_frames is not None:
            answer = self._compared(address, pages, tail_frames)
        if answer is None:
            judgement = self._diagnose(folios[row], address, pages, tail_frames)
            frame = judgement.reuse_frame
            reports.add(judgement._replace(reuse_frame=None), -1 if frame is None else frame)
            return
        judgement, reuse_frame = answer
        reports.add(judgement, reuse_frame)
        kind = folios.class_table[folios.kinds[row]]
        if self._is_odd(kind, folios.states[row], judgement):
            self._check_state(reports, row)

    def _is_odd(self, kind: FolioClass, state: int, judgement: Judgement) -> bool:
        """Whether there is something to say of folios whose entries are plainly right."""
        return (
            state == hugetlb.OFF_LIST
            or kind.flag_optimized is (judgement.verdict is not Verdict.OPTIMIZED)
            or judgement.read_only != judgement.shared
        )

    def _compared(
        self, address: int, pages: int, tail_frames: frozenset[int]
    ) -> tuple[Judgement, int] | None:
        """Judge the folio at an address of the vmemmap by comparing bytes, where that will do."""
        run = self._walker.region(address)
        start = address - run.start
        runs: Sequence[Run] = (run,)
        raw = run.raw[start >> _ENTRY_SHIFT : (start >> _ENTRY_SHIFT) + pages * ENTRY_SIZE]
        if start + (pages << PAGE_SHIFT) > PMD.entry_span:
            starts = range(address, address + (pages << PAGE_SHIFT), PMD.entry_span)
            runs = [self._walker.region(start) for start in starts]
            raw = b"".join(run.raw for run in runs)
            if start or any(
                not other.raw or other.level is not run.level or other.above != run.above
                for other in runs
            ):
                return None
        if run.level is not PTE:
            return self._compare.leaves(runs, pages, tail_frames)
        self._add_page_tables(runs)
        return self._compare.entries(raw, run.above, tail_frames)

    def _add_page_tables(self, runs: Sequence[Run]) -> None:
        if self._kernel.hvo.built_in:
            for run in runs:
                if run.level is PTE and run.raw:
                    self._page_tables.add(run.raw_address & -PAGE_SIZE)

    def _diagnose(
        self, folio: Folio, address: int, pages: int, tail_frames: frozenset[int] | None
    ) -> Judgement:
        """Judge a folio entry by entry, and say what is wrong with it."""
        runs = list(self._walker.walk(address, address + (pages << PAGE_SHIFT)))
        self._add_page_tables(runs)
        entries = [entry for run in runs for entry in self._walker.pages(run)]
        judgement = judge(entries, self._kernel.hvo.layout, tail_frames)
        case = FolioContext(self._kernel, folio, entries, judgement, tail_frames)
        self._findings.extend(rules.check_folio(case))
        return judgement

    def _check_state(self, reports: FolioReports, row: int) -> None:
        """Say what is wrong with a folio whose entries are plainly right."""
        folio, judgement = reports[row]
        if judgement.read_only != judgement.shared:
            index = judgement.read_only[-1][1] + 1
            address = self._kernel.page_address(folio.pfn) + index * PAGE_SIZE
            entry = self._walker.entry(address)
            self._findings.append(rules.partly_protected(folio, index, entry))
        self._findings.extend(
            rules.check_state(FolioContext(self._kernel, folio, (), judgement, None))
        )

    def _added_up(self, folios: FolioReports) -> tuple[list[HstateReport], Totals]:
        reports = {
            hstate.name: HstateReport(hstate, self._kernel.vmemmap_pages(hstate.order))
            for hstate in self._hstates
            if self._selection.hstate in (None, hstate.name)
        }
        totals = Totals(
            page_tables=len(self._page_tables), shared_tail_frames=len(self._tail_frames.all())
        )
        for rows in stretches(folios.folios.kinds, folios.judgements):
            kind = folios.folios.class_table[folios.folios.kinds[rows.start]]
            judgement, count = folios.judgement_table[folios.judgements[rows.start]], len(rows)
            report = reports[kind.hstate]
            counts = [report.counts, totals.counts]
            if kind.node is not None:
                counts.append(report.nodes.setdefault(kind.node, Counts()))
            for added in counts:
                added.add(judgement, count)
            if judgement.verdict is Verdict.UNOPTIMIZED:
                totals.still_possible += count * self._kernel.freed_when_optimized(kind.order)
        return list(reports.values()), totals
