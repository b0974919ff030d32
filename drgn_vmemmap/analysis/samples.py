# SPDX-License-Identifier: LGPL-2.1-or-later

"""One folio of each shape, with its entries, to be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from drgn_vmemmap.hvo.folios import FolioReport
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Entry
from drgn_vmemmap.rules.context import read_entries
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class Shape(NamedTuple):
    """The facts that folios which are mapped alike have in common."""

    order: int
    layout: Layout
    verdict: Verdict

    @classmethod
    def of(cls, report: FolioReport) -> Shape:
        """The shape of a folio."""
        return cls(report.folio.order, report.judgement.layout, report.judgement.verdict)


class Sample(NamedTuple):
    """A folio that stands for all of its shape."""

    report: FolioReport
    entries: list[Entry]
    """How its vmemmap pages are mapped, in order, all of them."""
    alike: int
    """How many folios have this shape, this one among them."""


def take_samples(snapshot: Snapshot, folios: Iterable[FolioReport]) -> list[Sample]:
    """
    Take the first folio of each shape, and read its entries again.

    :return: By order, then the sound ones before the others.
    """
    first: dict[Shape, FolioReport] = {}
    alike: dict[Shape, int] = {}
    for report in folios:
        shape = Shape.of(report)
        first.setdefault(shape, report)
        alike[shape] = alike.get(shape, 0) + 1
    verdicts = list(Verdict)
    return [
        Sample(
            first[shape],
            read_entries(snapshot, first[shape].folio),
            n,
        )
        for shape, n in sorted(
            alike.items(), key=lambda item: (item[0].order, verdicts.index(item[0].verdict))
        )
    ]
