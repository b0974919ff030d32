# SPDX-License-Identifier: LGPL-2.1-or-later

"""Flags and types of a page: the marks of its struct page that say what uses it."""

from __future__ import annotations

from collections.abc import Mapping

from drgn_vmemmap.errors import MissingFacts
from drgn_vmemmap.kernel.c_types import enumerators
from drgn_vmemmap.kernel.facts import PageMarks
from drgn_vmemmap.kernel.lookup import Lookup, not_supported
from drgn_vmemmap.kernel.structs import PageTest, Struct
from drgn_vmemmap.kernel.unrecognised import Part

# PAGE_FLAGS_CHECK_AT_FREE of include/linux/page-flags.h, as far as a kernel has them.
_CHECKED_AT_FREE = (
    *("PG_lru", "PG_locked", "PG_private", "PG_private_2", "PG_writeback", "PG_reserved"),
    *("PG_slab", "PG_active", "PG_unevictable", "PG_mlocked"),
)

# Flags that all kernels have, by which pages in use are recognised.
_MARKS = ("PG_lru", "PG_reserved")

# Page types of kernels in which they were macros, by the bit that is clear.
_MACROS = {0x80: "buddy", 0x100: "offline", 0x200: "table", 0x400: "guard", 0x800: "hugetlb"}


def buddy_test(lookup: Lookup, page: Struct) -> PageTest | None:
    """Recognises the first page of a free block of the buddy allocator."""
    # page->private has the order of the block.
    if not {"private", "page_type"} <= page.members.keys():
        return None
    test = page_type_test(lookup, page, "PAGE_BUDDY_MAPCOUNT_VALUE")
    if test is None:
        lookup.lacks(Part.FREE_PAGES, "PAGE_BUDDY_MAPCOUNT_VALUE in VMCOREINFO")
    return test


def page_type_test(lookup: Lookup, page: Struct, name: str) -> PageTest | None:
    """
    Recognises pages of a type.

    :param name: What VMCOREINFO calls the type's number.
    :return: ``None`` if this kernel has no such type.
    """
    value = _type_number(lookup, name)
    if not value:
        return None
    if "page_type" not in page.members:
        raise not_supported("struct page", "page_type")
    offset = page.offset("page_type")
    base = _type_base(value)
    if not base:
        return PageTest(offset, 4, 0xFF << 24, value)
    return PageTest(offset, 4, base | ~value & 0xFFFFFFFF, base)


def page_marks(lookup: Lookup) -> PageMarks:
    """The marks of a struct page that say what uses the page."""
    type_base = _type_base(_type_number(lookup, "PAGE_BUDDY_MAPCOUNT_VALUE"))
    for name in _MARKS:
        if not lookup.page_flag(name):
            lookup.lacks(Part.OWNER_MARKS, f"{name} in enum pageflags")
    return PageMarks(
        lru=lookup.page_flag("PG_lru"),
        # Linux commit 46df8e73a4a3 ("mm: free up PG_slab") (in v6.10)
        slab=lookup.page_flag("PG_slab"),
        reserved=lookup.page_flag("PG_reserved"),
        checked_at_free=sum(map(lookup.page_flag, _CHECKED_AT_FREE)),
        type_base=type_base,
        type_names=_type_names(lookup, type_base),
    )


def _type_number(lookup: Lookup, name: str) -> int:
    """
    A page type, 32 bits; 0 if this kernel does not have it.

    :raises MissingFacts: if no page type has such a number.
    """
    value = lookup.number(name) & 0xFFFFFFFF
    is_number = value >> 31 and not value & 0xFFFFFF
    if value and not is_number and bin(value).count("1") != 31:
        raise MissingFacts(f"VMCOREINFO's {name} is {value:#x}, which is impossible: damaged dump")
    return value


def _type_base(value: int) -> int:
    """
    Bits that all page types have set; 0 where they are numbers in the highest byte.

    :param value: Any type's, 32 bits.
    """
    # Linux commit 4ffca5a96678 ("mm: support only one page_type per page") (in v6.12)
    if value & 0xFFFFFF == 0:
        return 0
    # Until then, a type was a bit that is clear below a base that is set. Linux commit
    # 8db00ad56461 ("mm: allow reuse of the lower 16 bit of the page type with an actual
    # type") (in v6.11) moved both.
    return 0x80000000 if ~value >> 16 & 0xFFFF else 0xF0000000


def _type_names(lookup: Lookup, base: int) -> dict[int, str]:
    """Names of the page types: by bit where there is a base, otherwise by number."""
    numbers = {
        name: _type_number(lookup, f"PAGE_{name.upper()}_MAPCOUNT_VALUE")
        for name in ("buddy", "offline", "slab", "hugetlb", "unaccepted")
    }
    types = enumerators(lookup.prog, "enum pagetype")
    if not base:
        exported = {value >> 24: name for name, value in numbers.items() if value}
        return {**exported, **_without_prefix("PGTY_", types)}
    # Linux commit ff202303c398 ("mm: convert page type macros to enum") (in v6.10)
    return _without_prefix("PG_", types) or _MACROS


def _without_prefix(prefix: str, values: Mapping[str, int]) -> dict[int, str]:
    """Names of enumerators, by their 32-bit values, of those that begin with a prefix."""
    return {
        value & 0xFFFFFFFF: name.removeprefix(prefix)
        for name, value in values.items()
        if name.startswith(prefix)
    }


def self_hosted(lookup: Lookup) -> int:
    """Mask of ``PG_vmemmap_self_hosted``; 0 if there is none."""
    # Linux commit 66361095129b ("mm: memory_hotplug: make hugetlb_optimize_vmemmap
    # compatible with memmap_on_memory") (in v6.0)
    return lookup.page_flag("PG_vmemmap_self_hosted")
