# SPDX-License-Identifier: LGPL-2.1-or-later

"""The map in a terminal: a character for each cell, a legend, and the scale."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.map import Cell, Map, NoMap, Part, draw
from drgn_vmemmap.analysis.map_states import LABELS, CellState
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.kernel.geometry import Geometry
from drgn_vmemmap.output.terminal import Style
from drgn_vmemmap.output.text import size

# Rows of a map that leave space for all else on a screen of 24 lines.
_ROWS = 17

# Cells in a row: the least, the most, and what they are a multiple of, for round addresses.
_FEWEST, _MOST, _ROUND = 16, 1024, 8

_GAP = "   "


class _Glyph(NamedTuple):
    """How a state is shown; of several characters, by how much is optimized."""

    blocks: str
    letters: str
    colour: str
    """Parameters of the control sequence "select graphic rendition"."""


_GLYPHS: Mapping[CellState, _Glyph] = {
    CellState.ERROR: _Glyph("!", "!", "1;97;41"),
    CellState.WARNING: _Glyph("?", "?", "1;30;43"),
    CellState.OPTIMIZED: _Glyph("█", "O", "32"),
    CellState.PARTLY: _Glyph("▁▂▃▄▅▆▇", "123456789", "33"),
    CellState.UNOPTIMIZED: _Glyph("▒", "n", "34"),
    CellState.LEAF: _Glyph("░", "p", "34"),
    CellState.BOOT: _Glyph("▞", "b", "36"),
    CellState.SELF_HOSTED: _Glyph("▘", "s", "36"),
    CellState.DEVICE: _Glyph("▚", "d", "36"),
    CellState.OTHER: _Glyph("·", ".", "90"),
    CellState.HOLE: _Glyph(" ", " ", ""),
}


def render(report: Report, part: Part, width: int, style: Style) -> str:
    """
    The map of a report, as wide as a terminal.

    :param width: In characters.
    :raises NoMap: if there is no such part, or no map is so narrow.
    """
    label = _Label.of(report)
    columns = min(width - label.width, _MOST) // _ROUND * _ROUND
    if columns < _FEWEST:
        raise NoMap(f"this map needs a width of {label.width + _FEWEST} or more, not {width}")
    drawn = draw(report, Listing(report.kernel, report.folios), part, columns, _ROWS)
    if not drawn.rows:
        return "no memmap and no folios were found: there is nothing to make a map of\n"
    lines = [
        *_rows(drawn, label, report.kernel.geometry, style),
        "",
        *_legend(drawn, part.hstate, width, style),
    ]
    for text in _notes(report, drawn, part.hstate):
        lines += textwrap.wrap(text, width)
    return "\n".join(lines) + "\n"


class _Label(NamedTuple):
    """The columns before the cells of a row; widths in characters."""

    nodes: int
    address: int

    @classmethod
    def of(cls, report: Report) -> _Label:
        """Columns that are wide enough for the report's nodes and addresses."""
        folios = report.folios.folios
        nodes = {each.node for each in folios.class_table if each.node is not None}
        digits = len(str(max(nodes, default=0)))
        pfns = [section.pfns.stop for section in report.sections] + list(folios.pfns[-1:])
        address = len(f"{max(pfns, default=0) << report.kernel.geometry.page_shift:#x}")
        return cls(max(len("node"), digits * 2 + 1), max(len("address"), address))

    @property
    def width(self) -> int:
        return self.nodes + self.address + 4

    def text(self, nodes: str, address: str) -> str:
        return f"{nodes:>{self.nodes}}  {address:>{self.address}}  "


def _rows(drawn: Map, label: _Label, geometry: Geometry, style: Style) -> Iterator[str]:
    yield label.text("node", "address").rstrip()
    for gap, row in zip(drawn.gaps(), drawn.rows):
        if gap:
            yield label.text("", "...") + size(gap * geometry.page_size)
        yield (
            label.text(_nodes(row.nodes), f"{row.pfn << geometry.page_shift:#x}")
            + "".join(_cells(row.cells, style))
        ).rstrip()


def _nodes(nodes: Sequence[int]) -> str:
    """One node, two, or the first and the last of many."""
    if len(nodes) <= 2:
        return ",".join(map(str, nodes))
    return f"{nodes[0]}-{nodes[-1]}"


def _cells(cells: Sequence[Cell], style: Style) -> Iterator[str]:
    """Characters, those side by side in one colour together."""
    for colour, found in groupby(cells, lambda cell: _GLYPHS[cell.state].colour):
        yield style.coloured("".join(_character(cell, style) for cell in found), colour)


def _character(cell: Cell, style: Style) -> str:
    characters = _characters(cell.state, style)
    return characters[min(int(cell.optimized * len(characters)), len(characters) - 1)]


def _characters(state: CellState, style: Style) -> str:
    glyph = _GLYPHS[state]
    return glyph.blocks if style.blocks else glyph.letters


def _legend(drawn: Map, hstate: str | None, width: int, style: Style) -> Iterator[str]:
    """The states that occur, in lines."""
    states = {cell.state for row in drawn.rows for cell in row.cells}
    if any(drawn.gaps()):
        states.add(CellState.HOLE)
    entries = [_entry(state, hstate, style) for state in sorted(states)]
    first, length = 0, 0
    for number, (text, _) in enumerate(entries):
        if length + len(text) > width:
            yield _GAP.join(shown for _, shown in entries[first:number])
            first, length = number, 0
        length += len(text) + len(_GAP)
    yield _GAP.join(shown for _, shown in entries[first:])


def _entry(state: CellState, hstate: str | None, style: Style) -> tuple[str, str]:
    """A state in the legend: as plain text, and as it is shown."""
    meaning, characters = LABELS[state], _characters(state, style)
    if state is CellState.HOLE:
        meaning = f"blank, ...: {meaning}"
        return meaning, meaning
    if state is CellState.OTHER and hstate is not None:
        meaning = f"no folio of {hstate}"
    if len(characters) > 1:
        characters = f"{characters[0]}-{characters[-1]}"
    coloured = style.coloured(characters, _GLYPHS[state].colour)
    return f"{characters} {meaning}", f"{coloured} {meaning}"


def _notes(report: Report, drawn: Map, hstate: str | None) -> Iterator[str]:
    """The scale, and what the map cannot show."""
    span, page_size = drawn.span, report.kernel.geometry.page_size
    scale = [f"one cell = {size(span * page_size)}"]
    for known in sorted(report.hstates, key=lambda known: known.hstate.order):
        if known.counts.folios and hstate in (None, known.hstate.name):
            pages = 1 << known.hstate.order
            count = f"1/{pages // span} of a folio" if pages > span else f"{span // pages} folios"
            if pages == span:
                count = "1 folio"
            scale.append(f"{count} of {size(pages * page_size)}")
    yield " = ".join(scale)
    found = [f"{severity.value} {count}" for severity, count in drawn.places.items()]
    if drawn.elsewhere:
        found.append(f"not on this map {drawn.elsewhere}")
    if found:
        yield f"findings, which 'verify' explains: {', '.join(found)}"
    for unrecognised in report.kernel.unrecognised:
        yield f"not recognised: {unrecognised.message}"
    if report.interrupted:
        yield "interrupted: the report is incomplete"
