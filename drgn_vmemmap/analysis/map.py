# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The map: memory in rows of cells, each with the most important state of what is there.

One model for the terminal, the page, and the page's script. Rows without memory are left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from drgn_vmemmap.analysis.listing import Listing, Traits
from drgn_vmemmap.analysis.map_states import (
    FOUND,
    CellState,
    folio_state,
    memory,
    places,
    special_memory,
)
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.paging.x86_64 import PFN_LIMIT
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.rules.finding import Severity

SMALLEST = 1 << 9
"""PFNs of the smallest cell: a folio of 2 MiB; x86-64 has no smaller ones."""


class Cell(NamedTuple):
    """A span of memory."""

    state: CellState
    optimized: float = 0.0
    """How much of the HugeTLB memory in it is optimized, from 0 to 1."""
    filled: float = 0.0
    """How much of it is HugeTLB memory, from 0 to 1."""
    traits: tuple[tuple[int, int], ...] = ()
    """Numbers of the traits of the folios in it, and how many folios have each."""
    findings: int = 0
    """Errors and warnings that have their place in it."""


class Row(NamedTuple):
    """Cells side by side."""

    pfn: int
    """Of the first cell."""
    nodes: Sequence[int]
    """Of the folios in it, in ascending order."""
    cells: Sequence[Cell]


class Map(NamedTuple):
    """Memory in rows of cells."""

    span: int
    """PFNs of a cell."""
    rows: Sequence[Row]
    """In ascending order; between two there may be a hole."""
    places: Counter[Severity]
    """Findings that have a place on the map."""
    elsewhere: int
    """Errors and warnings that have none."""

    def gaps(self) -> Iterator[int]:
        """Before each row, how many PFNs were left out."""
        end = self.rows[0].pfn if self.rows else 0
        for row in self.rows:
            yield row.pfn - end
            end = row.pfn + len(row.cells) * self.span


class Part(NamedTuple):
    """The part of memory that a map is narrowed to."""

    hstate: str | None = None
    """``None`` for all of them."""
    node: int | None = None
    """Memory from the first of its folios to the last; ``None`` for all nodes."""
    start: int = 0
    """PFN."""
    stop: int = PFN_LIMIT
    """First PFN after the part."""


class NoMap(ValueError):
    """A map cannot be made as it was asked for; the message says why."""


def draw(report: Report, listing: Listing, part: Part, columns: int, rows: int) -> Map:
    """
    Draw the memory of a report.

    :param listing: The report's folios.
    :param columns: Cells in a row.
    :param rows: How many rows there may be, those for holes counted.
    :return: A map with the smallest cells that do; without any rows, if there is no memory.
    :raises NoMap: if there is no such part.
    """
    _check_hstate(report, part.hstate)
    everything = memory(report)
    shown = list(_within(everything, _shown(report, part)))
    if everything and not shown:
        raise NoMap("there is no memory in this part")
    span = SMALLEST
    while _height(_row_numbers(shown, span, columns)) > rows:
        span *= 2
    canvas = _Canvas(span, _cells_of(shown, span))
    for state, pfns in special_memory(report):
        canvas.paint(pfns, state)
    canvas.add_folios(listing, part.hstate)
    canvas.add_findings(report, part.hstate, shown)
    return Map(
        span,
        [
            canvas.row(number, columns)
            for numbers in _row_numbers(shown, span, columns)
            for number in numbers
        ],
        canvas.places,
        canvas.elsewhere,
    )


def _check_hstate(report: Report, hstate: str | None) -> None:
    names = [known.hstate.name for known in report.hstates]
    if hstate not in (None, *names):
        raise NoMap(f"there is no hstate {hstate!r}: there are {', '.join(names) or 'none'}")


