# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The diagnosis: one folio's entries in; layout, reuse frame and verdict out.

It is a pure function of how each of the folio's vmemmap pages is mapped and of what this
kernel makes of an optimized folio. It finds the shape that is nearest to entries which
:func:`drgn_vmemmap.hvo.predicate.admits` refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from drgn_vmemmap.hvo.predicate import admits
from drgn_vmemmap.hvo.verdict import Judgement, Ranges, Verdict, ranges
from drgn_vmemmap.kernel.layout import ZONE, Layout
from drgn_vmemmap.paging.column import READ_ONLY, READ_WRITE, column_of
from drgn_vmemmap.paging.mapping import Entry, Problem

BOOT_PROTECTED = (1 << 30 - 12) // 4096
"""
How many vmemmap pages of a folio of 1 GiB from boot some kernels write-protect: those of as many
bytes as it has pages, however large a struct page is. See :func:`first_unprotected()`.
"""

_NO_LIMIT = 1 << 64
"""Frames beyond memory are known by the entries' problems."""


def judge(
    entries: Sequence[Entry],
    layout: Layout,
    tail_frames: frozenset[int] | None,
    may_be_partial: bool = False,
    is_made_at_boot: bool = False,
) -> Judgement:
    """
    Judge one folio.

    :param entries: How its vmemmap pages are mapped, in order, all of them.
    :param layout: What this kernel makes of an optimized folio.
    :param tail_frames: PFNs that its zone keeps for shared tails of its order; ``None`` if that is
        not in the dump. Where zones keep none, empty.
    :param may_be_partial: Whether the folio may be optimized in part without a fault.
    :param is_made_at_boot: Whether this kernel makes gigantic folios at boot in their optimized
        form.
    """
    if layout is Layout.UNKNOWN:
        return _judge_by_frames(entries)
    reuse_frame = _reuse_frame(entries, layout, tail_frames or frozenset())
    shape = _shape(entries, reuse_frame, layout, tail_frames)
    shared = [
        index
        for index, entry in enumerate(entries)
        if index >= shape.kept and entry.frame == reuse_frame and reuse_frame is not None
    ]
    verdict = _verdict(entries, shape, layout, reuse_frame, tail_frames)
    if verdict is Verdict.INCONSISTENT and may_be_partial:
        if tail_frames is None and not any(entry.problem for entry in entries):
            verdict = Verdict.UNREADABLE
        elif shape is layout and _is_partial(
            entries, layout, reuse_frame, tail_frames, is_made_at_boot
        ):
            verdict = Verdict.PARTIAL
    return Judgement(
        verdict=verdict,
        layout=shape,
        mapped_by=_mapped_by(entries),
        reuse_frame=reuse_frame,
        shared=ranges(shared),
        read_only=_read_only(entries),
        freed=len(shared),
    )


def _judge_by_frames(entries: Sequence[Entry]) -> Judgement:
    """
    Judge one folio of a kernel whose layout is not known: by the frames that it shares.

    A vmemmap page that maps the frame of an earlier one counts as freed. If another folio shares
    that frame, too, the first page that maps it owns none either, which is not counted.
    """
    first: dict[int, int] = {}
    for index, entry in enumerate(entries):
        if entry.frame is not None:
            first.setdefault(entry.frame, index)
    shared = [
        index
        for index, entry in enumerate(entries)
        if entry.frame is not None and first[entry.frame] != index
    ]
    problems = {entry.problem for entry in entries}
    if Problem.UNREADABLE in problems:
        verdict = Verdict.UNREADABLE
    elif problems != {None}:
        verdict = Verdict.INCONSISTENT
    else:
        verdict = Verdict.OPTIMIZED if shared else Verdict.UNOPTIMIZED
    return Judgement(
        verdict=verdict,
        layout=Layout.UNKNOWN if shared else Layout.NONE,
        mapped_by=_mapped_by(entries),
        reuse_frame=entries[shared[0]].frame if shared else None,
        shared=ranges(shared),
        read_only=_read_only(entries),
        freed=len(shared),
    )


def _read_only(entries: Sequence[Entry]) -> Ranges:
    return ranges(
        index
        for index, entry in enumerate(entries)
        if entry.frame is not None and not entry.access.writable
    )


