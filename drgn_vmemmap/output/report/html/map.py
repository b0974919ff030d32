# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The map: memory in rows of cells, each coloured by what HVO did to its vmemmap.

As many pages to a cell as it takes for the whole to fit one screen; at best, a
cell is a folio of 2 MiB and a row what one page table describes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from typing import NamedTuple

from drgn_vmemmap.analysis.listing import Listing, Traits
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.output.text import size
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.vmemmap.special import SpecialVmemmap

UNIT = 512
"""Pages of the smallest folio."""

COLUMNS = 64
"""Cells in a row."""

_ROWS_LIMIT = 64

MIXED = "mixed"
"""The look of a cell with folios that are optimized and others that are not."""


@dataclass
class Cell:
    """Some pages of memory with folios in them, or a part of what is larger than a cell."""

    pfns: range
    verdicts: Counter[str] = field(default_factory=Counter)
    """Folios by verdict."""
    traits: Traits | None = None
    """Of the last of them."""
    pages: int = 0
    """How many of the pages are in folios."""
    findings: int = 0
    other: str = ""
    """The kind of the vmemmap that is no folio's."""

    @property
    def shade(self) -> str:
        """The worst of what is here, where there is any; else what all of it is."""
        for verdict in (Verdict.INCONSISTENT.value, Verdict.UNREADABLE.value):
            if self.verdicts[verdict]:
                return verdict
        return MIXED if len(self.verdicts) > 1 else next(iter(self.verdicts), self.other)

    @property
    def filled(self) -> float:
        """Which part of it is in folios."""
        return min(1.0, self.pages / len(self.pfns)) if self.traits else 1.0

    def __str__(self) -> str:
        told = [f"{count} {verdict}" for verdict, count in self.verdicts.items()]
        if self.traits is None:
            told = [self.other]
        elif sum(self.verdicts.values()) == 1:
            told = [_about(self.traits)]
        if self.findings:
            told.append(f"findings: {self.findings}")
        memory = size(len(self.pfns) * PAGE_SIZE)
        return f"PFN {self.pfns[0]:#x} to {self.pfns[-1]:#x}, {memory}: {', '.join(told)}"


class Row(NamedTuple):
    """Memory side by side."""

    pfns: range
    gap: int
    """How many pages before it are left out, because nothing of interest is there."""
    nodes: list[int]
    """Of the folios in it."""
    cells: list[Cell]


class Map(NamedTuple):
    """The whole."""

    span: int
    """Pages of a cell."""
    rows: list[Row]

    @property
    def shades(self) -> set[str]:
        """What the legend has to tell, of parts of the map, too."""
        cells = [cell for row in self.rows for cell in row.cells]
        return {shade for cell in cells for shade in (cell.shade, *cell.verdicts)}


def _about(traits: Traits) -> str:
    kind, judgement = traits.folio_class, traits.judgement
    node = "?" if kind.node is None else kind.node
    verdict, layout = judgement.verdict.value, judgement.layout.value
    return f"{kind.hstate}, node {node}, {traits.state.value}, {verdict}, layout {layout}"


def draw_map(folios: Listing, found: Sequence[int], others: Sequence[SpecialVmemmap]) -> Map:
    """
    :param found: How many findings name each folio.
    :param others: Other vmemmap; folios that lie in it are drawn over it.
    """
    regions = sorted((other.pfns for other in others), key=lambda pfns: pfns.start)
    span = _span(merge(_ranges(folios), regions, key=lambda pfns: pfns.start))
    behind: dict[int, Cell] = {}
    for other in others:
        for cell in _cells(behind, other.pfns, span):
            cell.other = other.kind
    cells: dict[int, Cell] = {}
    nodes: dict[int, set[int]] = {}
    for (first, number, findings), count in _alike(folios, found, span).items():
        traits = folios.traits[number]
        for cell in _cells(cells, range(first, first + max(span, traits.pages)), span):
            cell.verdicts[traits.judgement.verdict.value] += count
            cell.traits = traits
            cell.pages += min(count * traits.pages, len(cell.pfns))
            cell.findings += count * findings
            if traits.folio_class.node is not None:
                nodes.setdefault(cell.pfns.start // (span * COLUMNS), set()).add(
                    traits.folio_class.node
                )
    return Map(span, list(_rows([*behind.values(), *cells.values()], nodes, span)))


def _ranges(folios: Listing) -> Iterator[range]:
    pages = [traits.pages for traits in folios.traits]
    for pfn, number in zip(folios.folios.folios.pfns, folios.numbers):
        yield range(pfn, pfn + pages[number])


def _alike(folios: Listing, found: Sequence[int], span: int) -> Counter[tuple[int, int, int]]:
    """How many folios begin in each cell, by its first PFN, their traits and their findings."""
    return Counter(
        (pfn - pfn % span, number, findings)
        for pfn, number, findings in zip(folios.folios.folios.pfns, folios.numbers, found)
    )


def _joined(ranges: Iterable[range]) -> Iterator[range]:
    """Ranges in ascending order of their starts, those that touch put together."""
    current = range(0)
    for pfns in ranges:
        if current and pfns.start <= current.stop:
            current = range(current.start, max(current.stop, pfns.stop))
        else:
            if current:
                yield current
            current = pfns
    if current:
        yield current


def _span(ranges: Iterable[range]) -> int:
    """
    Pages of a cell, so that the rows with anything in them are not too many.

    :param ranges: PFNs of what is to be seen, in ascending order of their starts.
    """
    span = UNIT
    rows = _divided(ranges, span * COLUMNS)
    while sum(map(len, rows)) > _ROWS_LIMIT:
        span *= 2
        rows = _divided(rows, 2)
    return span


def _divided(ranges: Iterable[range], by: int) -> list[range]:
    return list(_joined(range(r.start // by, (r.stop - 1) // by + 1) for r in ranges))


def _cells(cells: dict[int, Cell], pfns: range, span: int) -> Iterator[Cell]:
    """
    The cells that some pages are in, made where they are missing.

    Pages of more than a cell have one in each row.
    """
    width = span * COLUMNS
    for row in range(pfns.start // width, (pfns.stop - 1) // width + 1):
        first = max(pfns.start, row * width) // span
        last = (min(pfns.stop, (row + 1) * width) - 1) // span
        if first not in cells:
            cells[first] = Cell(range(first * span, (last + 1) * span))
        yield cells[first]


def _rows(cells: list[Cell], nodes: dict[int, set[int]], span: int) -> Iterator[Row]:
    width = span * COLUMNS
    cells.sort(key=lambda cell: cell.pfns.start // width)
    end = None
    for number, found in groupby(cells, key=lambda cell: cell.pfns.start // width):
        pfns = range(number * width, (number + 1) * width)
        gap = 0 if end is None else pfns.start - end
        end = pfns.stop
        yield Row(pfns, gap, sorted(nodes.get(number, ())), list(found))
