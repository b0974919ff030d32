# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios that may be optimized in part, and those of a kernel whose layout is not known."""

from __future__ import annotations

from typing import Any

import pytest

from drgn_vmemmap.hvo.diagnosis import BOOT_PROTECTED, first_unprotected, judge
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Entry
from tests.hvo.test_judgement import (
    GIGANTIC,
    HEAD_REUSE,
    NONE,
    OF_THE_ZONE,
    SHARED_TAIL,
    TAIL_REUSE,
    UNOPTIMIZED_FOLIO,
    ZONE,
    changed,
    entries,
    every_layout,
    gigantic,
    mixed,
)
from tests.synthetic.layouts import KEPT, PICTURES

OWN = "".join(map(chr, range(0x4E00, 0x4E00 + GIGANTIC)))
"""Frames of a folio of 1 GiB that is not optimized."""


def partial(folio: str, layout: Layout, **options: Any) -> Verdict:
    """The verdict on a folio that may be optimized in part."""
    options.setdefault("tail_frames", ZONE if layout in OF_THE_ZONE else frozenset())
    return judge(entries(folio), layout, may_be_partial=True, **options).verdict


def halves(layout: Layout) -> list[str]:
    """Folios whose remap, or whose restore, goes from page to page and is not done."""
    cuts, whole = range(KEPT[layout] + 1, 8), (PICTURES[layout], UNOPTIMIZED_FOLIO)
    return [mixed(*pair, cut) for pair in (whole, whole[::-1]) for cut in cuts]


@every_layout
def test_a_folio_that_is_half_remapped_is_partial_where_it_may_be(layout: Layout) -> None:
    for folio in halves(layout):
        assert partial(folio, layout) is Verdict.PARTIAL


@every_layout
def test_a_folio_that_may_be_partial_may_be_sound_too(layout: Layout) -> None:
    assert partial(PICTURES[layout], layout) is Verdict.OPTIMIZED
    assert partial(UNOPTIMIZED_FOLIO, layout) is Verdict.UNOPTIMIZED


@every_layout
def test_a_folio_is_not_partial_where_an_entry_is_wrong(layout: Layout) -> None:
    last, first = halves(layout)[0], halves(layout)[-1]
    for folio, remapped, own in ((last, KEPT[layout], 7), (first, 7, KEPT[layout])):
        frames, _ = folio.split()
        for index, page in (
            (remapped, f"{frames[remapped]} W"),
            (own, f"{frames[own]} R"),
            (own, f"{frames[0]} W"),
            (0, f"{frames[0]} R"),
            (remapped, ". R"),
            (own, "! W"),
        ):
            assert partial(changed(folio, index, page), layout) is Verdict.INCONSISTENT


@every_layout
def test_what_another_layout_remapped_is_not_partial(layout: Layout) -> None:
    for other in PICTURES:
        if other is not layout:
            assert partial(halves(other)[-1], layout) is Verdict.INCONSISTENT


def test_without_the_zone_it_is_not_known_whether_a_folio_is_partial() -> None:
    for folio in halves(SHARED_TAIL):
        assert partial(folio, SHARED_TAIL, tail_frames=None) is Verdict.UNREADABLE
        broken = changed(folio, 7, ". R")
        assert partial(broken, SHARED_TAIL, tail_frames=None) is Verdict.INCONSISTENT


# Gigantic folios from boot.


@every_layout
def test_a_gigantic_folio_from_boot_shares_its_frame_before_it_is_protected(
    layout: Layout,
) -> None:
    writable = PICTURES[layout].replace("R", "W")
    made = gigantic(writable)
    assert partial(made, layout, is_made_at_boot=True) is Verdict.PARTIAL
    for folio, is_made_at_boot in (
        (made, False),
        (writable, True),
        (changed(made, 100, "x W"), True),
        (changed(made, 100, f"{made[100]} R"), True),
    ):
        verdict = partial(folio, layout, is_made_at_boot=is_made_at_boot)
        assert verdict is Verdict.INCONSISTENT


def protected(first_writable: int) -> list[Entry]:
    """A gigantic folio whose head and last pages are writable."""
    return entries(f"{'a' * GIGANTIC} {'W'.ljust(first_writable, 'R').ljust(GIGANTIC, 'W')}")


