# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What the words of a frame can be: entries of a page table, struct pages, the kernel's own data.

Follows ``struct page`` of ``include/linux/mm_types.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.x86_64 import wrong_bits
from drgn_vmemmap.vmemmap.owners import TAIL, is_of_page_pool
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot

WORD = 8
_LONG_MAX = (1 << 63) - 1

# LIST_POISON1 and the like, and TAIL_MAPPING, are POISON_POINTER_DELTA and so much.
_POISON = 0xDEAD000000000000
_POISON_LIMIT = 0x10000

# set_page_pfmemalloc() of include/linux/mm.h: a page from the reserves has this in lru.next.
_FROM_RESERVES = 1 << 1

# Indices in files, DMA addresses, counters and orders are below.
_NUMBER_LIMIT = 1 << 52

# ENTIRELY_MAPPED of mm/internal.h, in the upper half of a word: a folio mapped by a PMD.
_ENTIRELY_MAPPED = 0x800000 << 32

# SWP_TYPE_SHIFT of include/linux/swapops.h: bits above the offset, of the swap device's number.
_SWAP_TYPE_SHIFT = 58
_SWAP_TYPE_BITS = 5

# FOLIO_MM_IDS_SHARED_BIT and FOLIO_MM_IDS_LOCK_BIT of include/linux/mm_types.h, beside the numbers
# of two processes' memory (mm_id_t), of which there are no more than PIDs.
_SHARED_BIT, _LOCK_BIT = 1 << 63, 1 << 31
_MM_ID_LIMIT = 1 << 22

# BIAS_MAX of net/core/page_pool.c, from which references to a part of a page are counted down.
_POOL_COUNTS = (_LONG_MAX, _LONG_MAX >> 1)

# Counts are below this limit, and as near to zero if they are negative.
_COUNT_LIMIT = 1 << 20

# SECTION_INFO, MIX_SECTION_INFO and NODE_INFO of include/linux/bootmem_info.h, in the low bits.
_BOOT_TYPE_BITS = 4
_BOOT_TYPES = range(1, 4)

# FAKE_NODE_MIN_SIZE of arch/x86/include/asm/numa.h, 32 MiB, in pages: no node is smaller.
_SMALLEST_NODE = 1 << 13

# Memory whose struct pages are not in the dump may be of any of so many nodes.
_LIKELY_NODES = 64

# Page types are numbers from here on, as are counts below zero.
_TYPES = 1 << 31


