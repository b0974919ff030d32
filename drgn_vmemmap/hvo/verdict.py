# SPDX-License-Identifier: LGPL-2.1-or-later

"""The verdict on a folio: what its page-table entries amount to."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from drgn_vmemmap.kernel.layout import Layout

Ranges = tuple[tuple[int, int], ...]
"""Ascending ranges of indices, each with its first and its last."""


class Verdict(enum.Enum):
    """How a folio is mapped."""

    OPTIMIZED = "optimized"
    """Exactly as this kernel maps an optimized folio."""
    UNOPTIMIZED = "unoptimized"
    """Every vmemmap page has a frame of its own and is writable."""
    PARTIAL = "partial"
    """Partly optimized without a fault: in flight, or after a failed roll-back."""
    INCONSISTENT = "inconsistent"
    """None of these."""
    UNREADABLE = "unreadable"
    """Memory that decides it is not in the dump."""


class Judgement(NamedTuple):
    """The judgement on the entries of one folio. Indices count its vmemmap pages from 0."""

    verdict: Verdict
    layout: Layout
    """The layout whose shape the entries have, whatever this kernel's own is."""
    mapped_by: str | None
    """Level of the leaves: ``pte``, ``pmd``, ``pud`` or ``mixed``; ``None`` without any."""
    reuse_frame: int | None
    """PFN of the frame that vmemmap pages share."""
    shared: Ranges
    """Pages that map the reuse frame and are not the one it belongs to."""
    read_only: Ranges
    """Pages that are mapped, and not writable, all levels counted."""
    freed: int
    """How many pages own no frame any more."""


def ranges(indices: Iterable[int]) -> Ranges:
    """Ascending indices as ranges."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index - 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return tuple(found)


def format_ranges(indices: Ranges) -> str:
    """Ranges as the kernel writes them: ``1-7``, ``2-7,9``, empty when there is none."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in indices)
