# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Many 64-bit words at once, as one number of many digits: Python works on it without a step for each.
"""

from __future__ import annotations

from array import array

SIZE = 8
"""Bytes of a word."""

_BITS = 64


def repeated(word: int, count: int) -> int:
    """The number of *count* words that are the same."""
    return int.from_bytes(word.to_bytes(SIZE, "little") * count, "little")


def rotated(words: array[int], bits: int) -> array[int]:
    """Words (``Q``) of which each is rotated to the right by some bits."""
    count, number = len(words), int.from_bytes(words.tobytes(), "little")
    low = number & repeated((1 << bits) - 1, count)
    high = number >> bits & repeated((1 << _BITS - bits) - 1, count)
    return array("Q", (low << _BITS - bits | high).to_bytes(SIZE * count, "little"))
