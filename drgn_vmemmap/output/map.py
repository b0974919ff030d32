# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The whole vmemmap as a map: from a report to cells, and from cells to text.

A cell stands for the vmemmap of a span of memory, and shows the worst or most
telling of what is there. Rows in which there is no memory are left out.
"""

from __future__ import annotations

import enum
import textwrap
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.folio import FolioClass
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.output.terminal import Style
from drgn_vmemmap.output.text import size
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PHYSICAL_BITS
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.vmemmap.special import DEVICE, joined

# A folio of 2 MiB: x86-64 has no smaller ones.
_SMALLEST = 1 << 9

# Rows of a map that leave room for all else on a screen of 24 lines.
_ROWS = 17

# Cells in a row: the least, the most, and what they are a multiple of, for round addresses.
_FEWEST, _MOST, _ROUND = 16, 1024, 8

_GAP = "   "


class State(enum.IntEnum):
    """What a cell shows: of all that is there, the first."""

    ERROR = 0
    WARNING = 1
    OPTIMIZED = 2
    PARTLY = 3
    WHOLE = 4
    """Not optimized, and mapped by last-level tables at least in part."""
    LEAF = 5
    """Not optimized, and mapped by larger leaves."""
    OTHER = 6
    """Memory that is no HugeTLB folio's."""
    DEVICE = 7
    HOLE = 8
    """No memmap."""


class Cell(NamedTuple):
    """A span of memory."""

    state: State
    optimized: float
    """How much of the HugeTLB memory in it is optimized, from 0 to 1."""


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
        end = self.rows[0].pfn
        for row in self.rows:
            yield row.pfn - end
            end = row.pfn + len(row.cells) * self.span


class Part(NamedTuple):
    """What a map is narrowed to."""

    hstate: str | None = None
    """``None`` for all of them."""
    node: int | None = None
    """Memory from the first of its folios to the last; ``None`` for all nodes."""
    start: int = 0
    """PFN."""
    stop: int = 1 << PHYSICAL_BITS - PAGE_SHIFT
    """PFN behind the last one."""


class NoMap(ValueError):
    """A map cannot be made as it was asked for; the message says why."""


class _Analysis(NamedTuple):
    """How a state looks; of several characters, by how much is optimized."""

    blocks: str
    letters: str
    colour: str
    """Parameters of the control sequence "select graphic rendition"."""
    meaning: str


