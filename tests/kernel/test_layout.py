# SPDX-License-Identifier: LGPL-2.1-or-later

"""The pictures of the layouts."""

from __future__ import annotations

import pytest

from drgn_vmemmap.kernel.layout import ZONE, Layout, reuse_from
from tests.synthetic.layouts import KEPT, PICTURES, REUSED_PAGE


@pytest.mark.parametrize("layout", PICTURES)
def test_a_layout_is_what_its_picture_shows(layout: Layout) -> None:
    assert f"{layout.frames} {layout.access}" == PICTURES[layout]
    assert (layout.kept, layout.reuse_from) == (KEPT[layout], REUSED_PAGE[layout])


def test_where_no_page_is_read_only_no_frame_is_reused() -> None:
    assert reuse_from("abcdefgh", "WWWWWWWW") is ZONE


@pytest.mark.parametrize(
    "picture",
    (
        "abcccccc WWRRRRRR",  # no page keeps the frame that is reused
        "abbbbbbb RWRRRRRR",  # a page that keeps its frame is read-only
        "abbbbbba WWRRRRRR",  # two frames are reused
        "attttttb WRRRRRRR",
    ),
)
def test_another_picture_is_refused(picture: str) -> None:
    with pytest.raises(ValueError, match="is no picture of a layout"):
        reuse_from(*picture.split())
