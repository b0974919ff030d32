# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Looking at a kernel that moves: twice before it is accused.

Between a list and the page tables, folios come and go, tables are freed and
their frames are used again. What is seen once may be no more than that; what
looks of their own, a moment apart, see in the same place counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Callable

from drgn_vmemmap.report import Movement, Report
from drgn_vmemmap.rules import Finding, Severity

# Two looks tell what moves; what both find wrong, two more have to see, too.
_LOOKS = 4

_PAUSE = 0.1
"""Between two looks, in seconds: a remap takes far less."""


def steady(look: Callable[[], Report], pause: float = _PAUSE) -> Report:
    """
    Look at a live kernel until what is found wrong is certain, or gone.

    :param look: Takes a fresh look.
    :param pause: Seconds between two looks.
    :return: The last look, with the findings that all of them have in common, and
        what is merely worth knowing; :attr:`Report.movement` says what vanished.
    """
    start = time.monotonic()
    report = look()
    seen = set(_suspicious(report))
    transient = moved = 0
    looks = 1
    while looks < 2 or (seen and looks < _LOOKS):
        if report.interrupted:
            break
        time.sleep(pause)
        before, report = report, look()
        looks += 1
        moved = max(moved, _moved(before, report))
        now = set(_suspicious(report))
        transient += len(seen ^ now)
        seen &= now
    findings = [
        finding
        for finding in report.findings
        if finding.severity is Severity.INFO or finding in seen
    ]
    seconds = max(0.0, time.monotonic() - start)
    movement = Movement(seconds, looks, moved, transient)
    return replace(report, findings=findings, movement=movement)


def _suspicious(report: Report) -> Iterator[Finding]:
    return (finding for finding in report.findings if finding.severity is not Severity.INFO)


def _moved(before: Report, after: Report) -> int:
    """How many folios are not what they were."""
    one, other = (
        set(
            zip(
                report.folios.folios.pfns,
                map(report.folios.folios.kind_table.__getitem__, report.folios.folios.kinds),
                report.folios.folios.states,
                map(report.folios.judgement_table.__getitem__, report.folios.judgements),
                report.folios.reuse_frames,
            )
        )
        for report in (before, after)
    )
    return len({pfn for pfn, *_ in one ^ other})
