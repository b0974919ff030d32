# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report: everything found, judged and added up, as plain objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import drgn

from drgn_vmemmap import hugetlb, rules
from drgn_vmemmap.hugetlb import BrokenHstate, BrokenList, Counters, Folio, Hstate
from drgn_vmemmap.hvo import Judgement, Verdict, judge
from drgn_vmemmap.kernel import Kernel, MissingFacts, discover
from drgn_vmemmap.memmap import MissingSections
from drgn_vmemmap.memory import MissingMemory, ProgramMemory
from drgn_vmemmap.pagetable import Entry, Walker
from drgn_vmemmap.rules import Case, Finding
from drgn_vmemmap.x86_64 import PAGE_SIZE, PTE


class FolioReport(NamedTuple):
    """One folio and what its entries amount to."""

    folio: Folio
    judgement: Judgement


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

    def add(self, judgement: Judgement) -> None:
        self.folios += 1
        self.freed += judgement.freed
        verdict = judgement.verdict.value
        setattr(self, verdict, getattr(self, verdict) + 1)


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

    def __contains__(self, folio: object) -> bool:
        return (
            isinstance(folio, Folio)
            and self.hstate in (None, folio.hstate)
            and self.node in (None, folio.node)
            and (self.pfn is None or folio.pfn == self.pfn & -(1 << folio.order))
        )


@dataclass
class Report:
    """What one look at a kernel found."""

    kernel: Kernel
    hstates: list[HstateReport]
    totals: Totals
    folios: list[FolioReport]
    findings: list[Finding]

    @property
    def incomplete(self) -> bool:
        """Whether memory that was needed is not in the dump."""
        return any(finding.rule == "unreadable" for finding in self.findings)


def examine(
    prog: drgn.Program, selection: Selection = Selection(), system_map: str | None = None
) -> Report:
    """
    Look at a kernel.

    :param prog: Any target of drgn that is an x86-64 Linux kernel.
    :param selection: What to narrow the report to.
    :param system_map: See :func:`discover()`.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    kernel = discover(prog, system_map)
    return look(kernel, Walker(ProgramMemory(prog), kernel.paging), selection)


def look(kernel: Kernel, walker: Walker, selection: Selection = Selection()) -> Report:
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
    report = _Look(kernel, walker, hstates, selection).report()
    broken = [hstate for hstate in found if isinstance(hstate, BrokenHstate)]
    report.findings[:0] = map(rules.broken_hstate, broken)
    return report


class _Look:
    """Carries one look from the lists to the report."""

    def __init__(
        self, kernel: Kernel, walker: Walker, hstates: list[Hstate], selection: Selection
    ) -> None:
        self._kernel = kernel
        self._walker = walker
        self._hstates = hstates
        self._selection = selection
        self._tail_frames = hugetlb.TailFrames(kernel, walker)
        self._page_tables: set[int] = set()
        self._reports = {
            hstate.name: HstateReport(hstate, kernel.vmemmap_pages(hstate.order))
            for hstate in hstates
            if selection.hstate in (None, hstate.name)
        }
        self._totals = Totals()
        self._folios: list[FolioReport] = []
        self._findings: list[Finding] = []

    def report(self) -> Report:
        found = self._found()
        for folio in found:
            if folio in self._selection:
                self._add(folio)
        for hstate in self._hstates:
            self._findings.extend(
                rules.count_mismatch(hstate, (f for f in found if f.hstate == hstate.name))
            )
        self._totals.page_tables = len(self._page_tables)
        self._totals.shared_tail_frames = len(self._tail_frames.all())
        self._folios.sort(key=lambda folio: folio.folio.pfn)
        reports = list(self._reports.values())
        return Report(self._kernel, reports, self._totals, self._folios, self._findings)

    def _found(self) -> list[Folio]:
        found = []
        for item in hugetlb.find_folios(self._kernel, self._walker, self._hstates):
            if isinstance(item, BrokenList):
                self._findings.append(rules.broken_list(item))
            elif isinstance(item, MissingSections):
                self._findings.append(rules.missing_sections(item))
            else:
                found.append(item)
        return found

    def _add(self, folio: Folio) -> None:
        entries = list(self._entries(folio))
        tail_frames = self._tail_frames.acceptable(folio)
        judgement = judge(entries, self._kernel.hvo.layout, tail_frames)
        self._folios.append(FolioReport(folio, judgement))
        self._count(folio, judgement)
        case = Case(self._kernel, folio, entries, judgement, tail_frames)
        self._findings.extend(rules.check_folio(case))

    def _entries(self, folio: Folio) -> Iterator[Entry]:
        start = self._kernel.page_address(folio.pfn)
        end = start + self._kernel.vmemmap_pages(folio.order) * PAGE_SIZE
        for run in self._walker.walk(start, end):
            if run.level is PTE and run.raw and self._kernel.hvo.built_in:
                self._page_tables.add(run.raw_address & -PAGE_SIZE)
            yield from self._walker.pages(run)

    def _count(self, folio: Folio, judgement: Judgement) -> None:
        report = self._reports[folio.hstate]
        counts = [report.counts, self._totals.counts]
        if folio.node is not None:
            counts.append(report.nodes.setdefault(folio.node, Counts()))
        for count in counts:
            count.add(judgement)
        if judgement.verdict is Verdict.UNOPTIMIZED:
            self._totals.still_possible += self._kernel.freed_when_optimized(folio.order)
