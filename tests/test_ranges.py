# SPDX-License-Identifier: LGPL-2.1-or-later

"""Ranges that are joined have the same numbers, and lie apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.ranges import joined

RANGES = st.builds(range, st.integers(0, 40), st.integers(0, 40))


@given(st.lists(RANGES))
def test_joined_ranges_have_the_same_numbers_and_lie_apart(ranges: list[range]) -> None:
    found = joined(ranges)
    assert {number for each in found for number in each} == {n for each in ranges for n in each}
    assert all(each.stop < after.start for each, after in zip(found, found[1:]))
    assert all(found)


def test_ranges_may_be_longer_than_a_sequence_can_be() -> None:
    assert joined([range(1 << 63, 1 << 65), range(1 << 63)]) == [range(1 << 65)]