_LOOKS: Mapping[State, _Analysis] = {
    State.ERROR: _Analysis("!", "!", "1;97;41", "error"),
    State.WARNING: _Analysis("?", "?", "1;30;43", "warning"),
    State.OPTIMIZED: _Analysis("█", "O", "32", "optimized"),
    State.PARTLY: _Analysis("▁▂▃▄▅▆▇", "123456789", "33", "optimized in part"),
    State.WHOLE: _Analysis("▒", "n", "31", "not optimized"),
    State.LEAF: _Analysis("░", "p", "31", "not optimized, PMD-mapped"),
    State.OTHER: _Analysis("·", ".", "90", "no HugeTLB folio"),
    State.DEVICE: _Analysis("▚", "d", "36", "device DAX"),
    State.HOLE: _Analysis(" ", " ", "", "blank, ...: no memmap"),
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
        raise NoMap(f"this map is at least {label.width + _FEWEST} wide, not {width}")
    drawn = draw(report, part, columns)
    if not drawn.rows:
        return "no memmap and no folios were found: there is nothing to make a map of\n"
    lines = [*_rows(drawn, label, style), "", *_legend(drawn, part.hstate, width, style)]
    for text in _notes(report, drawn, part.hstate):
        lines += textwrap.wrap(text, width)
    return "\n".join(lines) + "\n"


# From a report to cells.


def draw(report: Report, part: Part, columns: int, rows: int = _ROWS) -> Map:
    """
    :param columns: Cells in a row.
    :param rows: How many rows there may be, those for holes counted.
    :return: A map with the smallest cells that do; without any rows, if there is no memory.
    :raises NoMap: if there is no such part.
    """
    chosen = _chosen_kinds(report, part.hstate)
    everything = list(_memory(report))
    memory = list(_within(everything, _shown(report, part)))
    if everything and not memory:
        raise NoMap("there is no memory in this part")
    span = _SMALLEST
    while _height(_row_numbers(memory, span, columns)) > rows:
        span *= 2
    canvas = _Canvas(span, _cells_of(memory, span))
    canvas.add_sections(report)
    canvas.add_folios(report, chosen)
    canvas.add_findings(report, chosen, memory)
    return Map(
        span,
        [
            canvas.row(number, columns)
            for numbers in _row_numbers(memory, span, columns)
            for number in numbers
        ],
        canvas.places,
        canvas.elsewhere,
    )


def _chosen_kinds(report: Report, hstate: str | None) -> dict[int, FolioClass]:
    """Kinds of folios that are shown, by their numbers."""
    names = [known.hstate.name for known in report.hstates]
    if hstate not in (None, *names):
        raise NoMap(f"there is no hstate {hstate!r}, but {', '.join(names) or 'none at all'}")
    kinds = enumerate(report.folios.folios.class_table)
    return {number: kind for number, kind in kinds if hstate in (None, kind.hstate)}


def _shown(report: Report, part: Part) -> range:
    """PFNs that are shown, in whole folios of the smallest size."""
    start, stop = part.start, part.stop
    if part.node is not None:
        folios = report.folios.folios
        kinds = {n for n, kind in enumerate(folios.class_table) if kind.node == part.node}
        rows = [row for row, kind in enumerate(folios.classes) if kind in kinds]
        if not rows:
            raise NoMap(f"node {part.node} has no HugeTLB folios")
        last = folios[rows[-1]]
        start = max(start, folios.pfns[rows[0]])
        stop = min(stop, last.pfn + (1 << last.order))
    return range(start // _SMALLEST * _SMALLEST, -(-stop // _SMALLEST) * _SMALLEST)


def _memory(report: Report) -> Iterator[range]:
    """Stretches of memory that have a memmap or folios, in ascending order."""
    folios = report.folios.folios
    pages = report.kernel.sections.pages
    told = {section.pfns.start // pages for section in report.sections}
    # Sections that the dump does not tell of may have folios, all the same.
    sizes = [1 << kind.order for kind in folios.class_table]
    missed = [
        range(pfn, pfn + sizes[kind])
        for pfn, kind in zip(folios.pfns, folios.classes)
        if pfn // pages not in told
    ]
    there = [*(section.pfns for section in report.sections), *missed]
    return joined(sorted(there, key=lambda pfns: pfns.start))


def _within(memory: Sequence[range], shown: range) -> Iterator[range]:
    for pfns in memory:
        part = range(max(pfns.start, shown.start), min(pfns.stop, shown.stop))
        if part:
            yield part


def _cells_of(memory: Sequence[range], span: int) -> range:
    """Numbers of the cells from the first of some memory to the last, from PFN 0 on."""
    start = min((pfns.start for pfns in memory), default=0)
    stop = max((pfns.stop for pfns in memory), default=0)
    return range(start // span, -(-stop // span))


def _row_numbers(memory: Sequence[range], span: int, columns: int) -> list[range]:
    """The rows in which there is memory, those side by side put together."""
    rows: list[range] = []
    first = _cells_of(memory, span).start
    for pfns in memory:
        start = (pfns.start // span - first) // columns
        stop = ((pfns.stop - 1) // span - first) // columns + 1
        if rows and start <= rows[-1].stop:
            rows[-1] = range(rows[-1].start, max(stop, rows[-1].stop))
        else:
            rows.append(range(start, stop))
    return rows


def _height(rows: Sequence[range]) -> int:
    """How many lines rows take, with one for each hole between them."""
    return sum(map(len, rows)) + len(rows) - 1


class _Canvas:
    """What is in which cell."""

    def __init__(self, span: int, cells: range) -> None:
        self._span = span
        self._cells = cells
        self._states: dict[int, State] = {}
        self._huge: Counter[int] = Counter()
        self._optimized: Counter[int] = Counter()
        self._nodes: defaultdict[int, set[int]] = defaultdict(set)
        self.places: Counter[Severity] = Counter()
        self.elsewhere = 0

    def row(self, number: int, columns: int) -> Row:
        start = self._cells.start + number * columns
        cells = range(start, min(start + columns, self._cells.stop))
        nodes: set[int] = set().union(*(self._nodes.get(cell, ()) for cell in cells))
        return Row(cells.start * self._span, sorted(nodes), [self._cell(cell) for cell in cells])

    def _cell(self, cell: int) -> Cell:
        state = self._states.get(cell, State.HOLE)
        share = self._optimized[cell] / self._huge[cell] if cell in self._huge else 0.0
        if state is State.OPTIMIZED and share < 1:
            state = State.PARTLY
        return Cell(state, share)

    def _paint(self, pfns: range, state: State) -> None:
        """Let cells show a state, unless they show a more telling one."""
        start = max(pfns.start // self._span, self._cells.start)
        for cell in range(start, min(-(-pfns.stop // self._span), self._cells.stop)):
            self._states[cell] = min(state, self._states.get(cell, state))

    def add_sections(self, report: Report) -> None:
        pages = report.kernel.sections.pages
        stretches = (other.pfns for other in report.others if other.kind == DEVICE)
        devices = {pfn for pfns in stretches for pfn in pfns[::pages]}
        for section in report.sections:
            is_device = section.pfns.start in devices
            self._paint(section.pfns, State.DEVICE if is_device else State.OTHER)

    def add_folios(self, report: Report, chosen: Mapping[int, FolioClass]) -> None:
        table = report.folios.judgement_table
        states = [_state(judgement) for judgement in table]
        for cell, number, judgement, pfns in self._tally(report, chosen):
            state, kind = states[judgement], chosen[number]
            self._states[cell] = min(state, self._states.get(cell, state))
            self._huge[cell] += pfns
            if state is State.OPTIMIZED:
                self._optimized[cell] += pfns
            if kind.node is not None:
                self._nodes[cell].add(kind.node)

    def _tally(
        self, report: Report, chosen: Mapping[int, FolioClass]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Cells, kinds and judgements that meet there, and how many PFNs that concerns."""
        folios, span, shown = report.folios.folios, self._span, self._cells
        largest = max((1 << kind.order for kind in chosen.values()), default=0)
        start = bisect_left(folios.pfns, shown.start * span - largest + 1)
        stop = bisect_left(folios.pfns, shown.stop * span)
        places = (pfn // span for pfn in folios.pfns[start:stop])
        kinds, judgements = folios.classes[start:stop], report.folios.judgements[start:stop]
        # Folios that are larger than a cell; those that overlap count once.
        reached: dict[tuple[int, int], int] = {}
        for (cell, kind, judgement), count in Counter(zip(places, kinds, judgements)).items():
            if kind not in chosen:
                continue
            pages = 1 << chosen[kind].order
            begin = max(cell, shown.start, reached.get((kind, judgement), 0))
            end = min(cell + max(pages // span, 1), shown.stop)
            for covered in range(begin, end):
                yield covered, kind, judgement, count * min(pages, span)
            reached[kind, judgement] = max(begin, end)

    def add_findings(
        self, report: Report, chosen: Mapping[int, FolioClass], memory: Sequence[range]
    ) -> None:
        starts = [pfns.start for pfns in memory]
        found = Counter(
            (finding.severity, _place(report, finding, chosen))
            for finding in report.findings
            if finding.severity in _FOUND
        )
        for (severity, pfns), count in found.items():
            stretch = bisect_left(starts, pfns.stop) - 1
            if pfns and stretch >= 0 and pfns.start < memory[stretch].stop:
                self._paint(pfns, _FOUND[severity])
                self.places[severity] += count
            else:
                self.elsewhere += count


_FOUND = {Severity.ERROR: State.ERROR, Severity.WARNING: State.WARNING}


def _state(judgement: Judgement) -> State:
    """What a folio's entries amount to; what is wrong with them is a finding, besides."""
    if judgement.verdict is Verdict.OPTIMIZED:
        return State.OPTIMIZED
    if judgement.verdict is Verdict.UNREADABLE:
        return State.WARNING
    if judgement.freed:
        return State.PARTLY
    return State.LEAF if judgement.mapped_by in ("pmd", "pud") else State.WHOLE


def _place(report: Report, finding: Finding, chosen: Mapping[int, FolioClass]) -> range:
    """PFNs that a finding concerns; none if it has no place."""
    folios, kernel = report.folios.folios, report.kernel
    if finding.folio is not None:
        row = folios.row_at(finding.folio)
        kind = None if row is None else chosen.get(folios.classes[row])
        pages = 0 if kind is None else 1 << kind.order
        return range(finding.folio, finding.folio + pages)
    if finding.address is not None and finding.address >= kernel.vmemmap:
        pfn = (finding.address - kernel.vmemmap) // kernel.page.size
        return range(pfn, pfn + PAGE_SIZE // kernel.page.size)
    return range(0)


# From cells to text.


class _Label(NamedTuple):
    """What stands before the cells of a row; widths in characters."""

    nodes: int
    address: int

    @classmethod
    def of(cls, report: Report) -> _Label:
        """As wide as the report's nodes and addresses need it."""
        folios = report.folios.folios
        nodes = {kind.node for kind in folios.class_table if kind.node is not None}
        digits = len(str(max(nodes, default=0)))
        pfns = [section.pfns.stop for section in report.sections] + list(folios.pfns[-1:])
        address = len(f"{max(pfns, default=0) << PAGE_SHIFT:#x}")
        return cls(max(len("node"), digits * 2 + 1), max(len("address"), address))

    @property
    def width(self) -> int:
        return self.nodes + self.address + 4

    def text(self, nodes: str, address: str) -> str:
        return f"{nodes:>{self.nodes}}  {address:>{self.address}}  "


def _rows(drawn: Map, label: _Label, style: Style) -> Iterator[str]:
    yield label.text("node", "address").rstrip()
    for gap, row in zip(drawn.gaps(), drawn.rows):
        if gap:
            yield label.text("", "...") + size(gap * PAGE_SIZE)
        yield (
            label.text(_nodes(row.nodes), f"{row.pfn << PAGE_SHIFT:#x}")
            + "".join(_cells(row.cells, style))
        ).rstrip()


def _nodes(nodes: Sequence[int]) -> str:
    """One node, two, or the first and the last of many."""
    if len(nodes) <= 2:
        return ",".join(map(str, nodes))
    return f"{nodes[0]}-{nodes[-1]}"


def _cells(cells: Sequence[Cell], style: Style) -> Iterator[str]:
    """Characters, those side by side in one colour together."""
    for colour, found in groupby(cells, lambda cell: _LOOKS[cell.state].colour):
        yield style.coloured("".join(_character(cell, style) for cell in found), colour)


def _character(cell: Cell, style: Style) -> str:
    characters = _characters(cell.state, style)
    return characters[min(int(cell.optimized * len(characters)), len(characters) - 1)]


def _characters(state: State, style: Style) -> str:
    analyse = _LOOKS[state]
    return analyse.blocks if style.blocks else analyse.letters


def _legend(drawn: Map, hstate: str | None, width: int, style: Style) -> Iterator[str]:
    """The states that occur, in lines."""
    states = {cell.state for row in drawn.rows for cell in row.cells}
    if any(drawn.gaps()):
        states.add(State.HOLE)
    entries = [_entry(state, hstate, style) for state in sorted(states)]
    first, length = 0, 0
    for number, (text, _) in enumerate(entries):
        if length + len(text) > width:
            yield _GAP.join(shown for _, shown in entries[first:number])
            first, length = number, 0
        length += len(text) + len(_GAP)
    yield _GAP.join(shown for _, shown in entries[first:])


def _entry(state: State, hstate: str | None, style: Style) -> tuple[str, str]:
    """A state in the legend: as plain text, and as it is shown."""
    meaning, characters = _LOOKS[state].meaning, _characters(state, style)
    if state is State.HOLE:
        return meaning, meaning
    if state is State.OTHER and hstate is not None:
        meaning = f"no folio of {hstate}"
    if len(characters) > 1:
        characters = f"{characters[0]}-{characters[-1]}"
    coloured = style.coloured(characters, _LOOKS[state].colour)
    return f"{characters} {meaning}", f"{coloured} {meaning}"


def _notes(report: Report, drawn: Map, hstate: str | None) -> Iterator[str]:
    """The scale, and what the map cannot show."""
    span = drawn.span
    scale = [f"one cell = {size(span * PAGE_SIZE)}"]
    for known in sorted(report.hstates, key=lambda known: known.hstate.order):
        if known.counts.folios and hstate in (None, known.hstate.name):
            pages = 1 << known.hstate.order
            count = f"1/{pages // span} of a folio" if pages > span else f"{span // pages} folios"
            if pages == span:
                count = "1 folio"
            scale.append(f"{count} of {size(pages * PAGE_SIZE)}")
    yield " = ".join(scale)
    found = [f"{severity.value} {count}" for severity, count in drawn.places.items()]
    if drawn.elsewhere:
        found.append(f"without a place here {drawn.elsewhere}")
    if found:
        yield f"findings, which 'verify' explains: {', '.join(found)}"
    if report.interrupted:
        yield "interrupted: this is not all"
