# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reports as text: one module per format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NamedTuple

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.samples import Sample
from drgn_vmemmap.output.terminal import PLAIN, Style


class View(NamedTuple):
    """The parts of a report that are shown, and how."""

    folios: bool = False
    """List each folio."""
    details: bool = False
    """Say of each finding what it means and where to look, and end with a verdict."""
    all_findings: bool = False
    """Show all findings of a rule, however many there are."""
    samples: Sequence[Sample] = ()
    """Folios to draw."""
    style: Style = PLAIN
    """What the reader's terminal can show."""


def render(report: Report, format_name: str, view: View) -> Iterator[str]:
    """
    Write a report piece by piece, so that a long list of folios is never in memory at once.

    :param format_name: The name of a module of this package: one of :data:`cli.report.FORMATS`.
    :return: Pieces of the report's text, which ends with a newline.
    """
    # Imported when it is needed: a format for machines needs no table.
    module = import_module(f"{__name__}.{format_name}")
    pieces: Iterator[str] = module.render(report, view)
    return pieces
