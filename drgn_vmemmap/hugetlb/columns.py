# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Columns of numbers, compared all at once.

Folios are many and mostly alike: a column is taken as one large number, of which
a row is a digit, so that Python sees only the rows that differ.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Union

Column = Union["array[int]", bytearray]

_NONZERO = re.compile(rb"[^\0]")


def stretches(*columns: Column) -> Iterator[range]:
    """
    :param columns: Of one length.
    :return: Rows side by side in which no column changes; together, they are all rows.
    """
    rows = len(columns[0])
    starts = {0, rows}.union(*map(_changes, columns))
    ordered = sorted(starts)
    return map(range, ordered, ordered[1:])


def not_followed(values: Column, followers: array[int], scale: int, offset: int) -> Sequence[int]:
    """
    Rows whose value is not ``followers[row + 1] * scale + offset``; never the last one.

    :param values: 64-bit numbers, as many as the followers.
    :param followers: Ascending 64-bit numbers.
    """
    rows = len(values) - 1
    if rows < 1 or followers[-1] * scale + offset >> 64:
        return range(rows)
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * rows, "little")
    expected = _number(followers[1:]) * scale + offset * ones
    return sorted(_digits(_number(values[:-1]) ^ expected, 8))


def _changes(column: Column) -> set[int]:
    """Rows that differ from the one before them."""
    differences = _number(column[1:]) ^ _number(column[:-1])
    return {row + 1 for row in _digits(differences, memoryview(column).itemsize)}


def _number(column: Column) -> int:
    return int.from_bytes(column, "little")


def _digits(number: int, size: int) -> set[int]:
    """Which digits of a number are not zero, if they have so many bytes."""
    data = number.to_bytes((number.bit_length() + 7) // 8, "little")
    return {match.start() // size for match in _NONZERO.finditer(data)}
