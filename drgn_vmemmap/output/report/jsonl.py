# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as JSON Lines: the report itself, then each folio, then each finding."""

from __future__ import annotations

import json
from collections.abc import Iterator

from drgn_vmemmap.analysis.document import after_folios, before_folios
from drgn_vmemmap.analysis.listing import Listing, Traits, literal
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View
from drgn_vmemmap.output.report.json import json_values


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: One JSON object per line; its ``type`` is ``report``, ``folio`` or ``finding``.
    """
    after = after_folios(report)
    findings = after.pop("findings")
    yield json.dumps({"type": "report", **before_folios(report), **after}) + "\n"
    if view.folios:
        yield from Listing(report.kernel, report.folios).lines(_template)
    for finding in findings:
        yield json.dumps({"type": "finding", **finding}) + "\n"


def _template(traits: Traits) -> str:
    fields = ", ".join(
        f"{literal(json.dumps(name))}: {value}"
        for name, value in (("type", '"folio"'), *json_values(traits))
    )
    return f"{{{{{fields}}}}}\n"
