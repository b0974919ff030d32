# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as JSON Lines: the report itself, then each folio, then each finding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output import View
from drgn_vmemmap.output.json import document, finding_document, folio_document


def render(report: Report, view: View) -> str:
    """
    :return: One JSON object a line; its ``type`` is ``report``, ``folio`` or ``finding``.
    """
    return "".join(json.dumps(line) + "\n" for line in _lines(report, view))


def _lines(report: Report, view: View) -> Iterator[dict[str, Any]]:
    whole = document(report, folios=False)
    del whole["findings"]
    yield {"type": "report", **whole}
    if view.folios:
        for folio in report.folios:
            yield {"type": "folio", **folio_document(report.kernel, folio)}
    for finding in report.findings:
        yield {"type": "finding", **finding_document(finding)}
