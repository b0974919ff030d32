# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The totals and findings as metrics, in Prometheus' text format.

Made for the textfile collector of node_exporter: write it with ``-o``, which
replaces the file at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import NamedTuple

from drgn_vmemmap.analysis.report import EVERYTHING, Report
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.output.report import View
from drgn_vmemmap.rules.rule import RULES
from drgn_vmemmap.vmemmap.special import BOOT, DEVICE, SELF_HOSTED

_PREFIX = "drgn_vmemmap_"


class Sample(NamedTuple):
    """One value of a metric."""

    value: int
    labels: dict[str, str]


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: Metrics, all of them gauges.
    """
    for metrics in (_kernel(report), _folios(report), _totals(report), _findings(report)):
        for name, about, samples in metrics:
            yield _metric(name, about, samples)


def _kernel(report: Report) -> Iterator[tuple[str, str, list[Sample]]]:
    kernel = report.kernel
    labels = {"release": kernel.release, "layout": kernel.hvo.layout.value}
    # The selection that the report is narrowed to.
    labels.update((k, str(v)) for k, v in asdict(report.selection).items() if v is not None)
    yield "info", "The kernel that was analysed.", [Sample(1, labels)]
    if kernel.hvo.enabled is not None:
        samples = [Sample(int(kernel.hvo.enabled), {})]
        yield "enabled", "Whether HVO is on for new folios.", samples
    samples = [Sample(int(report.incomplete), {})]
    what = "Whether memory that was needed could not be read, or a part was not recognised."
    yield "incomplete", what, samples


def _folios(report: Report) -> Iterator[tuple[str, str, list[Sample]]]:
    nodes = [
        ({"hstate": hstate.hstate.name, "node": _node(node)}, found)
        for hstate in report.hstates
        for node, _, found in hstate.by_node()
    ]
    samples = [
        Sample(found[verdict], {**labels, "verdict": verdict.value})
        for labels, found in nodes
        for verdict in Verdict
    ]
    yield "folios", "HugeTLB folios by what the page tables say of them.", samples
    samples = [Sample(found.freed * report.kernel.page_size, labels) for labels, found in nodes]
    yield "freed_bytes", "Memory that the folios' vmemmap does not use any more.", samples
    samples = [
        Sample(value, {"hstate": hstate.hstate.name, "counter": name})
        for hstate in report.hstates
        for name, value in hstate.hstate.counters._asdict().items()
        if value is not None
    ]
    yield "hstate_counters", "What the kernel counts, by the names of struct hstate.", samples


def _node(node: int | None) -> str:
    return "unknown" if node is None else str(node)


def _totals(report: Report) -> Iterator[tuple[str, str, list[Sample]]]:
    totals, page_size = report.totals, report.kernel.page_size
    # Page tables and frames that zones keep are shared with folios that are not selected.
    of_all = (
        ("page_table_bytes", "Page tables that HVO needs.", totals.page_tables * page_size),
        ("shared_tail_bytes", "Frames that zones keep.", totals.shared_tail_frames * page_size),
        ("net_saved_bytes", "Freed, less page tables and frames kept.", totals.net_saved_bytes),
    )
    of_some = (("still_possible_bytes", "What the rest would free.", totals.still_possible_bytes),)
    for name, about, value in (of_all if report.selection == EVERYTHING else ()) + of_some:
        yield name, about, [Sample(value, {})]
    freed = Counter({DEVICE: 0, SELF_HOSTED: 0, BOOT: 0})
    for special in report.special:
        freed[special.kind] += special.freed * page_size
    samples = [Sample(value, {"kind": kind}) for kind, value in freed.items()]
    yield "other_freed_bytes", "Memory that special vmemmap saves, such as a device's.", samples


def _findings(report: Report) -> Iterator[tuple[str, str, list[Sample]]]:
    counts = Counter(
        {
            (rule.name, rule.severity.value): 0
            for rule in RULES.values()
            if (report.verified or not rule.verify_only) and rule.name not in report.unchecked
        }
    )
    counts.update((finding.rule, finding.severity.value) for finding in report.findings)
    samples = [
        Sample(count, {"rule": rule, "severity": severity})
        for (rule, severity), count in counts.items()
    ]
    yield "findings", "Places where a rule does not hold; verify alone checks all.", samples


def _metric(name: str, about: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {_PREFIX}{name} {about}", f"# TYPE {_PREFIX}{name} gauge"]
    for sample in samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        lines.append(f"{_PREFIX}{name}{{{labels}}} {sample.value}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
