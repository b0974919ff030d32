# SPDX-License-Identifier: LGPL-2.1-or-later

"""Columns are what their rows say, one by one; and so is memory that is read in columns."""

from __future__ import annotations

import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.hugetlb.columns import not_followed, stretches
from drgn_vmemmap.target.memory import ProgramMemory, StridedRead
from tests.synthetic.physical import PhysicalMemory

VALUES = st.lists(st.sampled_from([0, 1, 255, 256, 1 << 31]), max_size=40)


@given(VALUES, st.data())
def test_stretches_are_the_rows_side_by_side_that_are_alike(
    values: list[int], data: st.DataObject
) -> None:
    others = bytearray(data.draw(st.binary(min_size=len(values), max_size=len(values))))
    rows = list(stretches(array("I", values), others))
    assert [row for stretch in rows for row in stretch] == list(range(len(values)))
    for stretch in rows:
        assert len({(values[row], others[row]) for row in stretch}) == 1
    for one, other in zip(rows, rows[1:]):
        row, next_row = one[-1], other[0]
        assert (values[row], others[row]) != (values[next_row], others[next_row])


@given(
    st.lists(st.integers(0, 1 << 40), unique=True, max_size=40).map(sorted),
    st.sampled_from([56, 64]),
    st.sampled_from([0, 0xFFFFEA0000000008, (1 << 64) - 8]),
    st.data(),
)
def test_rows_that_lead_elsewhere_are_told(
    followers: list[int], scale: int, offset: int, data: st.DataObject
) -> None:
    right = [follower * scale + offset for follower in followers[1:]] + [0]
    wrong = data.draw(st.sets(st.sampled_from(range(len(followers) or 1))))
    values = array("Q", [each & (1 << 64) - 1 for each in right][: len(followers)])
    for row in wrong.intersection(range(len(followers))):
        values[row] ^= 1 << 63
    found = not_followed(values, array("Q", followers), scale, offset)
    expected = [row for row in range(len(followers) - 1) if values[row] != right[row]]
    # Where addresses do not fit into 64 bits, no row is trusted.
    fits = not followers or followers[-1] * scale + offset < 1 << 64
    assert list(found) == (expected if fits else list(range(len(followers) - 1)))


def memory_of_pages(missing: int | None = None) -> ProgramMemory:
    """Sixteen pages, of which each word tells its address."""
    memory = PhysicalMemory()
    for pfn in range(16):
        if pfn != missing:
            addresses = range(pfn << 12, pfn + 1 << 12, 8)
            memory.write(pfn << 12, struct.pack("<512Q", *addresses))
    return ProgramMemory(memory.program())


@pytest.mark.parametrize(
    "pfns", [[2, 3, 4], [9, 8, 7, 6], [4, 2, 3], [6, 3, 4, 5], [3, 3, 3], [7, 7, 8], [1, 2]]
)
@pytest.mark.parametrize("size", [128, 4096])
def test_neighbours_are_read_together(pfns: list[int], size: int) -> None:
    addresses = [pfn << 12 for pfn in pfns]
    memory = memory_of_pages()
    pieces = memory.read_together(addresses, size)
    assert pieces is not None
    assert pieces.each() == memory.read_each(addresses, size)
    words = range(size // 8)
    assert [column.tolist() for column in pieces.columns(words)] == [
        [address + word * 8 for address in addresses] for word in words
    ]


@pytest.mark.parametrize("pfns", [[], [1], [1, 15]])
def test_pieces_far_from_each_other_are_not_read_together(pfns: list[int]) -> None:
    assert memory_of_pages().read_together([pfn << 12 for pfn in pfns], 128) is None


def test_pieces_of_which_one_is_missing_are_not_read_together() -> None:
    memory = memory_of_pages(missing=3)
    assert memory.read_together([2 << 12, 3 << 12], 128) is None
    assert memory.read_each([2 << 12, 3 << 12], 128)[1] is None
    assert isinstance(memory.read_together([4 << 12, 5 << 12], 128), StridedRead)
