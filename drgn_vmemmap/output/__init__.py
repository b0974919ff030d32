# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reports as text: one file a format."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.samples import Sample


class View(NamedTuple):
    """What of a report is shown."""

    folios: bool = False
    """List each folio."""
    details: bool = False
    """Tell of each finding what it means and where to look."""
    all_findings: bool = False
    """However many findings there are of one kind."""
    samples: Sequence[Sample] = ()
    """Draw these folios."""


def render(report: Report, format_name: str, view: View) -> str:
    """
    :param format_name: The name of a room of this package: one of :data:`cli.report.FORMATS`.
    :return: The report's text, with a newline at its end.
    """
    # Imported when asked for: a machine format needs no table.
    room = import_module(f"{__name__}.{format_name}")
    text: str = room.render(report, view)
    return text
