# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The rules as tests, in KTAP: the Kernel Test Anything Protocol, version 1.

Follows ``Documentation/dev-tools/ktap.rst``. Each rule is a test; its findings are diagnostic
lines before the result. A test fails where a finding is an error: warnings and what is merely
worth knowing are diagnostics of a test that passes. What is not in the dump fails the test
``unreadable`` with the directive ERROR, since no other result is complete then. A rule that
does not apply to this kernel, or that was not checked, is skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.findings import verdict
from drgn_vmemmap.output.report import View
from drgn_vmemmap.output.terminal import PLAIN
from drgn_vmemmap.output.text import place, plural
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import (
    FLAG_MISMATCH,
    REUSE_INVALID,
    REUSE_MISMATCH,
    RULES,
    STALE_STRUCT_PAGE,
    TAIL_WRITABLE,
    UNOPTIMIZED,
    UNREADABLE,
)

# Findings of one rule that are written if not all are asked for.
_FIRST = 10

_NEED_HVO = (
    TAIL_WRITABLE,
    REUSE_MISMATCH,
    REUSE_INVALID,
    FLAG_MISMATCH,
    STALE_STRUCT_PAGE,
    UNOPTIMIZED,
)
"""Rules on what a kernel without HVO never does."""


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: A version line, a plan, and one test per rule, in the order of the rules.
    """
    yield f"KTAP version 1\n1..{len(RULES)}\n"
    yield f"# Linux {report.kernel.release}, HVO layout {report.kernel.hvo.layout.value}\n"
    by_rule: dict[str, list[Finding]] = {rule: [] for rule in RULES}
    for finding in report.findings:
        by_rule[finding.rule].append(finding)
    limit = None if view.all_findings else _FIRST
    for number, (rule, findings) in enumerate(by_rule.items(), 1):
        for line in _diagnostics(findings, limit):
            yield f"# {rule}: {line}\n"
        yield _result(report, number, rule, findings)
    yield f"# {verdict(report, PLAIN)}\n"


def _diagnostics(findings: Sequence[Finding], limit: int | None) -> Iterator[str]:
    for finding in findings[:limit]:
        expected = f"; should be: {finding.expected}" if finding.expected else ""
        yield f"{finding.severity.value}: {place(finding)}{finding.message}{expected}"
    if limit is not None and len(findings) > limit:
        yield f"and {len(findings) - limit:,} more: verify --all writes them"


def _result(report: Report, number: int, rule: str, findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    passed = not counts[Severity.ERROR]
    data = ", ".join(
        plural(counts[severity], noun)
        for severity, noun in (
            (Severity.ERROR, "error"),
            (Severity.WARNING, "warning"),
            (Severity.INFO, "note"),
        )
        if counts[severity]
    )
    if rule == UNREADABLE.name and (report.lacks_memory or report.interrupted):
        passed, data = False, "ERROR memory that the rules need is not in the dump"
        if report.interrupted:
            data = "ERROR the analysis was interrupted"
    elif not findings:
        reason = _why_skipped(report, rule)
        data = f"SKIP {reason}" if reason else ""
    return f"{'ok' if passed else 'not ok'} {number} {rule}{f' # {data}' if data else ''}\n"


def _why_skipped(report: Report, rule: str) -> str:
    """Why a rule was not checked; empty if it was."""
    if RULES[rule].verify_only and not report.verified:
        return "only verify checks this rule"
    if RULES[rule] in _NEED_HVO and not report.kernel.hvo.built_in:
        return "HVO is not built in"
    return report.unchecked.get(rule, "")
