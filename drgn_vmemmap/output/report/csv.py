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

# A cell that begins so is run by spreadsheets.
_FORMULAS = ("=", "+", "-", "@")

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
    values = (column.value(traits) for column in COLUMNS)
    return _row(v.text if isinstance(v, Own) else literal(_cell(v)) for v in values)


def _cell(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return no_formula(value)
    return "" if value is None else str(value)


def no_formula(text: str) -> str:
    """Text from a dump as a spreadsheet takes it for text, whatever it begins with."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _row(cells: Iterable[str]) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(cells)
    return row.getvalue()
