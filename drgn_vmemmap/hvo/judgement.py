# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The judgement: one folio's entries in; layout, reuse frame and verdict out.

Pure: it knows how each of the folio's vmemmap pages is mapped, what this
kernel makes of an optimized folio, and nothing else. What a layout requires
follows ``vmemmap_remap_pte()`` of ``mm/hugetlb_vmemmap.c``.
"""

from __future__ import annotations

import enum
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import and_, eq, xor
from typing import NamedTuple

from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.walker import Entry, Paging, Problem, Run
from drgn_vmemmap.paging.x86_64 import ENTRY_SIZE, PAGE_SHIFT, PRESENT, PTE, WRITABLE

_OWN = PRESENT | WRITABLE
"""What the entry of a page that nothing shares has set."""

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


class Comparison:
    """
    Judges folios that are plainly right, by comparing bytes.

    Most folios are mapped exactly as optimized or as whole ones are; they need
    no object an entry. For all others it has no answer, and :func:`judge()` does.
    """

    def __init__(self, paging: Paging, layout: Layout) -> None:
        """
        :param layout: What this kernel makes of an optimized folio.
        """
        self._layout = layout
        self._kept = layout.kept
        self._encryption_mask = paging.encryption_mask
        self._address = x86_64.address_mask(PTE, paging.encryption_mask)
        self._flags = self._address ^ ((1 << 8 * ENTRY_SIZE) - 1)
        self._limit = paging.max_pfn << PAGE_SHIFT
        self._known: dict[tuple[int, Verdict, str], Judgement] = {}

    def entries(
        self, raw: bytes, above: int, tail_frames: frozenset[int]
    ) -> tuple[Judgement, int] | None:
        """
        Judge a folio whose vmemmap is mapped by last-level tables.

        :param raw: The entries of all its vmemmap pages.
        :param above: What the levels above leave of the access (``effective_access()``).
        :param tail_frames: PFNs that its zone keeps for shared tails of its order.
        :return: The judgement without its reuse frame, one object for all folios alike;
            and the reuse frame's PFN, -1 if there is none.
        """
        if not above & WRITABLE:
            return None
        kept = self._kept * ENTRY_SIZE
        count = len(raw) // ENTRY_SIZE
        tail = raw[kept : kept + ENTRY_SIZE]
        if raw[kept:-ENTRY_SIZE] == raw[kept + ENTRY_SIZE :]:
            frame = self._reuse_frame(raw[:kept], tail, tail_frames)
            if frame is not None:
                return self._judgement(count, Verdict.OPTIMIZED, "pte"), frame
        elif self._are_unoptimized(raw, tail_frames):
            return self._judgement(count, Verdict.UNOPTIMIZED, "pte"), -1
        else:
            # As boot_protected() tells.
            first = count >> 6
            rest = raw[-ENTRY_SIZE:]
            if (
                first > self._kept
                and raw[kept : first * ENTRY_SIZE] == tail * (first - self._kept)
                and raw[first * ENTRY_SIZE :] == rest * (count - first)
                and self._same_frame_writable(rest, tail)
            ):
                frame = self._reuse_frame(raw[:kept], tail, tail_frames)
                if frame is not None:
                    judgement = self._judgement(count, Verdict.OPTIMIZED, "pte")
                    return judgement._replace(read_only=((self._kept, first - 1),)), frame
        return None

    def table(
        self, raw: bytes, above: int, pages: int, tail_frames: frozenset[int]
    ) -> tuple[Judgement, list[int]] | None:
        """
        Judge folios side by side, all at once, if all are optimized.

        Those of the first one are looked at; the entries of the others, compared column
        by column, must differ from them in their frames alone.

        :param raw: The entries of all their vmemmap pages.
        :param pages: How many of these a folio has.
        :return: The judgement on each of them, and their reuse frames.
        """
        first = self.entries(raw[: pages * ENTRY_SIZE], above, tail_frames)
        if first is None or first[0].verdict is not Verdict.OPTIMIZED:
            return None
        entries = memoryview(raw).cast("Q")
        columns = [entries[index::pages] for index in range(pages)]
        one_tail = columns[self._kept]
        if any(tail != one_tail for tail in columns[self._kept + 1 :]):
            return None
        kept, tails = [column.tolist() for column in columns[: self._kept]], one_tail.tolist()
        # The last entry kept differs from a tail's as in the first folio, or, if the zone
        # keeps the tails' frame, the tails are the same ones.
        alike = tails if self._layout is Layout.SHARED_TAIL else map(xor, kept[-1], tails)
        flags = [set(map(and_, column, repeat(self._flags))) for column in kept]
        if any(len(found) > 1 for found in (set(alike), *flags)):
            return None
        return self._frames_of(kept, first[0], first[1], tail_frames)

    def _frames_of(
        self,
        kept: Sequence[list[int]],
        judgement: Judgement,
        reuse_frame: int,
        tail_frames: frozenset[int],
    ) -> tuple[Judgement, list[int]] | None:
        """The reuse frames of folios that are mapped alike, if all frames are right."""
        frames = [(entry & self._address) >> PAGE_SHIFT for entry in kept[-1]]
        if max(frames) << PAGE_SHIFT >= self._limit:
            return None
        if self._layout is Layout.SHARED_TAIL:
            if not tail_frames.isdisjoint(frames):
                return None
            return judgement, [reuse_frame] * len(frames)
        if self._layout is Layout.TAIL_REUSE:
            heads = [(entry & self._address) >> PAGE_SHIFT for entry in kept[0]]
            if max(heads) << PAGE_SHIFT >= self._limit or any(map(eq, heads, frames)):
                return None
        return judgement, frames

    def leaves(
        self, runs: Sequence[Run], count: int, tail_frames: frozenset[int]
    ) -> tuple[Judgement, int] | None:
        """
        Judge a folio whose vmemmap is mapped by large leaves.

        :param runs: The leaves.
        :param count: How many vmemmap pages the folio has.
        """
        level = runs[0].level
        frames = set()
        for run in runs:
            if run.level is not level or not run.raw or not run.above & WRITABLE:
                return None
            entry = run.entries()[0]
            if entry & _OWN != _OWN or not x86_64.is_leaf(entry, level):
                return None
            address = entry & x86_64.address_mask(level, self._encryption_mask)
            if address + level.entry_span > self._limit:
                return None
            if any(
                0 <= (frame << PAGE_SHIFT) - address < level.entry_span for frame in tail_frames
            ):
                return None
            frames.add((address, run.start % level.entry_span))
        if len(frames) < len(runs):
            return None
        return self._judgement(count, Verdict.UNOPTIMIZED, level.name.lower()), -1

    def _reuse_frame(self, own: bytes, tail: bytes, tail_frames: frozenset[int]) -> int | None:
        """The reuse frame of a folio whose tails are all mapped alike, if it is the right one."""
        reuse, head = int.from_bytes(tail, "little"), int.from_bytes(own[:ENTRY_SIZE], "little")
        frame, head_frame = reuse & self._address, head & self._address
        if (
            self._layout is Layout.NONE
            or reuse & _OWN != PRESENT
            or head & _OWN != _OWN
            or max(frame, head_frame) >= self._limit
        ):
            return None
        if self._layout is Layout.HEAD_REUSE:
            return frame >> PAGE_SHIFT if frame == head_frame else None
        if frame == head_frame:
            return None
        if self._layout is Layout.TAIL_REUSE:
            second = int.from_bytes(own[ENTRY_SIZE:], "little")
            its_own = second & _OWN == _OWN and second & self._address == frame
            return frame >> PAGE_SHIFT if its_own else None
        registered = frame >> PAGE_SHIFT in tail_frames
        return (
            frame >> PAGE_SHIFT
            if registered and head_frame >> PAGE_SHIFT not in tail_frames
            else None
        )

    def _same_frame_writable(self, entry: bytes, tail: bytes) -> bool:
        raw = int.from_bytes(entry, "little")
        frame = int.from_bytes(tail, "little") & self._address
        return raw & _OWN == _OWN and raw & self._address == frame

    def _are_unoptimized(self, raw: bytes, tail_frames: frozenset[int]) -> bool:
        """Whether each entry maps a frame of its own, writable."""
        entries = struct.unpack(f"<{len(raw) // ENTRY_SIZE}Q", raw)
        addresses = {entry & self._address for entry in entries if entry & _OWN == _OWN}
        return (
            len(addresses) == len(entries)
            and max(addresses) < self._limit
            and not any(frame << PAGE_SHIFT in addresses for frame in tail_frames)
        )

    def _judgement(self, count: int, verdict: Verdict, mapped_by: str) -> Judgement:
        key = count, verdict, mapped_by
        if key not in self._known:
            tails = ((self._kept, count - 1),) if verdict is Verdict.OPTIMIZED else ()
            layout = self._layout if tails else Layout.NONE
            freed = count - self._kept if tails else 0
            self._known[key] = Judgement(verdict, layout, mapped_by, None, tails, tails, freed)
        return self._known[key]


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
    exit_code_of = {Layout.HEAD_REUSE: 0, Layout.TAIL_REUSE: 1}.get(layout)
    if exit_code_of is not None and entries[exit_code_of].frame is None:
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
