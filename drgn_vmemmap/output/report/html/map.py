# SPDX-License-Identifier: LGPL-2.1-or-later

"""The map for the page: rows of boxes, and the data from which its script draws parts of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from drgn_vmemmap.analysis.listing import Listing, Traits
from drgn_vmemmap.analysis.map import SMALLEST, Cell, Part, Row, draw
from drgn_vmemmap.analysis.map_states import (
    FOUND,
    LABELS,
    CellState,
    folio_state,
    places,
    special_memory,
)
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.text import node_name, size
from drgn_vmemmap.ranges import joined

COLUMNS = 64
"""Cells in a row."""

_ROWS_LIMIT = 64

_PLAIN = (CellState.OTHER, CellState.HOLE)
"""States whose cells are no boxes."""


class Box(NamedTuple):
    """A cell that is drawn."""

    pfn: int
    column: int
    cell: Cell
    text: str
    """The text that is shown when it is pointed at."""

    @property
    def name(self) -> str:
        """The name of its state in style sheets."""
        return state_name(self.cell.state)


class PictureRow(NamedTuple):
    """Memory side by side."""

    pfn: int
    gap: int
    """How many pages before it are left out, because nothing is to be seen there."""
    nodes: Sequence[int]
    tracks: list[range]
    """Columns with memory, of folios or not."""
    boxes: list[Box]


class Picture(NamedTuple):
    """The map of all memory."""

    span: int
    """PFNs of a cell."""
    rows: list[PictureRow]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Name and label of each state that is drawn."""
        states = {box.cell.state for row in self.rows for box in row.boxes}
        return [(state_name(state), LABELS[state]) for state in sorted(states)]


def state_name(state: CellState) -> str:
    """The name of a state in style sheets and scripts."""
    return state.name.lower().replace("_", "-")


def draw_map(report: Report, listing: Listing) -> Picture:
    """
    :param listing: The report's folios.
    :return: The map; without the rows in which there is no folio and no special memory.
    """
    drawn = draw(report, listing, Part(), COLUMNS, _ROWS_LIMIT)
    cell_size = size(drawn.span * report.kernel.geometry.page_size)
    rows: list[PictureRow] = []
    end = None
    for row in drawn.rows:
        boxes = list(_boxes(row, drawn.span, cell_size, listing))
        if boxes:
            gap = 0 if end is None else row.pfn - end
            rows.append(PictureRow(row.pfn, gap, row.nodes, list(_tracks(row)), boxes))
            end = row.pfn + len(row.cells) * drawn.span
    return Picture(drawn.span, rows)


def _tracks(row: Row) -> Iterator[range]:
    """Columns of a row in which there is memory, side by side."""
    columns = groupby(range(len(row.cells)), lambda c: row.cells[c].state is not CellState.HOLE)
    for is_memory, found in columns:
        if is_memory:
            first, *others = found
            yield range(first, (others or [first])[-1] + 1)


def _boxes(row: Row, span: int, cell_size: str, listing: Listing) -> Iterator[Box]:
    for column, cell in enumerate(row.cells):
        if cell.state not in _PLAIN:
            pfn = row.pfn + column * span
            memory = f"PFN {pfn:#x} to {pfn + span - 1:#x}, {cell_size}"
            yield Box(pfn, column, cell, f"{memory}: {_text(cell, listing)}")


def _text(cell: Cell, listing: Listing) -> str:
    """A cell in words; page.js uses the same ones."""
    counts: Counter[str] = Counter()
    for number, count in cell.traits:
        counts[listing.traits[number].judgement.verdict.value] += count
    said = [f"{count} {verdict}" for verdict, count in counts.items()]
    if len(cell.traits) == 1 and cell.traits[0][1] == 1:
        said = [about(listing.traits[cell.traits[0][0]])]
    if not said:
        said = [LABELS[cell.state]]
    if cell.findings:
        said.append(f"findings: {cell.findings}")
    return ", ".join(said)


def about(traits: Traits) -> str:
    """What folios with some traits are, in a line."""
    folio_class, judgement = traits.folio_class, traits.judgement
    node = node_name(folio_class.node)
    verdict, layout = judgement.verdict.value, judgement.layout.value
    return f"{folio_class.hstate}, node {node}, {traits.state.value}, {verdict}, layout {layout}"


def map_data(report: Report, listing: Listing) -> dict[str, Any]:
    """The data from which the page's script draws parts of the map, besides the folios."""
    return {
        "unit": SMALLEST,
        "columns": COLUMNS,
        "states": [[state_name(state), LABELS[state]] for state in CellState],
        "trait_states": [folio_state(traits) for traits in listing.traits],
        "abouts": [about(traits) for traits in listing.traits],
        "memory": list(_memory(report)),
        "places": [
            [FOUND[severity], pfns.start, pfns.stop]
            for severity, pfns, folio in places(report)
            if pfns and folio is None
        ],
    }


def _memory(report: Report) -> Iterator[list[int]]:
    """States of memory of no folio, each with the PFNs from which and up to which it has it."""
    found: dict[CellState, list[range]] = {}
    for state, pfns in special_memory(report):
        found.setdefault(state, []).append(pfns)
    for state, stretches in found.items():
        for pfns in joined(stretches):
            yield [state, pfns.start, pfns.stop]
