# SPDX-License-Identifier: LGPL-2.1-or-later

"""Watching a live kernel: a look every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.analysis.live import Target, confirm
from drgn_vmemmap.analysis.report import HstateReport, Report
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.progress import Progress
from drgn_vmemmap.rules.finding import Finding

# How soon the user's Ctrl-C is seen, in seconds.
_PATIENCE = 0.1


class Counted(NamedTuple):
    """What is watched of one hstate."""

    folios: int
    optimized: int
    freed: int
    """Frames."""

    @property
    def saved(self) -> int:
        """Bytes that the freed frames had."""
        return self.freed * PAGE_SIZE

    def since(self, before: Counted) -> Counted:
        """What came, and as a negative number what went."""
        return Counted(*(now - then for now, then in zip(self, before)))


class Pass(NamedTuple):
    """One look, and what changed since the one before it."""

    time: float
    """Seconds since 1970."""
    report: Report
    counted: dict[str, Counted]
    """By hstate."""
    changed: dict[str, Counted]
    """Since the look before; nothing for the first one."""


def watch(target: Target, interval: float, count: int | None, progress: Progress) -> Iterator[Pass]:
    """
    Look again and again.

    :param interval: Seconds from the beginning of one look to that of the next.
    :param count: How many looks; ``None`` for no end.
    :param progress: Whether the user has had enough.
    """
    before: dict[str, Counted] = {}
    number = 0
    while count is None or number < count:
        start = time.monotonic()
        report = confirm(target)
        counted = {hstate.hstate.name: _counted(hstate) for hstate in report.hstates}
        nothing = Counted(0, 0, 0)
        changed = {
            name: counts.since(before.get(name, counts if not before else nothing))
            for name, counts in counted.items()
        }
        yield Pass(time.time(), report, counted, changed)
        before = counted
        number += 1
        while time.monotonic() - start < interval and number != count:
            if progress.interrupted:
                return
            time.sleep(min(_PATIENCE, interval))
        if progress.interrupted:
            return


def _counted(hstate: HstateReport) -> Counted:
    counts = hstate.counts
    return Counted(counts.folios, counts[Verdict.OPTIMIZED], counts.freed)


def found(pass_: Pass, rule: str) -> list[Finding]:
    """Findings of one rule."""
    return [finding for finding in pass_.report.findings if finding.rule == rule]
