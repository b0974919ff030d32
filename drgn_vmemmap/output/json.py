# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The report as JSON.

Addresses and raw entries are hex strings; PFNs and counts are integers.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from drgn_vmemmap import __version__
from drgn_vmemmap.analysis.report import FolioReport, HstateReport, Report, Stability, Totals
from drgn_vmemmap.hvo.judgement import format_ranges
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.output import View
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.rules.folio import MEANINGS, Finding
from drgn_vmemmap.vmemmap.special import SpecialVmemmap

SCHEMA_VERSION = 1

FOLIO_FIELDS = (
    "pfn",
    "head",
    "hstate",
    "order",
    "node",
    "state",
    "flag_optimized",
    "verdict",
    "layout",
    "mapped_by",
    "reuse_frame",
    "shared",
    "read_only",
    "freed",
)
"""Fields of a folio, in their order."""


def render(report: Report, view: View) -> str:
    """
    :return: One JSON document.
    """
    return json.dumps(document(report, view.folios), indent=1) + "\n"


def document(report: Report, folios: bool) -> dict[str, Any]:
    """The report as what JSON is made of."""
    kernel = report.kernel
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "drgn-vmemmap", "version": __version__},
        "kernel": _kernel(kernel),
        "hstates": [_hstate(hstate) for hstate in report.hstates],
        "totals": _totals(report.totals),
    }
    if folios:
        result["folios"] = [folio_document(kernel, folio) for folio in report.folios]
    result["others"] = [_other(other) for other in report.others]
    result["interrupted"] = report.interrupted
    result["movement"] = None if report.stability is None else stability_document(report.stability)
    result["findings"] = [finding_document(finding) for finding in report.findings]
    return result


def stability_document(stability: Stability) -> dict[str, Any]:
    """What several passes over a live kernel had in common."""
    return {
        "seconds": stability.seconds,
        "looks": stability.passes,
        "moved": stability.moved,
        "transient": stability.transient,
    }


def _kernel(kernel: Kernel) -> dict[str, Any]:
    return {
        "release": kernel.release,
        "live": kernel.live,
        "types_from": kernel.types_from,
        "page_size": PAGE_SIZE,
        "struct_page_size": kernel.page.size,
        "paging_levels": kernel.paging.levels,
        "vmemmap_base": hex(kernel.vmemmap),
        "hvo": {
            "built_in": kernel.hvo.built_in,
            "enabled": kernel.hvo.enabled,
            "layout": kernel.hvo.layout.value,
        },
    }


def _hstate(report: HstateReport) -> dict[str, Any]:
    return {
        "name": report.hstate.name,
        "order": report.hstate.order,
        **report.hstate.counters._asdict(),
        "vmemmap_pages": report.vmemmap_pages,
        **asdict(report.counts),
        "nodes": [
            {
                "node": node,
                **counters._asdict(),
                "vmemmap_pages": report.vmemmap_pages,
                **asdict(counts),
            }
            for node, counters, counts in report.by_node()
        ],
    }


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        **asdict(totals.counts),
        "freed_bytes": totals.freed_bytes,
        "page_tables": totals.page_tables,
        "shared_tail_frames": totals.shared_tail_frames,
        "net_saved_bytes": totals.net_saved_bytes,
        "still_possible_bytes": totals.still_possible_bytes,
    }


def folio_document(kernel: Kernel, report: FolioReport) -> dict[str, Any]:
    """One folio."""
    folio, judgement = report
    return {
        "pfn": folio.pfn,
        "head": hex(kernel.page_address(folio.pfn)),
        "hstate": folio.hstate,
        "order": folio.order,
        "node": folio.node,
        "state": folio.state.value,
        "flag_optimized": folio.flag_optimized,
        "verdict": judgement.verdict.value,
        "layout": judgement.layout.value,
        "mapped_by": judgement.mapped_by,
        "reuse_frame": judgement.reuse_frame,
        "shared": format_ranges(judgement.shared),
        "read_only": format_ranges(judgement.read_only),
        "freed": judgement.freed,
    }


def _other(other: SpecialVmemmap) -> dict[str, Any]:
    return {
        "kind": other.kind,
        "pfn": other.pfns.start,
        "pages": len(other.pfns),
        "freed": other.freed,
        "freed_bytes": other.freed * PAGE_SIZE,
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "folio": finding.folio,
        "index": finding.index,
        "address": _hex(finding.address),
        "entry": _hex(finding.entry),
        "entry_address": _hex(finding.entry_address),
        "message": finding.message,
        "expected": finding.expected,
        "meaning": MEANINGS[finding.rule],
    }


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)
