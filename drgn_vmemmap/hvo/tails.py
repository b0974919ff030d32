# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The tails: what the struct pages of a folio hold, and what they must hold.

Follows ``prep_compound_tail()`` of ``mm/internal.h``, and what freeing a folio trips over:
``free_tail_page_prepare()``, ``page_expected_state()`` and ``free_page_is_bad()`` of
``mm/page_alloc.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.kernel.facts import Kernel

TAIL_MAPPING = 0xDEAD000000000400
"""``mapping`` of a tail, ``include/linux/poison.h`` with x86-64's offset of illegal pointers."""

FIRST_PLAIN = 4
"""
The first tail that carries nothing for its folio: those before it hold its order, its counts,
its subpool, its cgroup and the list of its failed pages (``__NR_USED_SUBPAGE``).
"""

# MAX_PAGE_ORDER: larger folios are not from the buddy allocator.
_MAX_ORDER = 10
_NO_TYPE = 0xFFFFFFFF
_TAIL = 1 << 0


class WrongTail(NamedTuple):
    """A struct page that is not the tail that it should be."""

    page: int
    """Its index in the frame."""
    reason: str
    link: int
    """Raw ``compound_head``."""
    is_head: bool
    """Whether it has ``PG_head``, as a copy of a head has."""
    info: int
    """What ``compound_head`` should be."""

    @property
    def leads_elsewhere(self) -> bool:
        """Whether it is the tail of something else."""
        return self.link != self.info and bool(self.link & _TAIL)


class Tails:
    """Compares the struct pages in frames of a folio's vmemmap with what a folio requires."""

    def __init__(self, kernel: Kernel, order: int) -> None:
        """
        :param order: Of the folios.
        """
        self._kernel = kernel
        self._size = kernel.page.size
        self._count = kernel.page_size // self._size
        self._link = kernel.page.offset("compound_head")
        self._link_format = struct.Struct(f"<{self._link}xQ")
        # Of the tails that carry metadata, and of the first plain one.
        between = f"{self._size - 8}xQ" * (FIRST_PLAIN - 1)
        self._first_links = struct.Struct(f"<{self._size + self._link}xQ{between}")
        # Older kernels do not write the mapping of a gigantic folio's tails.
        self._mappings = (TAIL_MAPPING, 0) if order > _MAX_ORDER else (TAIL_MAPPING,)
        # In the frame that a zone keeps for gigantic folios, v7.1 to v7.3 leave each struct page
        # the reference that memory from boot begins with.
        self._keeps_references = kernel.tails_hold_mask and order > _MAX_ORDER
        self._forbidden = kernel.page_marks.checked_at_free | kernel.head_test.value
        self._plain: dict[bytes, bool] = {}
        """Whether tails are plain, by their bytes but for ``compound_head``."""

    def is_right(self, content: bytes, info: int, has_head: bool) -> bool:
        """
        Whether a frame of a folio's vmemmap holds what it must; fast where it does.

        :param content: The frame's bytes.
        :param info: What a tail's ``compound_info`` holds: :meth:`Kernel.tail_info()`.
        :param has_head: It begins with the head and the tails that carry its metadata.
        """
        size, link = self._size, self._link
        start = FIRST_PLAIN * size if has_head else 0
        # Fast path: each plain tail equals the one before it.
        if content[start:-size] != content[start + size :]:
            return self.first_wrong(content, info, has_head) is None
        if has_head and self._first_links.unpack_from(content) != (info,) * FIRST_PLAIN:
            return False
        if not has_head and self._link_format.unpack_from(content) != (info,):
            return False
        rest = content[start : start + link] + content[start + link + 8 : start + size]
        plain = self._plain.get(rest)
        if plain is None:
            refcount = self._refcount(content, has_head)
            plain = not any(self._faults(content[start : start + size], refcount))
            self._plain[rest] = plain
        return plain

    def first_wrong(self, content: bytes, info: int, has_head: bool) -> WrongTail | None:
        """Find a struct page that is not the tail that it should be; parameters as above."""
        size, page = self._size, self._kernel.page
        refcount = self._refcount(content, has_head)
        for index in range(int(has_head), self._count):
            each = content[index * size : (index + 1) * size]
            found = page.value(each, "compound_head")
            is_plain = not has_head or index >= FIRST_PLAIN
            reason = "is no tail of this folio" if found != info else None
            if reason is None and is_plain:
                reason = next(self._faults(each, refcount), None)
            if reason is not None:
                is_head = bool(page.value(each, "flags") & self._kernel.head_test.value)
                return WrongTail(index, reason, found, is_head, info)
        return None

    def _refcount(self, content: bytes, has_head: bool) -> int:
        """The reference count of the tails in a frame: none, or for each the one from boot."""
        if self._keeps_references and not has_head:
            counts = {*self._kernel.page.column(content, "refcount")}
            return int(counts == {1})
        return 0

    def _faults(self, page: bytes, refcount: int) -> Iterator[str]:
        """
        What no plain tail has, or lacks.

        :param refcount: The reference count that it has.
        """
        members = self._kernel.page.members
        value = self._kernel.page.value
        flags = value(page, "flags") & self._forbidden
        if flags:
            yield f"has flags that no tail has: {flags:#x}"
        if value(page, "refcount") != refcount:
            yield f"has {value(page, 'refcount')} references, and a tail has none"
        if "page_type" in members and value(page, "page_type") != _NO_TYPE:
            yield f"has a mapcount or page type: {value(page, 'page_type'):#x}"
        if "mapping" in members and value(page, "mapping") not in self._mappings:
            mapping = value(page, "mapping")
            yield f"has the mapping {mapping:#x}, and a tail has {TAIL_MAPPING:#x}"
        if "memcg_data" in members and value(page, "memcg_data"):
            yield "is charged to a memory cgroup"
