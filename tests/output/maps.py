# SPDX-License-Identifier: LGPL-2.1-or-later

"""Maps of a machine with a folio of each kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from drgn_vmemmap.analysis import map as model
from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.map import Cell, Map, Part
from drgn_vmemmap.analysis.map_states import CellState
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.map import render
from drgn_vmemmap.output.terminal import Style
from tests.synthetic.model import REUSE_W, Damage, Folio, Machine, pmd_of

TIB = 1 << 40
BLOCKS, LETTERS, COLOUR = Style(True, False), Style(False, False), Style(True, True)
SOUND, DAMAGED, UNOPTIMIZED, LEAF, HIDDEN = (Machine().folio_pfn(n) for n in (0, 1, 2, 64, 128))
"""Folios of a machine: optimized, with an error, unoptimized, mapped by a leaf, unreadable."""


def machine(**changes: object) -> Machine:
    folios = (
        Folio(SOUND),
        Folio(DAMAGED, edits={5: REUSE_W}),
        Folio(UNOPTIMIZED, remapped=False),
        Folio(LEAF, remapped=False),
        Folio(HIDDEN),
    )
    damage = {pmd_of(HIDDEN): Damage.MISSING}
    return replace(Machine(folios=folios, damage=damage), **changes)  # type: ignore[arg-type]


def draw(report: Report, part: Part, columns: int, rows: int = 17) -> Map:
    listing = Listing(report.kernel, report.folios)
    return model.draw(report, listing, part, columns, rows)


def cell(drawn: Map, pfn: int) -> Cell:
    """The cell that a PFN is in."""
    for row in drawn.rows:
        number = (pfn - row.pfn) // drawn.span
        if 0 <= number < len(row.cells):
            return row.cells[number]
    raise AssertionError(f"PFN {pfn:#x} is not on the map")


def states(drawn: Map) -> Counter[CellState]:
    return Counter(cell.state for row in drawn.rows for cell in row.cells)


def text(report: Report, style: Style = LETTERS, width: int = 80, **part: object) -> str:
    return render(report, Part(**part), width, style)  # type: ignore[arg-type]
