# SPDX-License-Identifier: LGPL-2.1-or-later

"""Pieces of memory that were read together."""

from __future__ import annotations

import pytest

from drgn_vmemmap.target.memory import StridedRead

BLOCK = bytes(range(64))


@pytest.mark.parametrize(
    ("starts", "addresses"),
    (
        (range(8, 32, 8), (8, 16, 24)),
        (range(24, 0, -8), (8, 16, 24)),
        (range(0, 48, 16), (0, 16, 32)),
        (range(32, -16, -16), (0, 16, 32)),
    ),
    ids=("adjacent", "adjacent, the last first", "apart", "apart, the last first"),
)
def test_pieces_are_put_one_after_the_other_from_the_lowest_on(
    starts: range, addresses: tuple[int, ...]
) -> None:
    pieces = StridedRead(BLOCK, starts, 8)
    assert pieces.each() == [BLOCK[start : start + 8] for start in starts]
    expected = b"".join(BLOCK[start : start + 8] for start in addresses)
    assert bytes(pieces.ascending()) == expected
