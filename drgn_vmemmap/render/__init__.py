# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reports as text: one file a format."""

from __future__ import annotations

from typing import Callable, NamedTuple

from drgn_vmemmap.report import Report


class View(NamedTuple):
    """What of a report is shown."""

    folios: bool = False
    """List each folio."""
    details: bool = False
    """Tell of each finding what it means and where to look."""
    all_findings: bool = False
    """However many findings there are of one kind."""


def render(report: Report, format_name: str, view: View) -> str:
    """
    :param format_name: One of :data:`FORMATS`.
    :return: The report's text, with a newline at its end.
    """
    return FORMATS[format_name](report, view)


def _table(report: Report, view: View) -> str:
    # Imported when asked for: a machine format needs no table.
    from drgn_vmemmap.render import table

    return table.render(report, view)


def _json(report: Report, view: View) -> str:
    from drgn_vmemmap.render import json

    return json.render(report, view.folios)


FORMATS: dict[str, Callable[[Report, View], str]] = {"table": _table, "json": _json}
"""Formats by name; the first is the default."""
