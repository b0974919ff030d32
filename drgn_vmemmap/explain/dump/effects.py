# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What a read and a write do to a running kernel, in words that follow "a read there".

What the kernel does with a fault follows ``do_kern_addr_fault()`` of
``arch/x86/mm/fault.c``; fake heads, ``page_fixed_fake_head()`` as v5.18 to v7.0
have it in ``include/linux/page-flags.h``.
"""

from __future__ import annotations

from drgn_vmemmap.explain.dump.explanation import StructPage
from drgn_vmemmap.explain.dump.mappers import ReverseMap
from drgn_vmemmap.explain.error_code import PROTECTION, RESERVED, WRITE
from drgn_vmemmap.paging.mapping import Entry, Problem

_UNKNOWN = "has an unknown effect: the page table is not in the dump"

_FAULTS = {
    Problem.NOT_PRESENT: (0, "not-present page"),
    Problem.RESERVED: (PROTECTION | RESERVED, "reserved bit violation"),
}


def read_effect(entry: Entry, page: StructPage, mapping: ReverseMap) -> str:
    """
    What a read of a struct page does.

    :param entry: How the page of the vmemmap is mapped.
    :param page: The struct page at the address.
    :param mapping: The vmemmap that the same frame backs.
    """
    if entry.problem is Problem.UNREADABLE:
        return _UNKNOWN
    if entry.problem is Problem.BEYOND_MEMORY:
        return "gets all ones, or a machine check: the frame is beyond memory"
    if entry.frame is None:
        return _fault(entry, 0)
    if page.role == "fake head":
        return "gets the head page's bytes; page_fixed_fake_head() leads from here to the head"
    if page.role == "tail" and page.is_shared_tail:
        return "gets a shared tail; compound_head() leads from here to the head"
    if mapping.pages > 1 and not page.keeps_a_frame:
        return (
            f"gets a struct page in a frame that backs {mapping.pages - 1} other vmemmap pages, too"
        )
    return "gets this struct page"


def write_effect(entry: Entry, page: StructPage, mapping: ReverseMap) -> str:
    """What a write to a struct page does; parameters as for :func:`read_effect()`."""
    if entry.problem is Problem.UNREADABLE:
        return _UNKNOWN
    if entry.problem is Problem.BEYOND_MEMORY:
        return "is lost: the frame is beyond memory"
    if not entry.access.writable:
        return _fault(entry, WRITE)
    if mapping.pages > 1 and not (page.keeps_a_frame and mapping.count == 1):
        return f"goes unnoticed, and changes {mapping.pages - 1} other vmemmap pages, too"
    return "changes this struct page, as the kernel may"


def direct_map_write(mapping: ReverseMap) -> str:
    """What a write through the direct map does to the vmemmap that the frame backs."""
    if mapping.pages < 2:
        return ""
    return (
        "is not stopped by the vmemmap's read-only entries: it goes unnoticed, and changes "
        f"{mapping.pages} vmemmap pages"
    )


def _fault(entry: Entry, access: int) -> str:
    """An access that is not allowed, by the bits of ``enum x86_pf_error_code``."""
    default = PROTECTION, "permissions violation"
    code, reason = default if entry.problem is None else _FAULTS.get(entry.problem, default)
    return (
        f"faults (error code {code | access:#06x}, {reason}): the kernel oopses, and the "
        "task is killed"
    )
