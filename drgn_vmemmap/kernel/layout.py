# SPDX-License-Identifier: LGPL-2.1-or-later

"""The layouts: how the vmemmap pages of a HugeTLB folio are mapped."""

from __future__ import annotations

import enum


class Layout(enum.Enum):
    """How the vmemmap pages of a HugeTLB folio are mapped."""

    NONE = "none"
    """Each to a frame of its own, writable."""
    TAIL_REUSE = "tail-reuse"
    """Pages 0 and 1 to frames of their own, writable; the others read-only to that of page 1."""
    HEAD_REUSE = "head-reuse"
    """Page 0 to a frame of its own, writable; the others read-only to the same one."""
    SHARED_TAIL = "shared-tail"
    """Page 0 to a frame of its own, writable; the others read-only to one that the zone keeps."""

    @property
    def kept(self) -> int:
        """How many of a folio's vmemmap pages keep a frame of their own."""
        return 2 if self is Layout.TAIL_REUSE else 1
