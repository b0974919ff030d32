# SPDX-License-Identifier: LGPL-2.1-or-later

"""The report as one JSON document."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.analysis.listing import COLUMNS, Listing, Own, Traits, literal
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View

# An empty list of folios. Within a JSON string quotes and newlines are escaped, so this is no
# part of one.
_NO_FOLIOS = '\n "folios": [],\n'


def render(report: Report, view: View) -> Iterator[str]:
    """
    :return: What ``json.dumps(document(report, view.folios), indent=1)`` gives, in pieces.
    """
    contents = document(report, folios=False)
    if view.folios:
        # In the place that document() gives it.
        keys = list(contents)
        position = keys.index("others")
        items = list(contents.items())
        contents = dict([*items[:position], ("folios", []), *items[position:]])
    before, folios, after = (json.dumps(contents, indent=1) + "\n").partition(_NO_FOLIOS)
    yield before
    if folios and not len(report.folios):
        yield folios
    elif folios:
        yield '\n "folios": [\n'
        lines = Listing(report.kernel, report.folios).lines(_template)
        yield next(lines)
        for line in lines:
            yield ",\n" + line
        yield "\n ],\n"
    yield after


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
