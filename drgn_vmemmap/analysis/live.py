# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Looking at a kernel that moves: more than once before it is accused.

Between a list and the page tables, folios come and go, tables are freed and
their frames are used again. What is seen once may be no more than that; what
looks of their own, a moment apart, see in the same place counts.
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

# Seconds between two looks: a remap takes far less. Two looks tell what moves; what both find
# wrong, the others have to see, too. A folio that goes to and fro between two states can be seen
# half in the one and half in the other in one look of four, and so in one series of 4**8; pauses
# of different lengths do not keep time with it, and outlast a remap whose task waits for its turn.
_PAUSES = (0.1, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

# What else their messages tell of, such as a free block's size, may move while the fault stays.
_TOLD_BY_ENTRY = ("frame-freed", "frame-aliased", "orphan-remap")

GONE = Finding(
    "unreadable",
    Severity.WARNING,
    "the target went away, or cannot be read any more: this is what was seen before",
)


class Target(NamedTuple):
    """A live kernel, to be looked at again and again."""

    analyse: Callable[[], Report]
    """Takes a fresh look."""
    is_there: Callable[[], bool]
    """Whether it can still be read: a guest may have ended."""


def confirm(target: Target, progress: Progress = SILENT) -> Report:
    """
    Look at a live kernel until what is found wrong is certain, or gone.

    :param progress: Ends the pauses between passes; the passes have their own.
    :return: The last whole look, with the findings that all of them have in common, and what is
        merely worth knowing; :attr:`Report.movement` says what vanished. Where the target went
        away meanwhile, :data:`GONE` is among them.
    :raises MissingFacts: if it went away before one look was done.
    """
    start = time.monotonic()
    report = _pass(target)
    if report is None:
        raise MissingFacts("the target went away before one look was done")
    lasting = seen = _suspicious(report)
    passes, moved, gone = 1, set[int](), []
    for pause in _PAUSES:
        if report.interrupted or (passes > 1 and not lasting):
            break
        progress.pause(pause)
        if progress.interrupted:
            report = replace(report, interrupted=True)
            break
        newer = _pass(target)
        if newer is None:
            gone.append(GONE)
            break
        if newer.interrupted:
            report = replace(report, interrupted=True)
            break
        passes += 1
        moved |= _moved(report, newer)
        report, now = newer, _suspicious(newer)
        lasting, seen = lasting & now, seen | now
    if passes == 1:
        lasting = frozenset()
    findings = [
        finding
        for finding in report.findings
        if finding.severity is Severity.INFO or identity(finding) in lasting
    ]
    seconds = time.monotonic() - start
    stability = Stability(seconds, passes, len(moved), len(seen - lasting))
    return replace(report, findings=findings + gone, stability=stability)


def _pass(target: Target) -> Report | None:
    """A look, unless the target is not there any more at its end."""
    try:
        report = target.analyse()
    except Exception:
        # Whatever a reader fails with, that there is nothing to read explains it.
        if target.is_there():
            raise
        return None
    return report if target.is_there() else None


def _suspicious(report: Report) -> frozenset[Finding]:
    """What is wrong, as far as a fault stays the same from look to look."""
    return frozenset(
        identity(finding) for finding in report.findings if finding.severity is not Severity.INFO
    )


def identity(finding: Finding) -> Finding:
    """A finding without what changes while the fault stays."""
    if finding.entry is not None:
        # The processor sets these bits when it uses the entry.
        finding = replace(finding, entry=without_use(finding.entry))
    return replace(finding, message="") if finding.rule in _TOLD_BY_ENTRY else finding


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
