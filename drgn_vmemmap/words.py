# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Many 64-bit words as one large number: Python works on all of them in one step.
"""

from __future__ import annotations

from array import array
from functools import lru_cache

SIZE = 8
"""Bytes of a word."""


def repeated(word: int, count: int) -> int:
    """The number of *count* words that are the same."""
    return int.from_bytes(word.to_bytes(SIZE, "little") * count, "little")


def ascending(numbers: range) -> bytes:
    """The words of numbers from zero on, in ascending order, one after the other."""
    count = len(numbers)
    number = repeated(numbers.start, count) + _counted(count) * numbers.step
    return number.to_bytes(SIZE * count, "little")


@lru_cache
def _counted(count: int) -> int:
    """The number of the words 0, 1, 2 and so on."""
    return int.from_bytes(array("Q", range(count)).tobytes(), "little")


def split(words: array[int], shift: int, bits: int) -> tuple[array[int], array[int]]:
    """
    Take some bits out of words (``Q``): *bits* of them, from *shift* on.

    :return: The words with zeros there, and what was there.
    """
    count, number = len(words), int.from_bytes(words.tobytes(), "little")
    taken = number & repeated((1 << bits) - 1 << shift, count)
    return _words(number - taken, count), _words(taken >> shift, count)


def _words(number: int, count: int) -> array[int]:
    return array("Q", number.to_bytes(SIZE * count, "little"))
