# SPDX-License-Identifier: LGPL-2.1-or-later

"""The folios as CSV, one row each, with the fields that JSON has; PFNs are in hex."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from drgn_vmemmap.analysis.listing import COLUMNS, Listing, Own, Traits, Value, literal
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: A heading, and one row per folio; what is not known is empty.
    """
    yield _row(column.name for column in COLUMNS)
    yield from Listing(report.kernel, report.folios).lines(_template)


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
