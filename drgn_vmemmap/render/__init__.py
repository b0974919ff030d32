# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reports as text: one file a format."""

from __future__ import annotations

from typing import Callable

from drgn_vmemmap.report import Report


def render(report: Report, format_name: str, folios: bool) -> str:
    """
    :param format_name: One of :data:`FORMATS`.
    :param folios: Whether to list each folio.
    :return: The report's text, with a newline at its end.
    """
    return FORMATS[format_name](report, folios)


def _table(report: Report, folios: bool) -> str:
    # Imported when asked for: a machine format needs no table.
    from drgn_vmemmap.render import table

    return table.render(report, folios)


def _json(report: Report, folios: bool) -> str:
    from drgn_vmemmap.render import json

    return json.render(report, folios)


FORMATS: dict[str, Callable[[Report, bool], str]] = {"table": _table, "json": _json}
"""Formats by name; the first is the default."""
