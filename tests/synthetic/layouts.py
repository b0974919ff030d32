# SPDX-License-Identifier: LGPL-2.1-or-later

"""The layouts as pictures, apart from what the package knows of them."""

from __future__ import annotations

from drgn_vmemmap.kernel.layout import Layout

PICTURES = {
    Layout.TAIL_REUSE: "abbbbbbb WWRRRRRR",
    Layout.HEAD_REUSE: "aaaaaaaa WRRRRRRR",
    Layout.SHARED_TAIL: "attttttt WRRRRRRR",
}
"""
Of each vmemmap page of an optimized folio of 2 MiB, the frame as a letter and the access.

A larger folio is like its last page over and over. The frame ``t`` is the zone's.
"""

ZONES_FRAME = "t"

KEPT = {layout: picture.count("W") for layout, picture in PICTURES.items()}
"""How many vmemmap pages of an optimized folio keep a frame of their own."""

REUSED_PAGE = {
    layout: None if picture[7] == ZONES_FRAME else picture.index(picture[7])
    for layout, picture in PICTURES.items()
}
"""The vmemmap page whose frame the others share; ``None`` where they share the zone's."""
