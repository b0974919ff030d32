# SPDX-License-Identifier: LGPL-2.1-or-later

"""The folios as CSV, a row for each, with the columns that JSON has as fields."""

from __future__ import annotations

import csv
import io

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output import View
from drgn_vmemmap.output.json import FOLIO_FIELDS, folio_document


def render(report: Report, view: View) -> str:
    """
    :return: A heading and a row a folio; what is not known is empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, FOLIO_FIELDS, lineterminator="\n")
    writer.writeheader()
    for folio in report.folios:
        document = folio_document(report.kernel, folio)
        writer.writerow({name: _cell(value) for name, value in document.items()})
    return text.getvalue()


def _cell(value: object) -> object:
    """A value as JSON writes it, but nothing for what is not known."""
    return str(value).lower() if isinstance(value, bool) else value
