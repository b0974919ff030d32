# SPDX-License-Identifier: LGPL-2.1-or-later

"""Watching a live kernel: pass after pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Callable, NamedTuple

from drgn_vmemmap.analysis.live import Target, confirm, identity
from drgn_vmemmap.analysis.report import HstateReport, Report
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.progress import Progress
from drgn_vmemmap.rules.finding import Finding, Severity


class Counted(NamedTuple):
    """The counts of one hstate that are watched."""

    folios: int
    optimized: int
    freed: int
    """Frames."""

    def since(self, before: Counted) -> Counted:
        """The change since an earlier pass; negative where folios or frames went."""
        return Counted(*(now - then for now, then in zip(self, before)))


class Pass(NamedTuple):
    """One pass, and what changed since the one before it."""

    time: float
    """Seconds since 1970."""
    report: Report
    counted: dict[str, Counted]
    """By hstate."""
    changed: dict[str, Counted]
    """Since the pass before; nothing for the first one."""


def watch(
    target: Target,
    interval: float,
    count: int | None,
    progress: Progress,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[Pass]:
    """
    Analyse a live kernel again and again.

    :param interval: Seconds from the beginning of one pass to that of the next.
    :param count: How many passes; ``None`` for no end.
    :param progress: Ends the passes; a pass that it interrupts is left out.
    :param is_over: Whether the watched command has ended; one more pass is taken after it.
    """
    before: dict[str, Counted] = {}
    number = 0
    while (count is None or number < count) and not progress.interrupted:
        is_last = is_over()
        start = time.monotonic()
        report = None
        with progress.abortable():
            report = confirm(target, progress)
        if report is None or report.interrupted:
            return
        counted = {hstate.hstate.name: _counted(hstate) for hstate in report.hstates}
        yield Pass(time.time(), report, counted, _changed(before, counted))
        before = counted
        number += 1
        if is_last:
            return
        if number != count:
            progress.pause(start + interval - time.monotonic(), is_over)


def _changed(before: dict[str, Counted], now: dict[str, Counted]) -> dict[str, Counted]:
    nothing = Counted(0, 0, 0)
    return {
        name: counts.since(before.get(name, nothing) if before else counts)
        for name, counts in now.items()
    }


def _counted(hstate: HstateReport) -> Counted:
    counts = hstate.counts
    return Counted(counts.folios, counts[Verdict.OPTIMIZED], counts.freed)


@dataclass
class Tally:
    """The sum of all passes."""

    until: str | None = None
    """The rule whose findings count, of any severity; ``None``: errors of all rules count."""
    passes: int = 0
    moved: int = 0
    """Folios that moved, added up."""
    transient: int = 0
    """Findings that vanished while a pass confirmed them, added up."""
    findings: int = 0
    """Findings of severity warning or error, added up."""
    broken: list[Finding] = field(default_factory=list)
    """The findings of the first pass that found something broken."""
    last: Report | None = None
    """The report of the last pass."""
    _seen: dict[Finding, Finding] = field(default_factory=dict)

    def add(self, pass_: Pass) -> bool:
        """
        Add a pass.

        :return: Whether this is the first pass that found something broken.
        """
        self.passes += 1
        stability = pass_.report.stability
        if stability is not None:
            self.moved += stability.moved
            self.transient += stability.transient
        self.last = pass_.report
        for finding in pass_.report.findings:
            self._seen.setdefault(identity(finding), finding)
            self.findings += finding.severity is not Severity.INFO
        broken = [finding for finding in pass_.report.findings if self._is_broken(finding)]
        is_first = bool(broken) and not self.broken
        if is_first:
            self.broken = broken
        return is_first

    def _is_broken(self, finding: Finding) -> bool:
        if self.until is not None:
            return finding.rule == self.until
        return finding.severity is Severity.ERROR

    def report(self) -> Report | None:
        """The report of the last pass, with the findings of all of them."""
        return None if self.last is None else replace(self.last, findings=[*self._seen.values()])
