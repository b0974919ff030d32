# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report: everything found, judged and added up, as plain objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drgn_vmemmap.hugetlb.accounting import Accounts
from drgn_vmemmap.hugetlb.folio import Folios
from drgn_vmemmap.hugetlb.hstate import Counters, Hstate
from drgn_vmemmap.hugetlb.tail_frames import TailUse
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.origin import UNKNOWN_ORIGIN, Origin
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import UNREADABLE
from drgn_vmemmap.rules.unchecked import unchecked
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.special import SpecialVmemmap


class Counts:
    """Folios by verdict, and the frames that they freed."""

    def __init__(self) -> None:
        self._folios: Counter[Verdict] = Counter()
        self.freed = 0
        """Frames of 4 KiB."""

    def add(self, judgement: Judgement, folios: int) -> None:
        """
        :param folios: How many folios have this judgement.
        """
        self._folios[judgement.verdict] += folios
        self.freed += judgement.freed * folios

    @property
    def folios(self) -> int:
        """How many folios there are."""
        return sum(self._folios.values())

    def __getitem__(self, verdict: Verdict) -> int:
        """How many folios have a verdict."""
        return self._folios[verdict]

    def as_dict(self) -> dict[str, int]:
        """All numbers by their names in documents."""
        verdicts = {verdict.value: self[verdict] for verdict in Verdict}
        return {"folios": self.folios, **verdicts, "freed": self.freed}


@dataclass
class HstateReport:
    """One size of folios: the kernel's counters, and what was found."""

    hstate: Hstate
    vmemmap_pages: int
    """How many vmemmap pages describe one folio."""
    counts: Counts = field(default_factory=Counts)
    nodes: dict[int | None, Counts] = field(default_factory=dict)
    """By node; ``None`` for the folios of unknown node."""
    narrowed: bool = False
    """Only nodes with selected folios count."""

    def by_node(self) -> list[tuple[int | None, Counters, Counts]]:
        """Each node with folios or counters: what the kernel counts, and what was found."""
        nodes = {*self.nodes} if self.narrowed else {*self.hstate.node_counters, *self.nodes}
        return [
            (
                node,
                self.hstate.counters_of(node),
                self.nodes.get(node, Counts()),
            )
            for node in sorted(nodes, key=lambda node: (node is None, node))
        ]


@dataclass
class Totals:
    """All hstates together."""

    page_size: int
    """Bytes of a frame, and of a page table."""
    counts: Counts = field(default_factory=Counts)
    page_tables: int = 0
    """
    Page tables that exist only because HVO split a PMD over the vmemmap; if the report is narrowed,
    only those over its folios' vmemmap.
    """
    shared_tail_frames: int = 0
    """Frames that zones keep for shared tails."""
    still_possible: int = 0
    """Frames that optimizing the rest would free."""

    @property
    def freed_bytes(self) -> int:
        """Bytes of the frames that optimized folios have freed."""
        return self.counts.freed * self.page_size

    @property
    def net_saved_bytes(self) -> int:
        """Bytes freed, less the page tables and tail frames that HVO needs for it."""
        return self.freed_bytes - (self.page_tables + self.shared_tail_frames) * self.page_size

    @property
    def still_possible_bytes(self) -> int:
        """Bytes that optimizing the rest would free."""
        return self.still_possible * self.page_size


@dataclass(frozen=True)
class Selection:
    """The folios that a report is narrowed to; ``None`` for all."""

    hstate: str | None = None
    node: int | None = None
    pfn: int | None = None
    """Any PFN within the folio."""
    verdict: str | None = None
    """The value of a :class:`Verdict`."""

    def of(self, folios: Folios) -> Sequence[int]:
        """Rows of the folios that it selects, whatever the verdict on them is."""
        if self == EVERYTHING:
            return range(len(folios))
        orders = {
            number: each.order
            for number, each in enumerate(folios.class_table)
            if self.hstate in (None, each.hstate) and self.node in (None, each.node)
        }
        return [
            row
            for row, (pfn, number) in enumerate(zip(folios.pfns, folios.classes))
            if number in orders and (self.pfn is None or pfn == self.pfn & -(1 << orders[number]))
        ]


EVERYTHING = Selection()


class Stability(NamedTuple):
    """How much a live kernel changed during several passes over it."""

    seconds: float
    """How long they took."""
    passes: int
    """How many."""
    moved: int
    """Folios that came, went or changed between two passes."""
    transient: int
    """Findings that not all passes have in common; they do not count."""


@dataclass
class Report:
    """The result of the analysis of a kernel."""

    kernel: Kernel
    hstates: list[HstateReport]
    totals: Totals
    folios: FolioReports
    special: list[SpecialVmemmap]
    """Vmemmap that is special without being a fault."""
    findings: list[Finding]
    sections: list[SectionRange]
    """The pieces of physical memory that have a memmap."""
    unknown: list[range]
    """PFNs of which the dump does not show what memory they are, or whether they are memory."""
    tail_uses: Mapping[int, TailUse]
    """The frames that zones keep for shared tails, by their PFNs, and what they keep them for."""
    accounts: Accounts
    """Which folios the kernel counts."""
    interrupted: bool
    """The user ended the analysis early."""
    stability: Stability | None = None
    """Of a live kernel."""
    verified: bool = False
    """All rules were run, not only those of a report."""
    selection: Selection = EVERYTHING
    """The folios that it was narrowed to."""
    origin: Origin = UNKNOWN_ORIGIN
    """Which dump of which machine it is of."""

    @property
    def tail_frames(self) -> frozenset[int]:
        """PFNs of the frames that zones keep for shared tails."""
        return frozenset(self.tail_uses)

    @property
    def broken(self) -> bool:
        """Whether anything of severity error was found."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def incomplete(self) -> bool:
        """Whether something that was needed is not in the dump, or was not recognised."""
        return self.interrupted or self.lacks_memory or bool(self.kernel.unrecognised)

    @property
    def lacks_memory(self) -> bool:
        """Whether memory that was needed is not in the dump."""
        return any(
            finding.rule == UNREADABLE.name and finding.severity is not Severity.INFO
            for finding in self.findings
        )

    @property
    def unchecked(self) -> dict[str, str]:
        """The rules that were not checked, or not in all that they require: why, by name."""
        return unchecked(self.kernel)

    def to_dict(self, folios: bool = True) -> dict[str, Any]:
        """
        The report as plain data, as JSON has it: see ``report.schema.json``.

        :param folios: Whether to list the folios.
        """
        from drgn_vmemmap.analysis.document import document

        return document(self, folios)
