# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Analysing a kernel that runs: more than one pass before anything is reported as broken.

While lists and page tables are read, folios come and go, and tables are freed and
their frames used again. A finding of one pass may be no more than that. It counts
if independent passes, a moment apart, have it in the same place.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, NamedTuple

from drgn_vmemmap.analysis.report import Report, Stability
from drgn_vmemmap.errors import MissingFacts
from drgn_vmemmap.paging.x86_64 import without_use
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import FRAME_ALIASED, FRAME_FREED, ORPHAN_REMAP, UNREADABLE

# Seconds between two passes. A remap takes far less, so two passes show what moves. What both find
# broken, all others must find, too. A pass may read a folio that alternates between two states half
# in one state and half in the other: one pass of four does, and all eight in one series of 4**8.
# Pauses of different lengths keep out of step with it, and outlast a remap that waits for a CPU.
_PAUSES = (0.1, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

# Rules whose messages name what may change while the fault stays, such as the size of a free block.
_SAME_BY_ENTRY = (FRAME_FREED.name, FRAME_ALIASED.name, ORPHAN_REMAP.name)

GONE = UNREADABLE.finding(
    "the target went away, or cannot be read any more: these are findings of earlier passes"
)
"""The finding of a live kernel whose target went away after a complete pass."""


class Target(NamedTuple):
    """A live kernel that can be analysed again and again."""

    analyse: Callable[[], Report]
    """Takes a fresh pass."""
    is_there: Callable[[], bool]
    """
    Whether it can still be read: a guest may have ended. It raises :exc:`MissingFacts` if the guest
    was reset.
    """


def confirm(target: Target, progress: Progress = SILENT) -> Report:
    """
    Analyse a live kernel until each finding is certain, or gone.

    :param progress: Ends the pauses between passes; the passes have their own.
    :return: The report of the last complete pass, with the errors and warnings that all passes
        have in common, and its other findings; :attr:`Report.stability` counts what vanished.
        Where the target went away meanwhile, :data:`GONE` is among the findings.
    :raises MissingFacts: if it went away before one pass was complete.
    """
    start = time.monotonic()
    first = _pass(target)
    if first is None:
        raise MissingFacts("the target went away before one pass was complete")
    series, is_gone = _Series(first), False
    for pause in _PAUSES:
        if series.is_over:
            break
        progress.pause(pause)
        if progress.interrupted:
            series.interrupt()
            break
        report = _pass(target)
        if report is None:
            is_gone = True
            break
        series.add(report)
    result = series.result(time.monotonic() - start)
    return replace(result, findings=[*result.findings, GONE]) if is_gone else result


class _Series:
    """Passes over a live kernel, one after another, and what they have in common."""

    def __init__(self, first: Report) -> None:
        self._last = first
        self._passes = 1
        self._lasting = self._seen = _suspicious(first)
        self._moved: set[int] = set()

    @property
    def is_over(self) -> bool:
        """Whether another pass would change nothing."""
        return self._last.interrupted or (self._passes > 1 and not self._lasting)

    def interrupt(self) -> None:
        """End the series; what its last pass saw stays."""
        self._last = replace(self._last, interrupted=True)

    def add(self, report: Report) -> None:
        """Add a pass, unless it was interrupted: then, it is not complete."""
        if report.interrupted:
            self.interrupt()
            return
        self._passes += 1
        self._moved |= _moved(self._last, report)
        found = _suspicious(report)
        self._lasting, self._seen = self._lasting & found, self._seen | found
        self._last = report

    def result(self, seconds: float) -> Report:
        """
        The report of the last pass, with the errors and warnings that all passes found.

        :param seconds: What the passes took.
        """
        # What a single pass found may be no more than a moment.
        lasting = self._lasting if self._passes > 1 else frozenset()
        findings = [
            finding
            for finding in self._last.findings
            if finding.severity is Severity.INFO or identity(finding) in lasting
        ]
        vanished = len(self._seen - lasting)
        stability = Stability(seconds, self._passes, len(self._moved), vanished)
        return replace(self._last, findings=findings, stability=stability)


def _pass(target: Target) -> Report | None:
    """The report of a pass, unless the target is not there any more at its end."""
    try:
        report = target.analyse()
    except Exception:
        # A target that is gone makes its readers fail in many ways.
        if target.is_there():
            raise
        return None
    return report if target.is_there() else None


def _suspicious(report: Report) -> frozenset[Finding]:
    """The errors and warnings, without what changes from pass to pass."""
    return frozenset(
        identity(finding) for finding in report.findings if finding.severity is not Severity.INFO
    )


def identity(finding: Finding) -> Finding:
    """A finding without what changes while the fault stays."""
    if finding.entry is not None:
        # The processor sets these bits when it uses the entry.
        finding = replace(finding, entry=without_use(finding.entry))
    return replace(finding, message="") if finding.rule in _SAME_BY_ENTRY else finding


def _moved(before: Report, after: Report) -> set[int]:
    """PFNs of the folios that are not what they were."""
    one, other = (
        set(
            zip(
                report.folios.folios.pfns,
                map(report.folios.folios.class_table.__getitem__, report.folios.folios.classes),
                report.folios.folios.states,
                map(report.folios.judgement_table.__getitem__, report.folios.judgements),
                report.folios.reuse_frames,
            )
        )
        for report in (before, after)
    )
    return {pfn for pfn, *_ in one ^ other}
