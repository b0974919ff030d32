# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The predicate: folios that are compared together are sound only if each of them is.

Each letter is a frame: ``t`` is one that the zone keeps, ``}`` the last one of memory, and ``~``
the one after it.
"""

from __future__ import annotations

from array import array

import pytest

from drgn_vmemmap.hvo.predicate import admits
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.column import READ_ONLY, READ_WRITE, Column
from tests.synthetic.layouts import KEPT

ZONE, LIMIT = frozenset({ord("t")}), ord("~")

FOLIOS = {
    Layout.NONE: (
        ("abcdefgh", "ijklmnop", "uvwxyz|}"),
        ("ABCDEFGA", "ABBDEFGH", "ABCDEFG~", "~BCDEFGH", "ABCDEFGt"),
    ),
    Layout.TAIL_REUSE: (
        ("abbbbbbb", "cddddddd", "}eeeeeee"),
        ("AAAAAAAA", "A~~~~~~~", "~BBBBBBB", "Attttttt", "tBBBBBBB"),
    ),
    Layout.HEAD_REUSE: (
        ("aaaaaaaa", "bbbbbbbb", "}}}}}}}}"),
        ("ABBBBBBB", "~~~~~~~~", "tttttttt"),
    ),
    Layout.SHARED_TAIL: (
        ("attttttt", "bttttttt", "}ttttttt"),
        ("AAAAAAAA", "ABBBBBBB", "~ttttttt", "tttttttt"),
    ),
}
"""Of each layout, folios that are mapped as it requires, and others."""


def are_admitted(layout: Layout, folios: list[str]) -> bool:
    frames = [[*map(ord, letters)] for letters in zip(*folios)]
    kept = KEPT.get(layout, 8)
    own = [Column(array("q", column), READ_WRITE) for column in frames[:kept]]
    tails = [Column(array("q", column), READ_ONLY) for column in frames[kept:]]
    return admits(layout, own, tails[0] if tails else None, ZONE, LIMIT)


@pytest.mark.parametrize("layout", FOLIOS)
def test_folios_are_as_a_layout_requires_only_if_each_of_them_is(layout: Layout) -> None:
    sound, wrong = FOLIOS[layout]
    assert are_admitted(layout, [*sound])
    for place, one in ((place, one) for place in range(len(sound)) for one in wrong):
        assert not are_admitted(layout, [*sound[:place], one, *sound[place + 1 :]])


def test_a_folio_that_is_not_optimized_shares_no_frame_not_even_a_zones() -> None:
    own, tails = Column(array("q", [1]), READ_WRITE), Column(array("q", ZONE), READ_ONLY)
    assert admits(Layout.SHARED_TAIL, [own], tails, ZONE, LIMIT)
    assert not admits(Layout.NONE, [own], tails, ZONE, LIMIT)
