# SPDX-License-Identifier: LGPL-2.1-or-later

"""The folios for the page: rows for the table, and columns that its script unpacks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import sub
from typing import Any

from drgn_vmemmap.analysis.listing import COLUMNS, Listing, Own, Traits, common_text, text
from drgn_vmemmap.analysis.map_states import FOUND, CellState
from drgn_vmemmap.rules.finding import Finding, Severity

SHOWN = tuple(column for column in COLUMNS if column.heading)
"""Columns of the table; after them comes the number of findings."""


def findings_of(listing: Listing, findings: Iterable[Finding]) -> array[int]:
    """How many errors and warnings name each folio."""
    found = Counter(f.folio for f in findings if f.severity is not Severity.INFO)
    return array("Q", map(found.__getitem__, listing.folios.folios.pfns))


def worst_of(listing: Listing, findings: Iterable[Finding]) -> array[int]:
    """The state that each folio's worst finding has on the map; :data:`CellState.HOLE` for none."""
    worst: dict[int | None, CellState] = {}
    for finding in findings:
        if finding.severity in FOUND:
            state = FOUND[finding.severity]
            worst[finding.folio] = min(state, worst.get(finding.folio, state))
    return array("Q", (worst.get(pfn, CellState.HOLE) for pfn in listing.folios.folios.pfns))


def rows(listing: Listing, findings: array[int], limit: int) -> Iterator[dict[str, str]]:
    """
    What the table shows of the first folios, by the columns' names.

    :param findings: How many of them each folio has.
    :param limit: How many folios.
    """
    folios = listing.folios
    for index in range(min(limit, len(listing))):
        traits = listing.traits[listing.numbers[index]]
        own = {"pfn": folios.folios.pfns[index], "reuse_frame": folios.reuse_frames[index]}
        cells = {column.name: text(column, traits).format(**own) for column in SHOWN}
        yield {**cells, "findings": str(findings[index] or "-")}


def packed(listing: Listing, findings: array[int], worst: array[int]) -> dict[str, Any]:
    """
    All folios for the page's script, which unpacks them.

    :param findings: How many of them each folio has.
    :param worst: See :func:`worst_of()`.
    """
    return {
        "count": len(listing),
        "traits": [_cells(traits) for traits in listing.traits],
        "numbers": _packed(listing.numbers),
        "pfns": _packed(listing.folios.folios.pfns),
        "reuse_frames": _packed(listing.folios.reuse_frames),
        "findings": _packed(findings),
        "worst": _packed(worst),
    }


def _cells(traits: Traits) -> dict[str, str | int]:
    """The cells that folios with some traits have in common; numbers stay numbers, to be sorted."""
    cells: dict[str, str | int] = {"pages": traits.pages}
    for column in SHOWN:
        value = column.value(traits)
        if isinstance(value, Own):
            continue
        is_number = column.is_number and isinstance(value, int)
        cells[column.name] = int(value or 0) if is_number else common_text(column, traits)
    return cells


def _packed(column: array[int]) -> list[int]:
    """
    Numbers as the steps from each to the next: a step, how often, the next step, how often, …

    Folios mostly lie side by side, and their reuse frames do, so that few steps are left.
    """
    packed: list[int] = []
    for step, alike in groupby(map(sub, column, chain((0,), column))):
        packed += step, len(list(alike))
    return packed
