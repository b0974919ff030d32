# SPDX-License-Identifier: LGPL-2.1-or-later

"""The list of folios as a table that fits a terminal."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from drgn_vmemmap.analysis.listing import (
    COLUMNS,
    PFN,
    REUSE_FRAME,
    Column,
    Listing,
    Own,
    Traits,
    common_text,
    literal,
    text,
)

_GAP = "  "

# Columns that a narrow terminal can do without, the first to go first.
_LEAST_IMPORTANT = (
    "mapped_by",
    "flag_optimized",
    "read_only",
    "layout",
    "hstate",
    "freed",
    "node",
    "shared",
    "state",
)


def folio_table(listing: Listing, width: int) -> Iterator[str]:
    """
    One line per folio, made as it is asked for.

    Where not all columns fit, those that are the same for all folios are left out first, and
    named once; then others, and that is said.

    :param width: In characters.
    """
    shown = [column for column in COLUMNS if column.heading]
    widths = {column.name: _width(column, listing) for column in shown}
    same = {c.name for c in shown if len({text(c, t) for t in listing.traits}) == 1}
    kept = _fitting(shown, widths, same, width)
    yield from _left_out(listing, [column for column in shown if column not in kept], same)
    yield _line([_aligned(c.heading, c, widths) for c in kept])
    yield _line(["-" * widths[c.name] for c in kept])
    yield from listing.lines(
        lambda traits: _line([_cell(column, traits, widths) for column in kept])
    )


def _left_out(listing: Listing, columns: Sequence[Column], same: Container[str]) -> Iterator[str]:
    """Lines on the columns that are not shown."""
    traits = listing.traits[0]
    once = [f"{c.heading} {common_text(c, traits)}" for c in columns if c.name in same]
    if once:
        yield f"each folio: {', '.join(once)}\n"
    omitted = [column.heading for column in columns if column.name not in same]
    if omitted:
        yield f"not shown in this width (see --format csv): {', '.join(omitted)}\n"


def _width(column: Column, listing: Listing) -> int:
    """Characters of the longest text in a column, its heading among them."""
    longest = len(column.heading)
    for traits in listing.traits:
        value = column.value(traits)
        if not isinstance(value, Own):
            longest = max(longest, len(common_text(column, traits)))
    numbers = {PFN.text: listing.folios.folios.pfns, REUSE_FRAME.text: listing.folios.reuse_frames}
    for field in {text(column, traits) for traits in listing.traits} & set(numbers):
        longest = max(longest, len(hex(max(numbers[field]))))
    return longest


def _fitting(
    columns: Sequence[Column], widths: dict[str, int], same: Container[str], width: int
) -> list[Column]:
    """
    The columns that are shown.

    :param same: Names of those whose values are the same for all folios.
    """
    order = [name for name in _LEAST_IMPORTANT if name in same]
    order += [name for name in _LEAST_IMPORTANT if name not in same]
    kept = list(columns)
    for name in order:
        if sum(widths[c.name] for c in kept) + len(_GAP) * (len(kept) - 1) <= width:
            break
        kept = [column for column in kept if column.name != name]
    return kept


def _cell(column: Column, traits: Traits, widths: dict[str, int]) -> str:
    """A cell as ``str.format()`` takes it, as wide as its column."""
    value = column.value(traits)
    if isinstance(value, Own):
        return value.text.replace("#x", f"#{widths[column.name]}x")
    return literal(_aligned(common_text(column, traits), column, widths))


def _aligned(cell: str, column: Column, widths: dict[str, int]) -> str:
    width = widths[column.name]
    return cell.rjust(width) if column.is_number else cell.ljust(width)


def _line(cells: Sequence[str]) -> str:
    return _GAP.join(cells).rstrip() + "\n"
