# SPDX-License-Identifier: LGPL-2.1-or-later

"""The difference of two reports as text, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from tabulate import tabulate

from drgn_vmemmap.analysis.difference import Change, Difference
from drgn_vmemmap.errors import printable


def render(difference: Difference, format_name: str) -> str:
    """
    :param format_name: ``table`` or ``json``.
    """
    return _json(difference) if format_name == "json" else _table(difference)


def _json(difference: Difference) -> str:
    document = {
        "differs": difference.differs,
        "totals": {
            name: {"before": before, "after": after}
            for name, (before, after) in difference.totals.items()
        },
        "changes": [
            {
                "pfn": change.pfn,
                "kind": change.kind,
                "fields": change.fields,
                "before": change.before,
                "after": change.after,
            }
            for change in difference.changes
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _table(difference: Difference) -> str:
    if not difference.differs:
        return "no difference\n"
    parts = ["\n".join(map(_line, difference.changes))] if difference.changes else []
    rows = [
        (name, before, after, f"{after - before:+}")
        for name, (before, after) in difference.totals.items()
        if before != after
    ]
    if rows:
        parts.append(tabulate(rows, ("total", "before", "after", ""), disable_numparse=True))
    parts.append(", ".join(_counts(difference)) or "no folio differs")
    return "\n\n".join(parts) + "\n"


def _counts(difference: Difference) -> Iterator[str]:
    for kind, count in Counter(change.kind for change in difference.changes).items():
        yield f"{count} {kind}"


def _line(change: Change) -> str:
    folio = change.after or change.before or {}
    about = f"{folio.get('hstate')}, {folio.get('state')}, {folio.get('verdict')}"
    if change.before is not None and change.after is not None:
        about = ", ".join(
            f"{name} {_value(name, change.before.get(name))} -> "
            f"{_value(name, change.after.get(name))}"
            for name in change.fields
        )
    return printable(f"{change.kind}: folio {change.pfn:#x}: {about}")


def _value(name: str, value: object) -> object:
    if value in (None, ""):
        return "none"
    return hex(value) if name == "reuse_frame" and isinstance(value, int) else value
