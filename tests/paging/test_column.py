# SPDX-License-Identifier: LGPL-2.1-or-later

"""Columns of last-level entries, decoded all at once."""

from __future__ import annotations

import random
import struct

import pytest

from drgn_vmemmap.paging.column import ColumnReader
from drgn_vmemmap.paging.mapping import Paging
from tests.synthetic.physical import PAGE_SHIFT

PFN_BITS = 40


@pytest.mark.parametrize("encryption_bit", (None, 47, 51))
@pytest.mark.parametrize("count", (0, 1, 2, 170, 512))
def test_of_each_entry_the_frame_is_read_and_no_other_bit(
    count: int, encryption_bit: int | None
) -> None:
    mask = 0 if encryption_bit is None else 1 << encryption_bit
    chosen = random.Random(count)
    entries = [chosen.getrandbits(64) for _ in range(count)]
    reader = ColumnReader(Paging(4, 0, mask, 1 << PFN_BITS))
    frames = reader.frames(struct.pack(f"<{count}Q", *entries))
    kept = ~(mask >> PAGE_SHIFT)
    assert list(frames) == [reader.frame(entry) for entry in entries]
    assert list(frames) == [entry >> PAGE_SHIFT & (1 << PFN_BITS) - 1 & kept for entry in entries]
