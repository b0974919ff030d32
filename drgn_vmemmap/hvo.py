# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The judgement: one folio's entries in; layout, reuse frame and verdict out.

Pure: it knows how each of the folio's vmemmap pages is mapped, what this
kernel makes of an optimized folio, and nothing else. What a layout requires
follows ``vmemmap_remap_pte()`` of ``mm/hugetlb_vmemmap.c``.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drgn_vmemmap.kernel import Layout
from drgn_vmemmap.pagetable import Entry, Problem

Ranges = tuple[tuple[int, int], ...]
"""Ascending ranges of indices, each with its first and its last."""


class Verdict(enum.Enum):
    """What the page tables say of a folio."""

    OPTIMIZED = "optimized"
    """Mapped exactly as this kernel maps an optimized folio."""
    UNOPTIMIZED = "unoptimized"
    """Every vmemmap page has a frame of its own and is writable."""
    INCONSISTENT = "inconsistent"
    """Neither."""
    UNREADABLE = "unreadable"
    """Memory that is needed to tell is not in the dump."""


class Judgement(NamedTuple):
    """What one folio's entries amount to. Indices count its vmemmap pages from 0."""

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


def judge(
    entries: Sequence[Entry], layout: Layout, tail_frames: frozenset[int] | None
) -> Judgement:
    """
    Judge one folio.

    :param entries: How its vmemmap pages are mapped, in order, all of them.
    :param layout: What this kernel makes of an optimized folio.
    :param tail_frames: PFNs that its zone keeps for shared tails of its order;
        ``None`` if the dump does not tell.
    """
    reuse_frame = _reuse_frame(entries, tail_frames or frozenset())
    shape = _shape(entries, reuse_frame, layout, tail_frames)
    shared = [
        index
        for index, entry in enumerate(entries)
        if index >= shape.kept and entry.frame == reuse_frame and reuse_frame is not None
    ]
    return Judgement(
        verdict=_verdict(entries, shape, layout, reuse_frame, len(shared), tail_frames),
        layout=shape,
        mapped_by=_mapped_by(entries),
        reuse_frame=reuse_frame,
        shared=ranges(shared),
        read_only=ranges(
            index
            for index, entry in enumerate(entries)
            if entry.frame is not None and not entry.access.writable
        ),
        freed=len(shared),
    )


def _reuse_frame(entries: Sequence[Entry], tail_frames: frozenset[int]) -> int | None:
    """The frame that tail pages share, as far as the entries show one."""
    tails = Counter(entry.frame for entry in entries[1:] if entry.frame is not None)
    for frame in (*tail_frames, entries[0].frame):
        if frame is not None and frame in tails:
            return frame
    most_common = tails.most_common(1)
    if most_common and most_common[0][1] > 1:
        return most_common[0][0]
    return None


def _shape(
    entries: Sequence[Entry],
    reuse_frame: int | None,
    layout: Layout,
    tail_frames: frozenset[int] | None,
) -> Layout:
    if reuse_frame is None:
        return Layout.NONE
    if reuse_frame == entries[0].frame:
        return Layout.HEAD_REUSE
    # Where the entry that would tell is missing, the kernel's own layout is presumed.
    telling = {Layout.HEAD_REUSE: 0, Layout.TAIL_REUSE: 1}.get(layout)
    if telling is not None and entries[telling].frame is None:
        return layout
    # The other two have the same frames: where the reuse frame comes from tells them apart.
    if tail_frames is None or reuse_frame in tail_frames:
        return Layout.SHARED_TAIL
    if layout is Layout.TAIL_REUSE or (
        entries[1].frame == reuse_frame and entries[1].access.writable
    ):
        return Layout.TAIL_REUSE
    return Layout.SHARED_TAIL


def _verdict(
    entries: Sequence[Entry],
    shape: Layout,
    layout: Layout,
    reuse_frame: int | None,
    shared: int,
    tail_frames: frozenset[int] | None,
) -> Verdict:
    if any(entry.problem is Problem.UNREADABLE for entry in entries):
        return Verdict.UNREADABLE
    if any(entry.problem is not None for entry in entries):
        return Verdict.INCONSISTENT
    own, tails = entries, entries[:0]
    protected = boot_protected(entries)
    if shape is not Layout.NONE:
        own, tails = entries[: shape.kept], entries[shape.kept :]
    if (
        not all(entry.access.writable for entry in own)
        or len({entry.frame for entry in own}) != len(own)
        or any(entry.frame in (tail_frames or ()) for entry in own)
        or len(tails) != shared
        or any(entry.access.writable for entry in tails if not protected)
        or shape not in (Layout.NONE, layout)
    ):
        return Verdict.INCONSISTENT
    if shape is Layout.NONE:
        return Verdict.UNOPTIMIZED
    if shape is Layout.TAIL_REUSE and reuse_frame != entries[1].frame:
        return Verdict.INCONSISTENT
    if shape is Layout.SHARED_TAIL and tail_frames is None:
        return Verdict.UNREADABLE
    if shape is Layout.SHARED_TAIL and reuse_frame not in (tail_frames or ()):
        return Verdict.INCONSISTENT
    return Verdict.OPTIMIZED


def boot_protected(entries: Sequence[Entry]) -> int | None:
    """
    Tell a gigantic folio from boot that its kernel write-protected only in part.

    Linux commit 752fe17af693 ("mm/hugetlb: add pre-HVO framework") (in v6.15)
    took the folio's size in pages for the size of its vmemmap in bytes, so that
    of 4096 vmemmap pages the first 64 are protected; v7.2 does not any more.

    :return: Index of the first page that was left writable; ``None`` for any other folio.
    """
    # A struct page of 64 bytes for each page: 64 vmemmap pages for one page of pages.
    first = len(entries) >> 6
    known = [index for index, entry in enumerate(entries) if entry.frame is not None]
    if first < 2 or any(
        entries[index].access.writable != (index == 0 or index >= first) for index in known
    ):
        return None
    return next((index for index in known if index >= first), None)


def _mapped_by(entries: Iterable[Entry]) -> str | None:
    levels = {entry.level.name.lower() for entry in entries if entry.frame is not None}
    if not levels:
        return None
    return levels.pop() if len(levels) == 1 else "mixed"


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
