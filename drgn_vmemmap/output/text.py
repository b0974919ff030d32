# SPDX-License-Identifier: LGPL-2.1-or-later

"""Numbers and places in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from drgn_vmemmap.analysis.report import Counts
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.rules.finding import Finding

_USUAL = (Verdict.OPTIMIZED, Verdict.UNOPTIMIZED)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """
    A number of things: ``1 folio``, ``4,096 folios``.

    :param nouns: The plural, where it is not just the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def size(count: int) -> str:
    """A number of bytes: ``4 KiB``, ``1.8 MiB``."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if round(abs(value), 1) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"


def node_name(node: int | None) -> str:
    """A node's number; ``?`` for folios of unknown node."""
    return "?" if node is None else str(node)


def shown_verdicts(counts: Iterable[Counts]) -> list[Verdict]:
    """The verdicts that have a column: the usual ones, and those that any folio has."""
    counts = list(counts)
    return [v for v in Verdict if v in _USUAL or any(found[v] for found in counts)]


def text_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table: the first column to the left, all others, numbers, to the right."""
    cells = [headers, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    # tabulate widens headings; a row like all others stays as wide as it is.
    alignment = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(cells, tablefmt="plain", disable_numparse=True, colalign=alignment)


def place(finding: Finding) -> str:
    """Where a finding is, to stand before its message."""
    if finding.folio is None:
        return ""
    page = "" if finding.index is None else f", vmemmap page {finding.index}"
    return f"folio {finding.folio:#x}{page}: "
