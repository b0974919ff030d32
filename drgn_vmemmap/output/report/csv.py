# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The folios, or the findings of a verification, as CSV: one row each, with the fields that JSON has.
PFNs are in hex.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from drgn_vmemmap.analysis.document import finding_document
from drgn_vmemmap.analysis.listing import COLUMNS, Listing, Own, Traits, Value, literal
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import RULES

_NO_FINDING = Finding(next(iter(RULES)), Severity.INFO, "")
"""Has the fields that findings have."""


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: A heading, and one row per folio, or, if only details are shown, per finding; what is
        not known is empty.
    """
    if view.details and not view.folios:
        yield from _findings(report)
        return
    yield _row(column.name for column in COLUMNS)
    yield from Listing(report.kernel, report.folios).lines(_template)


def _findings(report: Report) -> Iterator[str]:
    yield _row(finding_document(_NO_FINDING))
    for finding in report.findings:
        fields = finding_document(finding)
        if finding.folio is not None:
            fields["folio"] = hex(finding.folio)
        yield _row(map(_cell, fields.values()))


def _template(traits: Traits) -> str:
    return _row(_cell(column.value(traits)) for column in COLUMNS)


def _cell(value: Value | Own) -> str:
    if isinstance(value, Own):
        return value.text
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else literal(str(value))


def _row(cells: Iterable[str]) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(cells)
    return row.getvalue()