def _shown(report: Report, part: Part) -> range:
    """PFNs that are shown, in complete cells of the smallest size."""
    start, stop = part.start, part.stop
    if part.node is not None:
        folios = report.folios.folios
        classes = {n for n, each in enumerate(folios.class_table) if each.node == part.node}
        rows = [row for row, number in enumerate(folios.classes) if number in classes]
        if not rows:
            raise NoMap(f"node {part.node} has no HugeTLB folios")
        start = max(start, folios.pfns[rows[0]])
        stop = min(stop, folios.pfns_of(rows[-1]).stop)
    return range(start // SMALLEST * SMALLEST, -(-stop // SMALLEST) * SMALLEST)


def _within(stretches: Iterable[range], shown: range) -> Iterator[range]:
    for pfns in stretches:
        part = range(max(pfns.start, shown.start), min(pfns.stop, shown.stop))
        if part:
            yield part


def _cells_of(stretches: Sequence[range], span: int) -> range:
    """Numbers of the cells from the first of some memory to the last, from PFN 0 on."""
    start = min((pfns.start for pfns in stretches), default=0)
    stop = max((pfns.stop for pfns in stretches), default=0)
    return range(start // span, -(-stop // span))


def _row_numbers(stretches: Sequence[range], span: int, columns: int) -> list[range]:
    """The rows in which there is memory, those side by side put together."""
    first = _cells_of(stretches, span).start
    return joined(
        range(
            (pfns.start // span - first) // columns,
            ((pfns.stop - 1) // span - first) // columns + 1,
        )
        for pfns in stretches
    )


def _height(rows: Sequence[range]) -> int:
    """How many lines rows take, with one for each hole between them."""
    return sum(map(len, rows)) + len(rows) - 1


class _Canvas:
    """The contents of the cells, as they are added."""

    def __init__(self, span: int, cells: range) -> None:
        self._span = span
        self._cells = cells
        self._states: dict[int, CellState] = {}
        self._huge: Counter[int] = Counter()
        self._optimized: Counter[int] = Counter()
        self._traits: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._nodes: defaultdict[int, set[int]] = defaultdict(set)
        self._findings: Counter[int] = Counter()
        self.places: Counter[Severity] = Counter()
        self.elsewhere = 0

    def row(self, number: int, columns: int) -> Row:
        start = self._cells.start + number * columns
        cells = range(start, min(start + columns, self._cells.stop))
        nodes: set[int] = set().union(*(self._nodes.get(cell, ()) for cell in cells))
        return Row(cells.start * self._span, sorted(nodes), [self._cell(cell) for cell in cells])

    def _cell(self, cell: int) -> Cell:
        state = self._states.get(cell, CellState.HOLE)
        if cell not in self._huge:
            return Cell(state, findings=self._findings[cell])
        share = self._optimized[cell] / self._huge[cell]
        if state is CellState.OPTIMIZED and share < 1:
            state = CellState.PARTLY
        filled = min(1.0, self._huge[cell] / self._span)
        traits = tuple(sorted(self._traits[cell].items()))
        return Cell(state, share, filled, traits, self._findings[cell])

    def paint(self, pfns: range, state: CellState) -> None:
        """Let cells show a state, unless they show a lower one."""
        for cell in self._covered(pfns):
            self._show(cell, state)

    def _show(self, cell: int, state: CellState) -> None:
        self._states[cell] = min(state, self._states.get(cell, state))

    def _covered(self, pfns: range) -> range:
        start = max(pfns.start // self._span, self._cells.start)
        return range(start, min(-(-pfns.stop // self._span), self._cells.stop))

    def add_folios(self, listing: Listing, hstate: str | None) -> None:
        chosen = {
            number: traits
            for number, traits in enumerate(listing.traits)
            if hstate in (None, traits.folio_class.hstate)
        }
        states = {number: folio_state(traits) for number, traits in chosen.items()}
        for cell, number, count, pfns in self._tally(listing, chosen):
            state, node = states[number], chosen[number].folio_class.node
            self._show(cell, state)
            self._huge[cell] += pfns
            self._traits[cell][number] += count
            if state is CellState.OPTIMIZED:
                self._optimized[cell] += pfns
            if node is not None:
                self._nodes[cell].add(node)

    def _tally(
        self, listing: Listing, chosen: Mapping[int, Traits]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Cells, numbers of traits there, how many folios have them, and their PFNs there."""
        pfns, span, shown = listing.folios.folios.pfns, self._span, self._cells
        largest = max((traits.pages for traits in chosen.values()), default=0)
        start = bisect_left(pfns, shown.start * span - largest + 1)
        stop = bisect_left(pfns, shown.stop * span)
        begins = (pfn // span for pfn in pfns[start:stop])
        counts = Counter(zip(begins, listing.numbers[start:stop]))
        # Folios that are larger than a cell; those that overlap count once.
        reached: dict[int, int] = {}
        for (cell, number), count in counts.items():
            if number not in chosen:
                continue
            pages = chosen[number].pages
            begin = max(cell, shown.start, reached.get(number, 0))
            end = min(cell + max(pages // span, 1), shown.stop)
            for covered in range(begin, end):
                yield covered, number, count, count * min(pages, span)
            reached[number] = max(begin, end)

    def add_findings(self, report: Report, hstate: str | None, shown: Sequence[range]) -> None:
        starts = [pfns.start for pfns in shown]
        found = Counter((severity, pfns) for severity, pfns, _ in places(report, hstate))
        for (severity, pfns), count in found.items():
            stretch = bisect_left(starts, pfns.stop) - 1
            if pfns and stretch >= 0 and pfns.start < shown[stretch].stop:
                self.paint(pfns, FOUND[severity])
                self.places[severity] += count
                for cell in self._covered(pfns):
                    self._findings[cell] += count
            else:
                self.elsewhere += count
