# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The list of folios: its columns, for every format, and its rows.

Folios are many and mostly alike. What they have in common, their traits, is turned into text
once; of each folio remain its PFN, the address of its head page and its reuse frame.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any, Callable, NamedTuple, Union

from drgn_vmemmap.hugetlb.folio import STATES, FolioClass, State
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Judgement, Ranges, format_ranges
from drgn_vmemmap.kernel.facts import Kernel

# Ranges of vmemmap pages that a person reads: a damaged 1 GiB folio can have 2048 of them.
_RANGES_SHOWN = 2


class Traits(NamedTuple):
    """All of a folio but its PFN and its reuse frame."""

    folio_class: FolioClass
    state: State
    judgement: Judgement
    """Without its reuse frame."""
    has_reuse_frame: bool

    @property
    def pages(self) -> int:
        """How many pages of 4 KiB the folio has."""
        return 1 << self.folio_class.order


class Own(NamedTuple):
    """A value that each folio has of its own: fields of ``str.format()`` that write it."""

    json: str
    text: str
    """As people read it, and as CSV has it."""


PFN = Own("{pfn}", "{pfn:#x}")
HEAD = Own('"{head:#x}"', "{head:#x}")
REUSE_FRAME = Own("{reuse_frame}", "{reuse_frame:#x}")

Value = Union[None, bool, int, str]


class Column(NamedTuple):
    """One column of the list of folios."""

    name: str
    """Of the field in JSON, and of the column in CSV."""
    heading: str
    """In tables; empty for a column that tables leave out."""
    value: Callable[[Traits], Value | Own]
    """As JSON has it."""
    text: Callable[[Traits], str] | None = None
    """As people read it, where that is not just the value."""
    unknown: str = "?"
    """The text for people where there is no value."""
    is_number: bool = False


COLUMNS = (
    Column("pfn", "PFN", lambda traits: PFN, is_number=True),
    Column("head", "", lambda traits: HEAD),
    Column(
        "hstate",
        "hstate",
        lambda traits: traits.folio_class.hstate,
        lambda traits: traits.folio_class.hstate.removeprefix("hugepages-"),
    ),
    Column("order", "", lambda traits: traits.folio_class.order),
    Column("node", "node", lambda traits: traits.folio_class.node, is_number=True),
    Column("state", "state", lambda traits: traits.state.value),
    Column(
        "flag_optimized",
        "flag",
        lambda traits: traits.folio_class.flag_optimized,
        lambda traits: {True: "set", False: "clear", None: "?"}[traits.folio_class.flag_optimized],
    ),
    Column("verdict", "verdict", lambda traits: traits.judgement.verdict.value),
    Column("layout", "layout", lambda traits: traits.judgement.layout.value),
    Column("mapped_by", "mapped by", lambda traits: traits.judgement.mapped_by),
    Column(
        "reuse_frame",
        "reuse frame",
        lambda traits: REUSE_FRAME if traits.has_reuse_frame else None,
        unknown="-",
        is_number=True,
    ),
    Column(
        "shared",
        "shared",
        lambda traits: format_ranges(traits.judgement.shared),
        lambda traits: _shown(traits.judgement.shared),
    ),
    Column(
        "read_only",
        "read-only",
        lambda traits: format_ranges(traits.judgement.read_only),
        lambda traits: _shown(traits.judgement.read_only),
    ),
    Column("freed", "freed", lambda traits: traits.judgement.freed, is_number=True),
)
"""The columns of the list of folios, in their order."""


def _shown(indices: Ranges) -> str:
    more = len(indices) - _RANGES_SHOWN
    shown = format_ranges(indices[:_RANGES_SHOWN])
    return f"{shown} +{more} more" if more > 0 else shown or "-"


def text(column: Column, traits: Traits) -> str:
    """A value as people read it; for one of the folio's own, the format field that writes it."""
    if column.text is not None:
        return literal(column.text(traits))
    value = column.value(traits)
    if isinstance(value, Own):
        return value.text
    return literal(column.unknown if value is None else str(value))


def common_text(column: Column, traits: Traits) -> str:
    """A value that all folios with some traits have, as people read it."""
    return text(column, traits).format()


def literal(fixed: str) -> str:
    """Text with its braces escaped for ``str.format()``."""
    return fixed.replace("{", "{{").replace("}", "}}")


class Listing:
    """The folios of a report, row by row."""

    def __init__(self, kernel: Kernel, folios: FolioReports) -> None:
        self.folios = folios
        self.traits: list[Traits] = []
        """Distinct traits, in the order of the first folios that have them."""
        self._kernel = kernel
        found = folios.folios
        keys = zip(
            found.classes, found.states, folios.judgements, map((-1).__lt__, folios.reuse_frames)
        )
        known: defaultdict[tuple[int, int, int, bool], int] = defaultdict(count().__next__)
        self.numbers = array("I", map(known.__getitem__, keys))
        """Of each folio, the index of its traits in :attr:`traits`."""
        self.traits = [
            Traits(
                found.class_table[class_number],
                STATES[state],
                folios.judgement_table[judgement],
                has_reuse_frame,
            )
            for class_number, state, judgement, has_reuse_frame in known
        ]

    def __len__(self) -> int:
        return len(self.numbers)

    def lines(self, template: Callable[[Traits], str]) -> Iterator[str]:
        """
        The folios as text, one string each, made as they are asked for.

        :param template: Gives the text of folios with some traits, with the fields ``pfn``,
            ``head`` (an address) and ``reuse_frame`` (a PFN) for ``str.format()``.
        """
        writers = [template(traits).format for traits in self.traits]
        base, size = self._kernel.vmemmap, self._kernel.page.size
        rows = zip(self.numbers, self.folios.folios.pfns, self.folios.reuse_frames)
        for number, pfn, frame in rows:
            yield writers[number](pfn=pfn, head=base + pfn * size, reuse_frame=frame)

    def documents(self) -> Iterator[dict[str, Any]]:
        """The folios as JSON has them, made as they are asked for."""
        base, size = self._kernel.vmemmap, self._kernel.page.size
        fixed = [[(column.name, column.value(t)) for column in COLUMNS] for t in self.traits]
        rows = zip(self.numbers, self.folios.folios.pfns, self.folios.reuse_frames)
        for number, pfn, frame in rows:
            own = {PFN: pfn, HEAD: hex(base + pfn * size), REUSE_FRAME: frame}
            yield {
                name: own[value] if isinstance(value, Own) else value
                for name, value in fixed[number]
            }
