# SPDX-License-Identifier: LGPL-2.1-or-later

"""The layouts: how the vmemmap pages of a HugeTLB folio are mapped."""

from __future__ import annotations

import enum

ZONE = None
"""In place of the index of a vmemmap page: the reuse frame is one that the zone keeps."""


def reuse_from(frames: str, access: str) -> int | None:
    """
    The page of a picture whose frame the read-only pages map.

    :return: :data:`ZONE` for a frame of the zone, and where no page is read-only.
    :raises ValueError: if this is no picture of a layout.
    """
    kept = access.count("W")
    shared = set(frames[kept:])
    if access == "W" * kept + "R" * (len(frames) - kept):
        if shared <= {"t"}:
            return ZONE
        if len(shared) == 1 and frames[-1] in frames[:kept]:
            return frames.index(frames[-1])
    raise ValueError(f"{frames} {access} is no picture of a layout")


class Layout(enum.Enum):
    """
    How the vmemmap pages of a HugeTLB folio are mapped.

    The pictures are of a folio of 2 MiB, with a letter for each of its 8 vmemmap pages. In
    :attr:`frames` the same letter is the same frame, and ``t`` is a frame of the zone; in
    :attr:`access` pages are writable (``W``) or read-only (``R``). In a larger folio the last
    letter stands for all pages from there on.

    A picture begins with the pages that keep their frames, and only these are writable. The
    frame that the others map is that of one of these, or the zone's.

    Follows ``vmemmap_remap_pte()`` of ``mm/hugetlb_vmemmap.c``.
    """

    frames: str
    access: str
    kept: int
    """How many of a folio's vmemmap pages keep a frame of their own."""
    reuse_from: int | None
    """
    Index of the page whose frame the others map; :data:`ZONE` for a frame of the zone, and
    where no frame is shared.
    """

    NONE = ("none", "abcdefgh", "WWWWWWWW")
    TAIL_REUSE = ("tail-reuse", "abbbbbbb", "WWRRRRRR")
    HEAD_REUSE = ("head-reuse", "aaaaaaaa", "WRRRRRRR")
    SHARED_TAIL = ("shared-tail", "attttttt", "WRRRRRRR")
    UNKNOWN = ("unknown", "", "")
    """Of a kernel whose layout was not recognised, and of its folios that share frames."""

    def __new__(cls, name: str, frames: str, access: str) -> Layout:
        layout = object.__new__(cls)
        layout._value_ = name
        layout.frames, layout.access = frames, access
        layout.kept = access.count("W")
        layout.reuse_from = reuse_from(frames, access)
        return layout

    @property
    def reused_index(self) -> int:
        """Index of the first vmemmap page that maps the reuse frame."""
        return self.kept if self.reuse_from is ZONE else self.reuse_from
