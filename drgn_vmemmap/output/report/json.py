# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as one JSON document."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from drgn_vmemmap.analysis.document import after_folios, before_folios
from drgn_vmemmap.analysis.listing import COLUMNS, Listing, Own, Traits, literal
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: What ``json.dumps(document(report, view.folios), indent=1)`` gives, in pieces.
    """
    yield json.dumps(before_folios(report), indent=1).removesuffix("\n}") + ",\n"
    if view.folios:
        yield from _folios(Listing(report.kernel, report.folios))
    yield json.dumps(after_folios(report), indent=1).removeprefix("{\n") + "\n"


def _folios(listing: Listing) -> Iterator[str]:
    """The field ``folios``, and the comma after it."""
    if not len(listing):
        yield ' "folios": [],\n'
        return
    yield ' "folios": [\n'
    lines = listing.lines(_template)
    yield next(lines)
    for line in lines:
        yield ",\n" + line
    yield "\n ],\n"


def _template(traits: Traits) -> str:
    fields = ",\n".join(
        f" {literal(json.dumps(name))}: {value}" for name, value in json_values(traits)
    )
    return textwrap.indent(f"{{{{\n{fields}\n}}}}", "  ")


def json_values(traits: Traits) -> Iterator[tuple[str, str]]:
    """Name of each field of a folio, and its value as JSON for ``str.format()``."""
    for column in COLUMNS:
        value = column.value(traits)
        yield column.name, value.json if isinstance(value, Own) else literal(json.dumps(value))
