# SPDX-License-Identifier: LGPL-2.1-or-later

"""Statements on a page that a text names: what the text proves of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.struct_page import (
    PAGES_PER_HUGE_PAGE,
    PAGES_PER_VMEMMAP_PAGE,
    POISON,
    STRUCT_PAGE_SIZE,
    is_tail,
    order_of_mask,
)
from drgn_vmemmap.explain.text_only.statements import Statement, certain, likely, unknown
from drgn_vmemmap.paging.leaf import ENCRYPTION_BITS
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PFN_LIMIT, PHYSICAL_BITS

# A restore resets the first three or four struct pages of a vmemmap page to copies of as many after
# them (reset_struct_pages() of mm/hugetlb_vmemmap.c): what is wrong in one of these is so in both.
_RESET_OR_COPIED = 8

# What the kernel calls a page; a process may have any name.
_HUGE_PAGE = re.compile(
    r"recovery action for (?:free )?huge page|\bhugepage (?:isolation|migration)|\bHugeTLB: "
)

# The page type of the folio of a dumped page.
_HUGETLB_TYPE = re.compile(r"\bpage_type: \w+\(hugetlb\)")


def page_statements(mention: Mention, pfn: int) -> Iterator[Statement]:
    """Say what a log proves of a page that it names by its PFN."""
    bits = _encryption_bits(mention, pfn)
    if bits:
        numbers = " and ".join(map(str, bits))
        without = pfn & ~sum(1 << bit - PAGE_SHIFT for bit in bits)
        yield unknown(
            f"which page it is: bit {numbers} of the entry is set, and no memory is so large; if "
            f"that is the bit of AMD's memory encryption, the page is PFN {without:#x}"
        )
        return
    if pfn >= PFN_LIMIT:
        yield certain(no_memory(pfn))
        return
    index, tail = divmod(pfn % PAGES_PER_HUGE_PAGE, PAGES_PER_VMEMMAP_PAGE)
    head = pfn - pfn % PAGES_PER_HUGE_PAGE
    yield certain(
        f"physical address {pfn << PAGE_SHIFT:#x}; in a huge page of 2 MiB, whose head is PFN "
        f"{head:#x}, its struct page is number {tail} in vmemmap page {index}"
    )
    if _HUGE_PAGE.search(mention.line):
        yield certain("the kernel calls it a huge page")
    if mention.boot.vmemmap is not None:
        address = mention.boot.vmemmap + pfn * STRUCT_PAGE_SIZE
        yield certain(f"its struct page is at {address:#x}")
    yield from _walk_statements(mention)
    if len(mention.words) > 1:
        yield from _dumped_statements(mention, pfn)
    if any(map(_HUGETLB_TYPE.search, mention.details)):
        yield certain("its folio had the page type of a HugeTLB folio")
        yield unknown("whether that folio is optimized: only a dump shows it")
    else:
        what = "whether the page is of a HugeTLB folio, and whether that is optimized"
        yield unknown(f"{what}: only a dump shows it")


def no_memory(pfn: int) -> str:
    """A sentence on a PFN that no processor can have."""
    return f"no memory has PFN {pfn:#x}: physical addresses have {PHYSICAL_BITS} bits at most"


def _encryption_bits(mention: Mention, pfn: int) -> list[int]:
    """Bits of the entry that named a page which may be that of memory encryption."""
    if mention.message is None or not mention.message.names_an_entry:
        return []
    return [bit for bit in ENCRYPTION_BITS if pfn >> bit - PAGE_SHIFT & 1]


def _walk_statements(mention: Mention) -> Iterator[Statement]:
    """Statements on the walk of a fault whose address is not in the log."""
    then = None if mention.walk is None else mention.walk.leaf()
    if then is None:
        return
    access = "writable" if then.writable else "read-only"
    yield certain(f"a fault met a {then.level} that maps this frame {access}")
    yield unknown("the address of that fault: the line that names it is not in the text")


def _dumped_statements(mention: Mention, pfn: int) -> Iterator[Statement]:
    link = mention.words[1]
    if mention.words[0] == POISON:
        yield certain("its struct page was poisoned (page_init_poison()): nobody used it")
        return
    if not is_tail(link):
        yield certain("its struct page was not that of a tail")
        return
    order = order_of_mask(link)
    where = f"of a folio of order {order}" if order else f"whose head is at {link & ~1:#x}"
    yield certain(f"its struct page was that of a tail (compound_head {link:#x}), {where}")
    if any("corrupted mapping in tail page" in detail for detail in mention.details):
        yield likely(
            "its vmemmap was remapped and restored, and it holds a copy of the reuse frame that "
            "was not reset: a tail must have TAIL_MAPPING when its folio is freed"
        )
        if pfn % PAGES_PER_VMEMMAP_PAGE < _RESET_OR_COPIED:
            yield certain("it is among the first struct pages of its vmemmap page")
