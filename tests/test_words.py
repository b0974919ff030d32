# SPDX-License-Identifier: LGPL-2.1-or-later

"""Words are worked on all at once as they would be one by one."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.words import repeated, rotated

WORD = st.integers(0, (1 << 64) - 1)


@given(st.lists(WORD), st.integers(0, 63))
def test_each_word_is_rotated_by_itself(words: list[int], bits: int) -> None:
    found = rotated(array("Q", words), bits)
    assert [f"{each:064b}" for each in found] == [
        text[64 - bits :] + text[: 64 - bits] for text in (f"{each:064b}" for each in words)
    ]


@given(WORD, st.integers(0, 9))
def test_a_repeated_word_is_as_many_words(word: int, count: int) -> None:
    data = repeated(word, count).to_bytes(8 * count, "little")
    assert [*memoryview(data).cast("Q")] == [word] * count
