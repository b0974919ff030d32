# SPDX-License-Identifier: LGPL-2.1-or-later

"""The verification: each rule on all of the vmemmap, beyond what a report needs."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.checks.aliases import check_aliases
from drgn_vmemmap.analysis.checks.attributes import check_attributes
from drgn_vmemmap.analysis.checks.content import check_tails
from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.analysis.checks.counters import check_memmap_counters
from drgn_vmemmap.analysis.checks.frames import check_frames
from drgn_vmemmap.analysis.checks.given_back import check_given_back
from drgn_vmemmap.analysis.checks.presence import check_presence
from drgn_vmemmap.analysis.checks.tables import check_tables
from drgn_vmemmap.analysis.checks.unoptimized import check_unoptimized
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hvo.survey import Described, survey
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.rules.confirmed import counting
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.unchecked import with_meaning
from drgn_vmemmap.vmemmap.snapshot import Snapshot


def check(snapshot: Snapshot, progress: Progress = SILENT) -> Report:
    """
    Analyse a kernel whose facts are known, and check every rule.

    :param snapshot: Fresh for this analysis.
    :param progress: May end the analysis early.
    :raises MissingFacts: if the hstates are not in the dump.
    """
    report = analyse(snapshot, progress=progress, compare_tails=True)
    found = _findings(VmemmapContext(snapshot, report, progress))
    report.findings += counting(snapshot.kernel, with_meaning(snapshot.kernel, found))
    report.interrupted = progress.interrupted
    report.verified = True
    return report


def _findings(context: VmemmapContext) -> Iterator[Finding]:
    report, progress = context.report, context.progress
    yield from check_tails(context)
    described = Described(
        report.sections, report.folios, report.special, report.tail_frames, report.unknown
    )
    ownership = survey(context.snapshot, described, progress)
    yield from check_presence(context, ownership)
    yield from check_attributes(context, ownership)
    yield from check_aliases(context, ownership)
    yield from check_frames(context, ownership)
    yield from check_tables(context, ownership)
    yield from check_given_back(context, ownership)
    if not report.incomplete and not progress.interrupted:
        yield from check_memmap_counters(context, ownership)
    yield from check_unoptimized(context)
