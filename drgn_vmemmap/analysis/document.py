# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The document: a report as plain data, in the form that JSON has and that stays stable.

Addresses and raw entries are hex strings; PFNs and counts are integers. ``report.schema.json``
describes it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from drgn_vmemmap import __version__
from drgn_vmemmap.analysis.listing import COLUMNS, Listing
from drgn_vmemmap.rules.rule import RULES
from drgn_vmemmap.rules.unchecked import RESTS_ON

if TYPE_CHECKING:
    from drgn_vmemmap.analysis.report import HstateReport, Report, Stability, Totals
    from drgn_vmemmap.kernel.facts import Kernel
    from drgn_vmemmap.kernel.origin import Origin
    from drgn_vmemmap.rules.finding import Finding
    from drgn_vmemmap.vmemmap.special import SpecialVmemmap

SCHEMA_VERSION = 1

FOLIO_FIELDS = tuple(column.name for column in COLUMNS)
"""Names of a folio's fields, in their order."""


def document(report: Report, folios: bool) -> dict[str, Any]:
    """
    A report as plain data.

    :param folios: Whether to list the folios.
    """
    listed = Listing(report.kernel, report.folios).documents() if folios else None
    return {
        **before_folios(report),
        **({} if listed is None else {"folios": list(listed)}),
        **after_folios(report),
    }


def preamble() -> dict[str, Any]:
    """The fields with which each JSON document begins: its version, and the tool's."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "drgn-vmemmap", "version": __version__},
    }


def before_folios(report: Report) -> dict[str, Any]:
    """The part of the document that comes before the list of folios."""
    return {
        **preamble(),
        "target": _target(report.origin),
        "kernel": _kernel(report.kernel),
        "hstates": [_hstate(hstate) for hstate in report.hstates],
        "totals": _totals(report.totals),
    }


def after_folios(report: Report) -> dict[str, Any]:
    """The part of the document that comes after the list of folios."""
    stability = report.stability
    return {
        "others": [_special(special, report.kernel.page_size) for special in report.special],
        "selection": asdict(report.selection),
        "verified": report.verified,
        "incomplete": report.incomplete,
        "unrecognised": [
            {
                "message": each.message,
                "unchecked": [rule.name for rule in RESTS_ON[each.part]],
            }
            for each in report.kernel.unrecognised
        ],
        "interrupted": report.interrupted,
        "movement": None if stability is None else stability_document(stability),
        "findings": [finding_document(finding) for finding in report.findings],
    }


def stability_document(stability: Stability) -> dict[str, Any]:
    """The stability of a live kernel over several passes."""
    return {
        "seconds": stability.seconds,
        "looks": stability.passes,
        "moved": stability.moved,
        "transient": stability.transient,
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
        "meaning": RULES[finding.rule].meaning,
    }


def _target(origin: Origin) -> dict[str, Any]:
    time = origin.crash_time
    return {
        "file": origin.file,
        "host": origin.host,
        "crash_time": None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}",
    }


def _kernel(kernel: Kernel) -> dict[str, Any]:
    return {
        "release": kernel.release,
        "live": kernel.live,
        "types_from": kernel.types_from,
        "page_size": kernel.page_size,
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
        "resv_huge_pages": report.hstate.resv_huge_pages,
        "max_huge_pages": report.hstate.max_huge_pages,
        "vmemmap_pages": report.vmemmap_pages,
        **report.counts.as_dict(),
        "nodes": [
            {
                "node": node,
                **counters._asdict(),
                "vmemmap_pages": report.vmemmap_pages,
                **counts.as_dict(),
            }
            for node, counters, counts in report.by_node()
        ],
    }


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        **totals.counts.as_dict(),
        "freed_bytes": totals.freed_bytes,
        "page_tables": totals.page_tables,
        "shared_tail_frames": totals.shared_tail_frames,
        "net_saved_bytes": totals.net_saved_bytes,
        "still_possible_bytes": totals.still_possible_bytes,
    }


def _special(special: SpecialVmemmap, page_size: int) -> dict[str, Any]:
    return {
        "kind": special.kind,
        "pfn": special.pfns.start,
        "pages": len(special.pfns),
        "freed": special.freed,
        "freed_bytes": special.freed * page_size,
    }


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)