class Content:
    """Judges words by what they should be."""

    def __init__(self, kernel: Kernel, nodes: Iterable[int]) -> None:
        """
        :param nodes: NUMA nodes of which there may be struct pages.
        """
        self._kernel = kernel
        self._nodes = frozenset(nodes)
        geometry = kernel.geometry
        end = (1 << (geometry.max_pfn << geometry.page_shift).bit_length()) - geometry.page_size
        self._addresses = end | kernel.paging.encryption_mask
        self._masks = frozenset(kernel.tail_info(0, order) for order in range(32))
        self._rules = {
            kernel.page.offset("flags"): self._are_flags,
            kernel.page.offset("compound_head"): self._is_link,
        }
        self._counts: int | None = None
        """Where the word with the counts is in a struct page, in bytes."""
        if "refcount" in kernel.page.members:
            self._counts = kernel.page.offset("refcount") & -WORD
            self._rules[self._counts] = self._are_counts
        if "private" in kernel.page.members:
            self._rules[kernel.page.offset("private")] = self._is_private
        self._size = geometry.struct_size
        self._known: dict[tuple[int, bytes], bool] = {}

    def is_entry(self, word: int) -> bool:
        """Whether a word can be an entry of a page table over the kernel's memory."""
        return not word or not self._wrong_bits(word)

    def is_damaged_entry(self, word: int) -> bool:
        """Whether a word can be such an entry, with at most one bit damaged."""
        return not word or self._wrong_bits(word) <= 1

    def _wrong_bits(self, word: int) -> int:
        return wrong_bits(word, self._addresses, self._kernel.paging.has_no_execute)

    def is_table(self, words: Iterable[int]) -> bool:
        """Whether most of some words that are not 0 are such entries."""
        entries = [word for word in words if word]
        return 2 * sum(map(self.is_entry, entries)) > len(entries)

    def is_tail_mark(self, word: int) -> bool:
        """Whether a word is the mark of a tail, and nothing else."""
        if self._kernel.tails_hold_mask:
            return word in self._masks
        return self._kernel.geometry.pfn_of(word - TAIL) is not None

    def is_data(self, word: int) -> bool:
        """Whether a word can be of the kernel's allocated data: a pointer, or a map of parts."""
        # The map of a section's parts that have a memmap is a row of consecutive bits.
        after = word + (word & -word)
        return word >> 56 == 0xFF or after & (after - 1) == 0

    def is_data_or_entry(self, word: int) -> bool:
        """Whether a word can be of the kernel's allocated data, or an entry of a page table."""
        return self.is_data(word) or self.is_entry(word)

    def is_struct_page(self, data: bytes, offset: int = 0) -> bool:
        """
        Whether some words can be of a struct page.

        :param offset: Of the first one in the struct page.
        """
        key = offset, data
        if key not in self._known:
            self._known[key] = is_poison(data) or (
                all(
                    self._rules.get(offset + WORD * index, self._is_any)(word)
                    for index, word in enumerate(words_of(data))
                )
                and (len(data) < self._size or self._is_counted(data))
            )
        return self._known[key]

    def are_struct_pages(self, data: bytes) -> bool:
        """Whether some bytes can be complete struct pages, one after the other."""
        if len(data) % self._size or self._size % WORD:
            return False
        words, each = memoryview(data).cast("Q"), self._size // WORD
        if not all(
            all(map(self._rules.get(WORD * index, self._is_any), set(words[index::each])))
            for index in range(each)
        ):
            return False
        if self._counts is None or 0 not in words[self._counts // WORD :: each]:
            return True
        starts = range(0, len(data), self._size)
        return all(self._is_counted(data[start : start + self._size]) for start in starts)

    def _is_counted(self, page: bytes) -> bool:
        """
        Whether the counts are not all 0, or may be: those of a tail, or of a page of zeros.

        A page without references has no mappings either, of which the count is -1, or a page type.
        Only a tail may have 0 for both: its head has the references, and a count of 0 says that the
        tail is mapped once.
        """
        counts = self._counts
        if counts is None or any(page[counts : counts + WORD]) or not any(page):
            return True
        return bool(self._kernel.page.value(page, "compound_head") & TAIL)

    def _are_flags(self, word: int) -> bool:
        return self._kernel.page_flags.node(word) in self._nodes

    def _are_counts(self, word: int) -> bool:
        """Whether a word has a count of references beside one of mappings, or a page type."""
        shift = 8 * (self._kernel.page.offset("refcount") % WORD)
        count, mappings = word >> shift & 0xFFFFFFFF, word >> (shift ^ 32) & 0xFFFFFFFF
        return (count < _COUNT_LIMIT or count > 0xFFFFFFFF - _COUNT_LIMIT) and (
            mappings < _COUNT_LIMIT or mappings >= _TYPES
        )

    def _is_pointer(self, word: int) -> bool:
        """Whether a word is a pointer of the kernel's, poisoned or null, or a tail's mask."""
        return not word or word >> 56 == 0xFF or _POISON <= word < _POISON + _POISON_LIMIT

    def _is_link(self, word: int) -> bool:
        """Whether a word is a link to a head or in a list, or a mark of reserves or a page pool."""
        return self._is_pointer(word) or word == _FROM_RESERVES or is_of_page_pool(word)

    def _is_private(self, word: int) -> bool:
        """
        Whether a word can be where ``private`` is: any member, a place in swap, the processes that
        map a large folio, a count of a page pool, or what memory from boot was registered with.
        """
        return (
            self._is_any(word)
            or self._is_in_swap(word)
            or self._is_shared(word)
            or any(0 <= most - word < _COUNT_LIMIT for most in _POOL_COUNTS)
            or self._is_of_boot(word)
        )

    def _is_in_swap(self, word: int) -> bool:
        """Whether a word is a place on one of the swap devices (``swp_entry()``)."""
        device, offset = divmod(word, 1 << _SWAP_TYPE_SHIFT)
        return device < 1 << _SWAP_TYPE_BITS and offset < _NUMBER_LIMIT

    def _is_shared(self, word: int) -> bool:
        """
        Whether a word says that more than two processes map a large folio (``_mm_ids``).

        Linux commit 6af8cb80d3a9 ("mm/rmap: basic MM owner tracking for large folios (!hugetlb)")
        (in v6.15) keeps it in the first tail, where other pages have their ``private``.
        """
        ids = word & ~_SHARED_BIT & ~_LOCK_BIT
        return bool(word & _SHARED_BIT) and max(divmod(ids, 1 << 32)) < _MM_ID_LIMIT

    def _is_of_boot(self, word: int) -> bool:
        """
        Whether a word is what memory from boot was registered with.

        Linux commit 752fe17af693 ("mm/hugetlb: add pre-HVO framework") (in v6.15) registers the
        vmemmap of gigantic folios, and its page tables, with a section number that is made of an
        address (``get_page_bootmem()``); v7.2 does not any more.
        """
        geometry, shift = self._kernel.geometry, self._kernel.sections.pages.bit_length() - 1
        sections = range(geometry.base >> shift, (geometry.end >> shift) + 1)
        is_info = word & ((1 << _BOOT_TYPE_BITS) - 1) in _BOOT_TYPES
        return is_info and word >> _BOOT_TYPE_BITS in sections

    def _is_any(self, word: int) -> bool:
        """Whether a word can be any member: a pointer, an index, one or two counters."""
        return word & ~_ENTIRELY_MAPPED < _NUMBER_LIMIT or self._is_pointer(word)


def nodes_of(snapshot: Snapshot, sections: Iterable[SectionRange]) -> Iterator[int]:
    """
    The NUMA nodes of which there may be struct pages.

    These are nodes that have memory, and nodes whose zones keep tails: those stay when all of a
    node's memory has been removed.
    """
    kernel = snapshot.kernel
    yield from {zone.node for zone in kernel.zones}
    for section in sections:
        for pfn in section.pfns[::_SMALLEST_NODE]:
            try:
                page = snapshot.struct_pages(pfn)
            except MissingMemory:
                yield from range(_LIKELY_NODES)
                continue
            if not is_poison(page):
                yield kernel.page_flags.node(kernel.page.value(page, "flags"))


def is_poison(page: bytes) -> bool:
    """Whether a struct page was poisoned by ``page_init_poison()``: nobody has written to it."""
    return page == b"\xff" * len(page)


def words_of(data: bytes) -> Iterator[int]:
    """The words of some bytes."""
    return (word for (word,) in struct.iter_unpack("<Q", data[: len(data) & -WORD]))
