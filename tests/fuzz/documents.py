# SPDX-License-Identifier: LGPL-2.1-or-later

"""JSON documents, some values of which are others than the schema has."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

_EDIT = struct.Struct("<HBB")
"""Number of a value in the document, what to do with it, and number of what takes its place."""

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 63, 64, 1 << 63, 1 << 300, -0.5, 1e308, float("nan"), "", "0x1"),
    *("\x1b[2J\x07", "\ud800", "\u202e\u2028", "pfn", "unreadable", "optimized", "off-list"),
    *([], {}, [[]], [{}], {"": []}, "x" * 300),
)


class _Place(NamedTuple):
    """Where a document has a value."""

    within: Any
    key: Any


def edited(document: Any, edits: bytes) -> Any:
    """
    A copy of a document with values replaced, removed, or copied to where others were.

    :param edits: A part of an edit at the end means nothing.
    """
    root = {"": copy.deepcopy(document)}
    for number, kind, which in _EDIT.iter_unpack(edits[: len(edits) // _EDIT.size * _EDIT.size]):
        places = list(_places(root))
        within, key = places[number % len(places)]
        other = places[(number + which) % len(places)]
        if kind % 4 == 0 and within is not root:
            del within[key]
        elif kind % 4 == 1:
            within[key] = copy.deepcopy(other.within[other.key])
        else:
            within[key] = copy.deepcopy(_VALUES[which % len(_VALUES)])
    return root[""]


def _places(value: Any) -> Iterator[_Place]:
    """Where a value, and each value within it, is."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = [*range(len(value))]
    else:
        return
    for key in keys:
        yield _Place(value, key)
        yield from _places(value[key])