def test_a_gigantic_folio_that_is_protected_in_part_is_recognised_by_its_first_writable_page() -> (
    None
):
    assert first_unprotected(protected(BOOT_PROTECTED)) == BOOT_PROTECTED
    verdict = judge(protected(BOOT_PROTECTED), HEAD_REUSE, frozenset()).verdict
    assert verdict is Verdict.OPTIMIZED
    for other in (1, BOOT_PROTECTED - 1, BOOT_PROTECTED + 1, GIGANTIC):
        assert first_unprotected(protected(other)) is None
    assert first_unprotected(protected(BOOT_PROTECTED)[:BOOT_PROTECTED]) is None
    absent = protected(BOOT_PROTECTED)
    absent[1] = absent[BOOT_PROTECTED] = entries(". R")[0]
    assert first_unprotected(absent) == BOOT_PROTECTED + 1


@pytest.mark.parametrize("index", (9, BOOT_PROTECTED, GIGANTIC - 1))
def test_a_page_of_a_gigantic_folio_that_is_not_present_shares_no_frame(index: int) -> None:
    folio = changed(f"{OWN} {'W' * GIGANTIC}", index, ". R")
    judgement = judge(entries(folio), HEAD_REUSE, frozenset())
    assert judgement == Judgement(Verdict.INCONSISTENT, NONE, "pte", None, (), (), 0)


# A layout that is not known.


@pytest.mark.parametrize(
    ("folio", "verdict", "reuse_frame", "shared"),
    (
        (UNOPTIMIZED_FOLIO, Verdict.UNOPTIMIZED, None, ()),
        ("aaaaaaaa WRRRRRRR", Verdict.OPTIMIZED, "a", ((1, 7),)),
        ("abbbbbbb WWRRRRRR", Verdict.OPTIMIZED, "b", ((2, 7),)),
        ("aabbcdef WRWRWWWW", Verdict.OPTIMIZED, "a", ((1, 1), (3, 3))),
        ("aa.aaaaa WRRRRRRR", Verdict.INCONSISTENT, "a", ((1, 1), (3, 7))),
        ("aa?aaaaa WRRRRRRR", Verdict.UNREADABLE, "a", ((1, 1), (3, 7))),
        ("..cdefgh RRWWWWWW", Verdict.INCONSISTENT, None, ()),
    ),
)
def test_a_folio_of_an_unknown_layout_owns_the_frames_that_no_earlier_page_has(
    folio: str, verdict: Verdict, reuse_frame: str | None, shared: tuple[tuple[int, int], ...]
) -> None:
    judgement = judge(entries(folio), Layout.UNKNOWN, None)
    assert (judgement.verdict, judgement.mapped_by) == (verdict, "pte")
    assert judgement.layout is (Layout.UNKNOWN if shared else NONE)
    assert judgement.reuse_frame == (ord(reuse_frame) if reuse_frame else None)
    assert judgement.shared == shared
    assert judgement.freed == sum(last - first + 1 for first, last in shared)


# Which frame is the one that tails share.


@pytest.mark.parametrize(
    ("folio", "layout", "frame"),
    (
        # A single tail with the head's frame is not what the others share.
        ("abbbbbba WWRRRRRR", TAIL_REUSE, "b"),
        ("abxxxxbb WWRRRRRR", TAIL_REUSE, "b"),
        ("abxxxxxb WWRRRRRR", TAIL_REUSE, "b"),
        ("aaxxxxxx WRRRRRRR", HEAD_REUSE, "a"),
        ("atxxxxxx WRRRRRRR", SHARED_TAIL, "t"),
        ("abxxxxxx WWRRRRRR", TAIL_REUSE, "x"),
        ("abcdefxx WWWWWWRR", HEAD_REUSE, "x"),
        ("abcdefgx WWWWWWWR", HEAD_REUSE, None),
    ),
)
def test_the_reuse_frame_is_the_one_that_the_layout_or_else_most_tails_have(
    folio: str, layout: Layout, frame: str | None
) -> None:
    zone = ZONE if layout in OF_THE_ZONE else frozenset()
    found = judge(entries(folio), layout, zone).reuse_frame
    assert found == (None if frame is None else ord(frame))


def test_a_frame_that_no_kept_page_has_is_taken_for_a_zones() -> None:
    judgement = judge(entries("abcccccc WWRRRRRR"), HEAD_REUSE, frozenset())
    assert (judgement.verdict, judgement.layout) == (Verdict.INCONSISTENT, SHARED_TAIL)
