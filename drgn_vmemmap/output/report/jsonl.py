# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as JSON Lines: the report itself, then each folio, then each finding."""

from __future__ import annotations

import json
from collections.abc import Iterator

from drgn_vmemmap.analysis.document import document, finding_document
from drgn_vmemmap.analysis.listing import Listing, Traits, literal
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View
from drgn_vmemmap.output.report.json import json_values


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: One JSON object per line; its ``type`` is ``report``, ``folio`` or ``finding``.
    """
    contents = document(report, folios=False)
    del contents["findings"]
    yield json.dumps({"type": "report", **contents}) + "\n"
    if view.folios:
        yield from Listing(report.kernel, report.folios).lines(_template)
    for finding in report.findings:
        yield json.dumps({"type": "finding", **finding_document(finding)}) + "\n"


def _template(traits: Traits) -> str:
    fields = ", ".join(
        f"{literal(json.dumps(name))}: {value}"
        for name, value in (("type", '"folio"'), *json_values(traits))
    )
    return f"{{{{{fields}}}}}\n"
