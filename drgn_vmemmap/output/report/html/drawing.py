# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The drawing of a folio: its vmemmap pages on the left, the frames that back them on
the right, and which leads to which.

Of a large folio, what is mapped alike is put together: the 4096 vmemmap pages
of an optimized one of 1 GiB are drawn as two.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from drgn_vmemmap.analysis.samples import Sample
from drgn_vmemmap.hvo.verdict import Judgement
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Entry, Problem

# The most vmemmap pages, or groups of them, that are drawn.
_BOXES = 16

Span = Optional[tuple[int, int]]
"""PFNs of the first and the last of some frames; ``None`` for pages without any."""


class Pages(NamedTuple):
    """A vmemmap page, or some that follow each other and are mapped alike."""

    indices: range
    entry: Entry
    """How the first of them is mapped."""
    span: Span
    wrong: bool
    """A finding names one of them."""

    def __str__(self) -> str:
        return _from_to(str(self.indices[0]), str(self.indices[-1]))


class Frames(NamedTuple):
    """A frame, or some that follow each other."""

    first: int
    last: int
    role: str
    place: float
    """Where it is drawn, in boxes from the top."""

    def __str__(self) -> str:
        return _from_to(hex(self.first), hex(self.last))


class Drawing(NamedTuple):
    """One folio."""

    sample: Sample
    pages: list[Pages]
    frames: Mapping[Span, Frames]
    left_out: int
    """How many vmemmap pages are not drawn."""

    @property
    def height(self) -> float:
        """Height in boxes."""
        return max(len(self.pages), *(frames.place + 1 for frames in self.frames.values()), 0)


def draw(sample: Sample, wrong: Container[int]) -> Drawing:
    """
    :param wrong: Indices of the vmemmap pages that a finding names.
    """
    entries, judgement = sample.entries, sample.report.judgement
    groups = list(_groups(entries, judgement.layout))
    pages = [
        Pages(group, entries[group[0]], _span(entries, group), any(i in wrong for i in group))
        for group in groups[:_BOXES]
    ]
    return Drawing(
        sample,
        pages,
        {
            span: Frames(*span, _role(span, pages, judgement), place)
            for span, place in _places(pages)
        },
        sum(len(group) for group in groups[_BOXES:]),
    )


def _groups(entries: Sequence[Entry], layout: Layout) -> Iterator[range]:
    """Pages that are drawn as one: each for itself, or those mapped alike if they are many."""
    start = 0
    for index in range(1, len(entries) + 1):
        if (
            index == len(entries)
            or len(entries) <= _BOXES
            or (index <= layout.kept and layout is not Layout.NONE)
            or not _goes_on(entries, start, index)
        ):
            yield range(start, index)
            start = index


def _goes_on(entries: Sequence[Entry], start: int, index: int) -> bool:
    """Whether a page is mapped like those before it: to the same frame, or to the next ones."""
    first, before, entry = entries[start], entries[index - 1], entries[index]
    if (entry.problem, entry.access) != (first.problem, first.access):
        return False
    if first.frame is None or before.frame is None or entry.frame is None:
        return entry.frame is before.frame
    step = entry.frame - before.frame
    return step in (0, 1) and before.frame - first.frame == step * (index - 1 - start)


def _span(entries: Sequence[Entry], group: range) -> Span:
    first, last = entries[group[0]].frame, entries[group[-1]].frame
    return None if first is None or last is None else (first, last)


def _role(span: tuple[int, int], pages: Sequence[Pages], judgement: Judgement) -> str:
    users = [group for group in pages if group.span == span]
    if any(group.entry.problem is Problem.BEYOND_MEMORY for group in users):
        return "beyond memory"
    if span[0] == judgement.reuse_frame:
        return "reuse frame"
    own = span[0] < span[1] or sum(len(group.indices) for group in users) == 1
    return "own" if own else "shared"


def _places(pages: Sequence[Pages]) -> Iterator[tuple[tuple[int, int], float]]:
    """Frames amid the pages that lead to them, as far as there is space."""
    users: dict[tuple[int, int], list[int]] = {}
    for number, group in enumerate(pages):
        if group.span is not None:
            users.setdefault(group.span, []).append(number)
    free = 0.0
    for span, numbers in sorted(users.items(), key=lambda item: sum(item[1]) / len(item[1])):
        place = max(free, sum(numbers) / len(numbers))
        free = place + 1
        yield span, place


def _from_to(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"
