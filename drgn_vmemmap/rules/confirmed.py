# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The findings that passes over a running kernel confirmed, as the extract of its last pass records
them.

Such an extract holds memory that changed while it was read: it may show a state that never was. A
line of its VMCOREINFO says which findings other passes had, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import UNREADABLE

# A rule with more findings than this is recorded as confirmed everywhere.
_LIMIT = 50


def recorded(findings: Iterable[Finding]) -> str:
    """
    The confirmed findings, as the line of VMCOREINFO has them.

    :param findings: All that count; notes are not recorded.
    """
    by_rule: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity is not Severity.INFO:
            by_rule.setdefault(finding.rule, []).append(_place(finding))
    words = (
        word
        for rule, places in by_rule.items()
        for word in (places if len(places) <= _LIMIT else [rule])
    )
    return " ".join(words)


def counting(kernel: Kernel, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings that count: of an extract of a running kernel, those that were confirmed."""
    confirmed = kernel.confirmed
    if confirmed is None:
        yield from findings
        return
    for finding in findings:
        is_about_kernel = finding.severity is not Severity.INFO and finding.rule != UNREADABLE.name
        if not is_about_kernel or confirmed & {finding.rule, _place(finding)}:
            yield finding


def _place(finding: Finding) -> str:
    place = (finding.folio, finding.index, finding.address)
    return ",".join((finding.rule, *("" if each is None else f"{each:x}" for each in place)))
