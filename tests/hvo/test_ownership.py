# SPDX-License-Identifier: LGPL-2.1-or-later

"""Who owns the frames that back the vmemmap: last-level entries, large leaves, and zones."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import example, given
from hypothesis import strategies as st

from drgn_vmemmap.hvo.ownership import LargeLeaf, Ownership

ENTRIES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 99)), max_size=12, unique=True)
PLACES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=5)
LEAVES = PLACES.map(
    lambda places: [LargeLeaf(frame, 100 * n, pages) for n, (frame, pages) in enumerate(places, 1)]
)


def ownership(entries: list[tuple[int, int]], leaves: list[LargeLeaf]) -> Ownership:
    owned = Ownership()
    for frame, page in entries:
        owned.frames.append(frame)
        owned.pages.append(page)
    owned.leaves += leaves
    return owned


@given(ENTRIES, LEAVES)
@example([], [LargeLeaf(0, 100, 4), LargeLeaf(4, 200, 4)])
@example([], [LargeLeaf(0, 100, 12), LargeLeaf(2, 200, 2), LargeLeaf(6, 300, 1)])
@example([(32, 1), (1, 2)], [LargeLeaf(1, 100, 1)])
def test_a_frame_of_more_than_one_owner_is_found_with_its_owners(
    entries: list[tuple[int, int]], leaves: list[LargeLeaf]
) -> None:
    owners = defaultdict[int, set[int]](set)
    for frame, page in entries:
        owners[frame].add(page)
    for leaf in leaves:
        for ahead in range(leaf.pages):
            owners[leaf.frame + ahead].add(leaf.page + ahead)
    by_entries = {frame for frame, _ in entries}
    shared = ownership(entries, leaves).shared()
    for frame, found in shared.items():
        assert len(found) > 1 and set(found) <= owners[frame]
    for frame in by_entries:
        if len(owners[frame]) > 1:
            assert set(shared[frame]) == owners[frame]
    # Of frames that leaves alone share, there are too many to name each.
    for leaf in leaves:
        others = [other for other in leaves if other != leaf and other.frame <= leaf.frame]
        if any(leaf.frame < other.frame + other.pages for other in others):
            assert leaf.page in shared[leaf.frame]


def test_frames_are_counted_once_for_entries_and_for_each_page_of_a_leaf() -> None:
    owned = ownership([(1, 10), (1, 11), (2, 12)], [LargeLeaf(512, 100, 512)])
    assert owned.frame_count() == 2 + 512


def test_stretches_of_no_folio_have_their_first_page_and_not_the_one_after_their_last() -> None:
    owned = Ownership()
    for stretch in (range(8, 16), range(24, 25)):
        owned.add_of_no_folio(stretch)
    assert [*filter(owned.is_of_no_folio, range(32))] == [*range(8, 16), 24]