def _reuse_frame(
    entries: Sequence[Entry], layout: Layout, tail_frames: frozenset[int]
) -> int | None:
    """The frame that tail pages share, as far as the entries show one."""
    tails = Counter(entry.frame for entry in entries[1:] if entry.frame is not None)
    # Where the layout reuses the frame of a page after the head's, that comes first: a single tail
    # may be mapped to the head's by mistake.
    own = entries[layout.reuse_from].frame if layout.reuse_from else None
    if own is not None and tails[own] > 1:
        return own
    for frame in (*tail_frames, entries[0].frame):
        if frame in tails:
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
    """The layout whose shape the entries have, or come nearest to."""
    if reuse_frame is None:
        return Layout.NONE
    if reuse_frame == entries[0].frame:
        return Layout.HEAD_REUSE
    # Where the entry that decides is missing, the kernel's own layout is presumed.
    if layout.reuse_from is not ZONE and entries[layout.reuse_from].frame is None:
        return layout
    # The others may have the same frames: where the reuse frame comes from distinguishes them.
    if tail_frames is None or reuse_frame in tail_frames:
        return Layout.SHARED_TAIL
    # The kernel's own layout, or else any other one, reuses the frame of a page after the head's.
    if layout.reuse_from:
        return layout
    for shape in Layout:
        source = entries[shape.reuse_from] if shape.reuse_from else None
        if source is not None and source.frame == reuse_frame and source.access.writable:
            return shape
    return Layout.SHARED_TAIL


def _verdict(
    entries: Sequence[Entry],
    shape: Layout,
    layout: Layout,
    reuse_frame: int | None,
    tail_frames: frozenset[int] | None,
) -> Verdict:
    problems = {entry.problem for entry in entries}
    if Problem.UNREADABLE in problems:
        return Verdict.UNREADABLE
    if problems != {None} or shape not in (Layout.NONE, layout):
        return Verdict.INCONSISTENT
    zone = tail_frames or frozenset()
    if shape is Layout.NONE:
        own = [column_of((entry,)) for entry in entries]
        sound = admits(Layout.NONE, own, None, zone, _NO_LIMIT)
        return Verdict.UNOPTIMIZED if sound else Verdict.INCONSISTENT
    if tail_frames is None and reuse_frame is not None:
        # Which frames the zone keeps is not in the dump: the folio is sound if this is one of them.
        zone = frozenset((reuse_frame,))
    if not _is_optimized(entries, layout, zone):
        return Verdict.INCONSISTENT
    return Verdict.UNREADABLE if tail_frames is None else Verdict.OPTIMIZED


def _is_optimized(entries: Sequence[Entry], layout: Layout, zone: frozenset[int]) -> bool:
    """Whether the entries of a folio are what a layout requires."""
    own = [column_of((entry,)) for entry in entries[: layout.kept]]
    tails = entries[layout.kept :]
    unprotected = first_unprotected(entries)
    if unprotected is not None:
        tails = tails[: unprotected - layout.kept]
    if len({entry.frame for entry in entries[layout.kept :]}) != 1:
        return False
    column = column_of(tails)
    return admits(layout, own, column._replace(frames=column.frames[:1]), zone, _NO_LIMIT)


def _is_partial(
    entries: Sequence[Entry],
    layout: Layout,
    reuse_frame: int | None,
    tail_frames: frozenset[int] | None,
    is_made_at_boot: bool,
) -> bool:
    """
    Whether each tail is mapped as before a remap or as after it.

    A remap and a restore go from page to page (``vmemmap_remap_range()``). Since Linux commit
    752fe17af693 ("mm/hugetlb: add pre-HVO framework") (in v6.15), the tails of a gigantic folio
    from boot share their frame from the start, and are protected later.
    """
    if any(entry.problem for entry in entries):
        return False
    zone = tail_frames or frozenset()
    tails = [entry for entry in entries[layout.kept :] if entry.frame == reuse_frame]
    rest = [entry for entry in entries[layout.kept :] if entry.frame != reuse_frame]
    own = [column_of((entry,)) for entry in (*entries[: layout.kept], *rest)]
    column = column_of(tails)
    column = column._replace(frames=column.frames[:1])
    is_gigantic = len(entries) > BOOT_PROTECTED
    if is_made_at_boot and is_gigantic and not rest and column.attributes == READ_WRITE:
        column = column._replace(attributes=READ_ONLY)
    return admits(layout, own, column, zone, _NO_LIMIT)


def first_unprotected(entries: Sequence[Entry]) -> int | None:
    """
    Find where write protection ends in a gigantic folio that its kernel protected only in part.

    Linux commit 752fe17af693 ("mm/hugetlb: add pre-HVO framework") (in v6.15)
    took the folio's size in pages for the size of its vmemmap in bytes; v7.2 does not any more.

    :return: Index of the first page that was left writable; ``None`` for any other folio.
    """
    first = BOOT_PROTECTED
    known = [index for index, entry in enumerate(entries) if entry.frame is not None]
    if any(entries[index].access.writable != (index == 0 or index >= first) for index in known):
        return None
    return next((index for index in known if index >= first), None)


def _mapped_by(entries: Iterable[Entry]) -> str | None:
    levels = {entry.level.name.lower() for entry in entries if entry.frame is not None}
    if not levels:
        return None
    return levels.pop() if len(levels) == 1 else "mixed"
