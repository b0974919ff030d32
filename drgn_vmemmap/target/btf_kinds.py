# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kinds of types that BTF has, and how large they are.

Follows ``include/uapi/linux/btf.h`` of the kernel.
"""

from __future__ import annotations

import enum
import struct

NAME_OFFSET, INFO, SIZE_OR_TYPE, EXTRA = range(4)
"""32-bit words of a type; what its kind adds comes after them."""


class Kind(enum.IntEnum):
    """``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
"""Words that a kind adds to a type, once."""

WORDS_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
"""Words that a kind adds to a type for each of its members."""

_LAYOUT_OF_KIND = struct.Struct("<BBH")


class BtfError(Exception):
    """BTF that cannot be used; the message says why."""


def kind_of(info: int) -> int:
    """
    :param info: The ``info`` word of a type.
    :return: Number of its kind, whether that is known or not.
    """
    # Older kernels use five of these bits, and leave the others zero.
    return info >> 24 & 0x7F


def known_kind(info: int) -> Kind:
    """
    :raises BtfError: for a kind that is not known.
    """
    try:
        return Kind(kind_of(info))
    except ValueError:
        raise BtfError(f"a type is of kind {kind_of(info)}, which is not known") from None


class Sizes(dict[int, int]):
    """How many words a type has, by its ``info`` word: a kernel has few different ones."""

    def __init__(self, layout: bytes) -> None:
        """
        :param layout: Of each kind, ``struct btf_layout``: bytes that it adds to a type once, and
            for each of its members. Kinds that are not known can be passed over then.
        """
        super().__init__()
        self._layout = layout

    def __missing__(self, info: int) -> int:
        """
        :raises ValueError: for a kind whose size is not known.
        """
        kind = kind_of(info)
        try:
            once, each = _WORDS.get(Kind(kind), 0), WORDS_EACH.get(Kind(kind), 0)
        except ValueError:
            once, each = self._by_layout(kind)
        # Older kernels use 16 of these bits, and leave the others zero.
        size = self[info] = EXTRA + once + each * (info & 0xFFFFFF)
        return size

    def _by_layout(self, kind: int) -> tuple[int, int]:
        start = kind * _LAYOUT_OF_KIND.size
        if start + _LAYOUT_OF_KIND.size <= len(self._layout):
            once, each, _ = _LAYOUT_OF_KIND.unpack_from(self._layout, start)
            if once % 4 == each % 4 == 0:
                return once // 4, each // 4
        raise ValueError(f"kind {kind}, which is not known")
