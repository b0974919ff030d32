# SPDX-License-Identifier: LGPL-2.1-or-later

"""Words are worked on all at once as they would be one by one."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.words import ascending, repeated, split

WORD = st.integers(0, (1 << 64) - 1)


@given(WORD, st.integers(1, 1 << 40), st.integers(0, 300))
def test_ascending_words_are_those_of_a_range(start: int, step: int, count: int) -> None:
    numbers = range(start, start + step * count, step)
    fitting = numbers[: ((1 << 64) - 1 - start) // step + 1]
    assert ascending(fitting) == array("Q", fitting).tobytes()


@given(st.lists(WORD), st.integers(0, 63), st.data())
def test_each_word_is_split_by_itself(words: list[int], shift: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, 64 - shift))
    rest, taken = split(array("Q", words), shift, bits)
    assert [*taken] == [word >> shift & (1 << bits) - 1 for word in words]
    assert [one | other << shift for one, other in zip(rest, taken)] == words
    assert all(one & other << shift == 0 for one, other in zip(rest, taken))


@given(WORD, st.integers(0, 9))
def test_a_repeated_word_is_as_many_words(word: int, count: int) -> None:
    data = repeated(word, count).to_bytes(8 * count, "little")
    assert [*memoryview(data).cast("Q")] == [word] * count
