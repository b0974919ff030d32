# SPDX-License-Identifier: LGPL-2.1-or-later

"""Findings as text, and the verdict that ends ``verify``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.terminal import Style
from drgn_vmemmap.output.text import place, plural
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import RULES

FIRST = 3
"""Findings of a rule that are shown if not all are asked for."""

# Parameters of the control sequence "select graphic rendition".
_COLOURS = {"broken": "1;31", "incomplete": "33", "doubtful": "33", "sound": "32"}


def by_rule(findings: Iterable[Finding]) -> list[tuple[Severity, str, list[Finding]]]:
    """Severity and name of each rule that does not hold, the worst first, and its findings."""
    found: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.severity, finding.rule), []).append(finding)
    worst = list(Severity)
    return [
        (severity, rule, alike)
        for (severity, rule), alike in sorted(found.items(), key=lambda i: worst.index(i[0][0]))
    ]


def in_short(findings: Sequence[Finding], style: Style) -> Iterator[str]:
    """One line per rule: the first place, and how many more there are."""
    if not findings:
        yield "no findings"
    for severity, rule, found in by_rule(findings):
        first = found[0]
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        yield f"{style.severity(severity)}: {rule}: {place(first)}{first.message}{more}"


def explained(findings: Sequence[Finding], limit: int | None, style: Style) -> Iterator[str]:
    """
    A paragraph per rule: what its findings mean, and the places.

    :param limit: How many places of a rule are shown; ``None`` for all.
    """
    if not findings:
        yield "no findings"
    for number, (severity, rule, found) in enumerate(by_rule(findings)):
        if number:
            yield ""
        times = plural(len(found), "time")
        yield f"{style.severity(severity)}: {rule}, {times}. {RULES[rule].meaning}"
        for finding in found[:limit]:
            yield f"  {place(finding)}{finding.message}"
            where = list(_where(finding))
            if where:
                yield "    " + "; ".join(where)
        if limit is not None and len(found) > limit:
            yield f"  and {len(found) - limit:,} more: verify --all shows them"


def _where(finding: Finding) -> Iterator[str]:
    """Where to look, and what should be there."""
    if finding.address is not None:
        yield f"address {finding.address:#x}"
    if finding.entry_address is not None:
        entry = "entry" if finding.entry is None else f"entry {finding.entry:#018x}"
        yield f"{entry} at physical {finding.entry_address:#x}"
    if finding.expected:
        yield f"should be: {finding.expected}"


def verdict(report: Report, style: Style) -> str:
    """How much was checked, and whether anything is broken, in one line."""
    geometry = report.kernel.geometry
    pfns = sum(len(section.pfns) for section in report.sections)
    vmemmap_pages = pfns * geometry.struct_size // geometry.page_size
    checked = ", ".join(
        (
            plural(len(report.folios), "folio"),
            plural(vmemmap_pages, "vmemmap page"),
            _rules_checked(report),
        )
    )
    concluded = conclusion(report)
    return f"{checked}: {style.coloured(concluded.text, _COLOURS[concluded.kind])}"


def _rules_checked(report: Report) -> str:
    missing = len(report.unchecked)
    if not missing:
        return plural(len(RULES), "rule")
    return f"{len(RULES) - missing} of {plural(len(RULES), 'rule')} in full"


class Conclusion(NamedTuple):
    """Whether anything is broken."""

    kind: str
    """``broken``, ``incomplete``, ``doubtful`` (there are warnings) or ``sound``."""
    text: str


def conclusion(report: Report) -> Conclusion:
    """Whether anything is broken, as far as the report's rules say."""
    counts = Counter(finding.severity for finding in report.findings)
    if report.broken:
        found = plural(counts[Severity.ERROR], "error")
        if counts[Severity.WARNING]:
            found += f", {plural(counts[Severity.WARNING], 'warning')}"
        return Conclusion("broken", f"broken ({found})")
    if report.incomplete:
        return Conclusion("incomplete", "incomplete; nothing is known to be broken")
    if counts[Severity.WARNING]:
        found = plural(counts[Severity.WARNING], "warning")
        return Conclusion("doubtful", f"nothing is broken ({found})")
    return Conclusion("sound", "nothing is broken")
