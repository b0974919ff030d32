# SPDX-License-Identifier: LGPL-2.1-or-later

"""Pieces of memory that were read together."""

from __future__ import annotations

import pytest

from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.target.memory import ProgramMemory, StridedRead
from tests.synthetic.image import Image
from tests.synthetic.model import Machine

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


@pytest.mark.parametrize("distance", (64, 3 * PAGE_SIZE), ids=("neighbours", "apart"))
def test_all_pieces_are_read_or_none(distance: int) -> None:
    image = Image(Machine())
    start, addresses = 1 << 40, [(1 << 40) + number * distance for number in range(4)]
    content = {address: bytes([number] * 16) for number, address in enumerate(addresses)}

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        memory = bytearray(4 * distance)
        for at, piece in content.items():
            memory[at - start : at - start + 16] = piece
        return bytes(memory[address - start : address - start + count])

    image.prog.add_memory_segment(start, 4 * distance, read, True)
    pieces = ProgramMemory(image.prog).read_all(addresses, 16)
    assert pieces is not None and pieces.each() == [*content.values()]
    assert ProgramMemory(image.prog).read_all([*addresses, start + 4 * distance], 16) is None
