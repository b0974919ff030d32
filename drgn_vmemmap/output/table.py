# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as tables that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tabulate import tabulate

from drgn_vmemmap.analysis.report import (
    Counts,
    FolioReport,
    HstateReport,
    Report,
    Stability,
    Totals,
)
from drgn_vmemmap.hvo.judgement import format_ranges
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.output import View
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.rules.folio import MEANINGS, Finding, Severity
from drgn_vmemmap.vmemmap.special import ABOUT, SpecialVmemmap

# Findings of one kind that are shown if not all are asked for.
_FIRST = 3


def render(report: Report, view: View) -> str:
    """
    :return: Lines for a terminal, ASCII only.
    """
    parts = [_kernel(report.kernel), _hstates(report.hstates), _totals(report.totals)]
    if report.others:
        parts.append("\n".join(_others(report.others)))
    if view.folios:
        parts.append(_folios(report.folios))
    limit = None if view.all_findings else _FIRST
    findings = explained(report.findings, limit) if view.details else _findings(report.findings)
    parts.append("\n".join(findings))
    if report.stability is not None:
        parts.append(_movement(report.stability))
    if report.interrupted:
        parts.append("interrupted: this is not all")
    return "\n\n".join(parts) + "\n"


def _kernel(kernel: Kernel) -> str:
    hvo = kernel.hvo
    state = {True: "on", False: "off", None: "perhaps on"}[hvo.enabled]
    return "\n".join(
        (
            f"Linux {kernel.release}, {'live' if kernel.live else 'dump'}, "
            f"{kernel.paging.levels}-level paging, types from {kernel.types_from.upper()}",
            f"HVO {state} for new folios, layout {hvo.layout.value}"
            if hvo.built_in
            else "HVO is not built in",
        )
    )


def _hstates(hstates: Sequence[HstateReport]) -> str:
    headers = ["", "node", "folios", "optimized", "not", "inconsistent", "unreadable"]
    rows: list[Sequence[object]] = []
    for hstate in hstates:
        nodes = hstate.by_node()
        if len(nodes) != 1:
            rows.append([hstate.hstate.name, "all", *_counts(hstate.counts)])
        for node, _, counts in nodes:
            name = hstate.hstate.name if len(nodes) == 1 else ""
            rows.append([name, node, *_counts(counts)])
    return _tabulate(rows, [*headers, "freed frames", "freed"])


def _counts(counts: Counts) -> Sequence[object]:
    return (
        counts.folios,
        counts.optimized,
        counts.unoptimized,
        counts.inconsistent,
        counts.unreadable,
        counts.freed,
        size(counts.freed * PAGE_SIZE),
    )


def _totals(totals: Totals) -> str:
    spent = plural(totals.page_tables, "page table")
    if totals.shared_tail_frames:
        spent += " and " + plural(totals.shared_tail_frames, "shared tail frame")
    return (
        f"net saving {size(totals.net_saved_bytes)}: {size(totals.freed_bytes)} freed, "
        f"less {spent}; still possible {size(totals.still_possible_bytes)}"
    )


def _movement(stability: Stability) -> str:
    return (
        f"looked {stability.passes} times in {stability.seconds:.1f} s: "
        f"{plural(stability.moved, 'folio')} moved, "
        f"{plural(stability.transient, 'transient finding')}"
    )


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _folios(folios: Iterable[FolioReport]) -> str:
    headers = ["PFN", "hstate", "node", "state", "flag", "verdict", "layout", "mapped by"]
    flags = {True: "optimized", False: "-", None: "?"}
    rows = [
        [
            hex(folio.pfn),
            folio.hstate,
            "?" if folio.node is None else folio.node,
            folio.state.value,
            flags[folio.flag_optimized],
            judgement.verdict.value,
            judgement.layout.value,
            judgement.mapped_by or "?",
            "-" if judgement.reuse_frame is None else hex(judgement.reuse_frame),
            format_ranges(judgement.shared) or "-",
            format_ranges(judgement.read_only) or "-",
            judgement.freed,
        ]
        for folio, judgement in folios
    ]
    return _tabulate(rows, [*headers, "reuse frame", "shared", "read-only", "freed"])


def _others(others: Sequence[SpecialVmemmap]) -> Iterator[str]:
    """One line a kind of vmemmap that is special without being a fault."""
    for kind, text in ABOUT.items():
        found = [other for other in others if other.kind == kind]
        if found:
            memory = size(sum(len(other.pfns) for other in found) * PAGE_SIZE)
            saved = size(sum(other.freed for other in found) * PAGE_SIZE)
            yield f"{text}: {memory}, saves {saved}"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    """One line a rule: how often it fired, and the first place."""
    if not findings:
        yield "no findings"
    for (severity, rule), found in _by_rule(findings):
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield f"{severity.value}: {rule}: {place(first)}{first.message}{more}"


def explained(findings: Sequence[Finding], limit: int | None) -> Iterator[str]:
    """A paragraph a rule: what it means, and the first places or all of them."""
    if not findings:
        yield "no findings"
    for number, ((severity, rule), found) in enumerate(_by_rule(findings)):
        if number:
            yield ""
        yield f"{severity.value}: {rule}, {plural(len(found), 'time')}. {MEANINGS[rule]}"
        for finding in found[:limit]:
            yield f"  {place(finding)}{finding.message}"
            where = list(_where(finding))
            if where:
                yield "    " + "; ".join(where)
        if limit is not None and len(found) > limit:
            yield f"  and {len(found) - limit} more: --all shows them"


def _by_rule(findings: Iterable[Finding]) -> list[tuple[tuple[Severity, str], list[Finding]]]:
    """Findings by severity and rule, the worst first."""
    found: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.severity, finding.rule), []).append(finding)
    worst = list(Severity)
    return sorted(found.items(), key=lambda item: worst.index(item[0][0]))


def _where(finding: Finding) -> Iterator[str]:
    """Where to look, and what should be there."""
    if finding.address is not None:
        yield f"address {finding.address:#x}"
    if finding.entry_address is not None:
        entry = "entry" if finding.entry is None else f"entry {finding.entry:#018x}"
        yield f"{entry} at physical {finding.entry_address:#x}"
    if finding.expected:
        yield f"should be: {finding.expected}"


def place(finding: Finding) -> str:
    """Where a finding is, to stand before its message."""
    if finding.folio is None:
        return ""
    page = "" if finding.index is None else f", vmemmap page {finding.index}"
    return f"folio {finding.folio:#x}{page}: "


def size(count: int) -> str:
    """A number of bytes, for a person."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"


def _tabulate(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    # Numbers to the right, words to the left; what a column holds is seen in its first row.
    numbers = [isinstance(cell, int) for cell in rows[0]] if rows else []
    return tabulate(
        rows,
        headers,
        disable_numparse=True,
        colalign=["right" if number else "left" for number in numbers] or None,
    )
