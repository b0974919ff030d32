# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The tails: what the struct pages in a reuse frame hold.

Follows ``prep_compound_tail()`` of ``mm/internal.h``.
"""

from __future__ import annotations

import struct
from itertools import repeat
from operator import eq

from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.target.memory import StridedRead


class Tails:
    """Compares what is in a reuse frame with what its layout requires."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._size = kernel.page.size
        self._count = kernel.page_size // self._size
        self._info = kernel.page.members["compound_head"]
        after = self._size - self._info.offset - 8
        self._infos = struct.Struct("<" + f"{self._info.offset}xQ{after}x" * self._count)

    def are_all_right(self, contents: StridedRead, infos: memoryview[int], first: int) -> bool:
        """
        The same as :meth:`are_right()` for the reuse frames of many folios at once.

        :param infos: What a tail's ``compound_info`` holds, for each folio.
        """
        size = self._size // 8
        words = range(first * size + self._info.offset // 8, self._count * size, size)
        return all(map(eq, contents.columns(words), repeat(infos)))

    def are_right(self, content: bytes, info: int, first: int) -> bool:
        """
        Whether all struct pages are tails of one folio.

        :param content: The reuse frame's 4096 bytes.
        :param info: What a tail's ``compound_info`` holds: :meth:`Kernel.tail_info()`.
        :param first: 1 if the frame begins with the head page, 0 if with a tail.
        """
        return self._infos.unpack(content).count(info) == self._count - first

    def first_wrong(self, content: bytes, info: int, first: int) -> tuple[int, int]:
        """
        Find a struct page that is no tail of a folio; parameters as for :meth:`are_right()`.

        :return: Its index in the frame, and what it holds instead.
        """
        infos = enumerate(self._infos.unpack(content))
        return next((i, found) for i, found in infos if i >= first and found != info)
