# SPDX-License-Identifier: LGPL-2.1-or-later

"""The folios as columns, so that half a million of them fit into a page."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import sub
from typing import Any, NamedTuple

from drgn_vmemmap.analysis.report import FolioReport
from drgn_vmemmap.hugetlb.folios import State
from drgn_vmemmap.hvo.judgement import Judgement, Ranges, format_ranges
from drgn_vmemmap.rules.folio import Finding, Severity

# Ranges of vmemmap pages that are told; a damaged 1 GiB folio can have 2048 of them.
_RANGES_TOLD = 8

_FLAGS = {True: "set", False: "clear", None: "unknown"}

NO_FRAME = -1
"""Instead of a reuse frame, where there is none."""


class Traits(NamedTuple):
    """What a folio has in common with others; with few exceptions, with most."""

    order: int
    hstate: str
    node: int | None
    state: State
    flag_optimized: bool | None
    judgement: Judgement
    """Without its reuse frame."""

    def __str__(self) -> str:
        node = "?" if self.node is None else self.node
        verdict, layout = self.judgement.verdict.value, self.judgement.layout.value
        return f"{self.hstate}, node {node}, {self.state.value}, {verdict}, layout {layout}"

    @property
    def pages(self) -> int:
        """How many pages of 4 KiB the folio has."""
        return 1 << self.order

    def cells(self) -> dict[str, Any]:
        """What the table of folios shows of it, by the columns' names."""
        judgement = self.judgement
        return {
            "hstate": self.hstate,
            "node": self.node,
            "state": self.state.value,
            "flag": _FLAGS[self.flag_optimized],
            "verdict": judgement.verdict.value,
            "layout": judgement.layout.value,
            "mapped_by": judgement.mapped_by,
            "shared": _ranges(judgement.shared),
            "read_only": _ranges(judgement.read_only),
            "freed": judgement.freed,
        }


class Folios:
    """Folios in ascending order of PFN, a column for each thing that is their own."""

    def __init__(self, reports: Iterable[FolioReport], findings: Iterable[Finding]) -> None:
        """
        :param reports: In ascending order of PFN.
        :param findings: Of all folios.
        """
        self.traits: list[Traits] = []
        self.pfns = array("q")
        self.numbers = array("q")
        """Of each folio, the index of its traits."""
        self.reuse_frames = array("q")
        """PFNs, or :data:`NO_FRAME`."""
        self.findings = array("q")
        """How many errors and warnings name each folio."""
        found = Counter(f.folio for f in findings if f.severity is not Severity.INFO)
        numbers: dict[tuple[object, ...], int] = {}
        for folio, judgement in reports:
            # All but the PFN and the reuse frame.
            alike = (*folio[1:], *judgement[:3], *judgement[4:])
            number = numbers.setdefault(alike, len(numbers))
            if number == len(self.traits):
                self.traits.append(
                    Traits(
                        folio.order,
                        folio.hstate,
                        folio.node,
                        folio.state,
                        folio.flag_optimized,
                        judgement._replace(reuse_frame=None),
                    )
                )
            frame = judgement.reuse_frame
            self.pfns.append(folio.pfn)
            self.numbers.append(number)
            self.reuse_frames.append(NO_FRAME if frame is None else frame)
            self.findings.append(found[folio.pfn])

    def __len__(self) -> int:
        return len(self.pfns)

    def rows(self, limit: int) -> Iterator[dict[str, Any]]:
        """
        What the table shows of the first folios.

        :param limit: Of so many of them.
        """
        for index in range(min(limit, len(self))):
            yield {
                "pfn": self.pfns[index],
                "reuse_frame": self.reuse_frames[index],
                "findings": self.findings[index],
                **self.traits[self.numbers[index]].cells(),
            }

    def packed(self) -> dict[str, Any]:
        """All of them for the page's script, which unpacks them."""
        return {
            "count": len(self),
            "traits": [{"pages": traits.pages, **traits.cells()} for traits in self.traits],
            "numbers": _packed(self.numbers),
            "pfns": _packed(self.pfns),
            "reuse_frames": _packed(self.reuse_frames),
            "findings": _packed(self.findings),
        }


def _packed(column: array[int]) -> list[int]:
    """
    Numbers as the steps from each to the next: a step, how often, the next step, how often, …

    Folios mostly lie side by side, and their reuse frames do, so that few steps are left.
    """
    packed: list[int] = []
    for step, alike in groupby(map(sub, column, chain((0,), column))):
        packed += step, len(list(alike))
    return packed


def _ranges(indices: Ranges) -> str:
    more = len(indices) - _RANGES_TOLD
    told = format_ranges(indices[:_RANGES_TOLD])
    return told if more <= 0 else f"{told} and {more} more"
