# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios are found by the addresses of their list pointers, however they lie in memory."""

from __future__ import annotations

from array import array
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.hugetlb.links import NO_ROW, Links

START = 0xFFFFEA0000000008

STRETCHES = st.lists(
    st.tuples(
        st.integers(0, 3000), st.sampled_from((512, 512, 1024, 1 << 18)), st.integers(1, 600)
    ),
    max_size=3,
)
"""Adjacent folios: how many PFNs, in units of 512, lie before them, the step, and how many."""


def pfns_of(stretches: list[tuple[int, int, int]]) -> list[range]:
    lengths = (512 * gap + step * count for gap, step, count in stretches)
    ends = accumulate(lengths)
    return [range(end - step * count, end, step) for end, (_, step, count) in zip(ends, stretches)]


@pytest.mark.parametrize("size", (64, 56))
@given(stretches=STRETCHES)
def test_a_pointer_leads_to_the_folio_that_is_there(
    size: int, stretches: list[tuple[int, int, int]]
) -> None:
    links, pfns = Links(START, size), pfns_of(stretches)
    for each in pfns:
        links.extend(each, array("Q", each), array("Q", each))
    addresses = [START + pfn * size for each in pfns for pfn in each]
    assert [*links.addresses] == addresses
    assert [*links.rows_at(links.addresses)] == [*range(len(addresses))]
    known = set(addresses)
    for other in (8, size, 1 << 15, 1 << 24, 1 << 40):
        near = [address + other for address in addresses if address + other not in known]
        assert set(links.rows_at(array("Q", near))) <= {NO_ROW}


def test_a_folio_that_is_added_alone_is_found() -> None:
    links = Links(START, 64)
    links.extend(range(0, 512 * 600, 512), array("Q", bytes(4800)), array("Q", bytes(4800)))
    links.add(512 * 4000, 1, 2)
    assert links.row_at(START + 512 * 4000 * 64) == 600
    assert (links.next[600], links.prev[600]) == (1, 2)
    assert links.row_at(0) == links.row_at((1 << 64) - 1) == NO_ROW
