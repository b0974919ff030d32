# SPDX-License-Identifier: LGPL-2.1-or-later

"""Statements on an address that a text names: its region, its struct page, and the access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.explain.error_code import KEY, NO_ENTRY, PROTECTION, RESERVED, RMP
from drgn_vmemmap.explain.log.boot import BASE_ALIGNMENT
from drgn_vmemmap.explain.log.cut_oops import CR2
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.log.proven import (
    default_pfn,
    is_called_non_canonical,
    page_table_levels,
    proven_pfn,
)
from drgn_vmemmap.explain.messages.addresses import CR2_OF_DEBUGGER
from drgn_vmemmap.explain.regions import VMEMMAP, default_region, may_be_moved, vmemmap_start
from drgn_vmemmap.explain.struct_page import (
    COUNTS,
    PAGES_PER_HUGE_PAGE,
    PAGES_PER_VMEMMAP_PAGE,
    STRUCT_PAGE_SIZE,
    known_function,
    member_at,
)
from drgn_vmemmap.explain.text_only.pages import no_memory
from drgn_vmemmap.explain.text_only.statements import Certainty, Statement, certain, likely, unknown
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.leaf import Leaf
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE


def address_statements(mention: Mention) -> Iterator[Statement]:
    """Say what a log proves of a virtual address that it names."""
    address = mention.value
    if mention.message in (CR2, CR2_OF_DEBUGGER):
        yield _register_statement(mention)
    yield from _access_statements(mention)
    levels = page_table_levels(mention)
    if is_called_non_canonical(mention) or not x86_64.is_canonical(address, levels or 5):
        yield certain("it is not canonical: nothing can be mapped there")
        return
    if not address >> 63:
        near = ", and so low that a pointer to a structure was NULL" if address < PAGE_SIZE else ""
        yield certain(f"it is not in the kernel's half of addresses: not in {VMEMMAP}{near}")
        return
    then = None if mention.walk is None else mention.walk.leaf(address)
    if mention.has_error(RESERVED):
        then = None
        yield certain(
            "an entry of its page tables had a reserved bit set: the page table was overwritten, "
            "and what it mapped is not known"
        )
    if then is not None:
        yield _leaf_statement(then)
    place = _place(mention, levels, then)
    yield place.statement
    if place.is_vmemmap:
        yield from _in_vmemmap(mention, place.statement.certainty, levels, then)
    elif place.is_vmemmap is None:
        yield unknown(f"if it is in {VMEMMAP}: {_arithmetic(address)}")
    yield from _function_statements(mention)


def _register_statement(mention: Mention) -> Statement:
    if mention.is_fault:
        return certain("CR2 names the address of the page fault: its first line is not in the text")
    return unknown(
        "whether this is what faulted: CR2 holds the address of the processor's last page fault, "
        "and the lines that name a fault are not in the text"
    )


def _access_statements(mention: Mention) -> Iterator[Statement]:
    if not mention.is_fault:
        return
    access, code = mention.access, mention.error_code
    if not mention.is_page_fault:
        yield unknown("what the access was: a general protection fault does not say")
        return
    if access is None:
        yield unknown("what the access was: the log has neither its kind nor its error code")
        return
    reason = ""
    if code is not None:
        reason = ": the page was mapped, and its mapping forbade the access"
        if not code & PROTECTION:
            reason = ": the page was not mapped"
        elif code & RESERVED:
            reason = ""
        elif code & (KEY | RMP):
            reason = ": " + next(what for bit, what in NO_ENTRY if code & bit)
    article = "an" if access[0] in "aeiou" else "a"
    yield certain(f"the access was {article} {access}{reason}")


def _leaf_statement(then: Leaf) -> Statement:
    if not then.present:
        return certain(f"the {then.level} was not present: nothing was mapped there")
    access = "writable" if then.writable else "read-only"
    return certain(f"the page was mapped {access} by a {then.level}, to frame {then.frame:#x}")


class _Place(NamedTuple):
    """Where an address is."""

    is_vmemmap: bool | None
    """``None`` if the text does not say."""
    statement: Statement


def _place(mention: Mention, levels: int | None, then: Leaf | None) -> _Place:
    address, boot = mention.value, mention.boot
    if boot.pfn_at(address) is not None:
        known = f"it is in {VMEMMAP}, which begins at {boot.vmemmap:#x}"
        return _Place(True, certain(f"{known}: the log has a struct page and its PFN"))
    if levels is None:
        return _Place(None, unknown("which region it is in, and how many levels page tables have"))
    region = default_region(address, levels)
    name = "no region of memory" if region is None else region.name
    is_vmemmap = region is not None and region.name == VMEMMAP
    if not may_be_moved(address, levels):
        return _Place(False, certain(f"it is in {name}, not in {VMEMMAP}"))
    if boot.memory_is_fixed:
        where = f"it is in {name}: KASLR is off, and regions are where they are by default"
        return _Place(is_vmemmap, certain(where))
    if boot.vmemmap is not None:
        begins = f"{VMEMMAP}, which begins at {boot.vmemmap:#x}"
        where = "is below" if address < boot.vmemmap else "is beyond the end of"
        return _Place(False, certain(f"it {where} {begins}: the log has a struct page and its PFN"))
    evidence = _evidence(mention, then)
    if evidence:
        return _Place(True, likely(f"it is in {VMEMMAP}: {evidence}"))
    if boot.kernel_offset is None and is_vmemmap:
        return _Place(True, likely(f"it is in {VMEMMAP}, if KASLR has not moved it"))
    return _Place(
        None,
        unknown(f"which region it is in: KASLR moves {VMEMMAP}, and the log does not prove where"),
    )


def _evidence(mention: Mention, then: Leaf | None) -> str:
    """Why an address is likely to be that of a struct page, in words."""
    is_read_only = then is not None and then.present and not then.writable and then.level == "PTE"
    if mention.access != "write" or not is_read_only:
        return ""
    # Stacks are in vmalloc memory or in the direct map, and the vmemmap is above both.
    if mention.registers.get("RSP", 0) > mention.value:
        return ""
    offset = mention.value % STRUCT_PAGE_SIZE
    start = mention.value - offset
    # A pointer to the start of an object proves little, unless a count is at the offset.
    pointers = [
        name for name, value in mention.registers.items() if value == start and offset in COUNTS
    ]
    known = [name for name in mention.functions if known_function(name)]
    reasons = [
        *(f"{name} points to the start of a struct page there" for name in pointers[:1]),
        *(f"{name}() handles struct pages" for name in known[:1]),
    ]
    if not reasons:
        return ""
    return f"it is read-only data that is mapped by a PTE, and {', and '.join(reasons)}"


def _in_vmemmap(
    mention: Mention, certainty: Certainty, levels: int | None, then: Leaf | None
) -> Iterator[Statement]:
    yield from _pfn_statements(mention, certainty, levels)
    yield Statement(certainty, _arithmetic(mention.value))
    if then is None:
        return
    if not then.present:
        yield Statement(
            certainty,
            "the access needed a struct page that was not there: one of memory without a memmap, "
            "or vmemmap that was removed",
        )
    elif mention.access == "write" and not then.writable:
        yield Statement(
            certainty,
            f"this was a write to a page of {VMEMMAP} that HVO shares: the kernel maps no other "
            "page of it read-only",
        )


def _pfn_statements(
    mention: Mention, certainty: Certainty, levels: int | None
) -> Iterator[Statement]:
    """The PFN whose struct page is at an address in the vmemmap."""
    proven, default = proven_pfn(mention), default_pfn(mention.value, levels)
    if proven is not None:
        yield Statement(certainty, f"it is in the struct page of PFN {proven:#x}")
    elif default is not None and mention.boot.kernel_offset is None:
        yield likely(f"it is in the struct page of PFN {default:#x}, if KASLR moved nothing")
    elif levels is not None and mention.boot.memory_is_fixed:
        pfn = (mention.value - vmemmap_start(levels)) // STRUCT_PAGE_SIZE
        yield Statement(certainty, no_memory(pfn))
    else:
        yield unknown(f"the PFN: the log does not prove where {VMEMMAP} begins")


def _arithmetic(address: int) -> str:
    """What follows from nothing but the address: the vmemmap begins at a multiple of 1 GiB."""
    low, offset = address % BASE_ALIGNMENT // STRUCT_PAGE_SIZE, address % STRUCT_PAGE_SIZE
    index = low % PAGES_PER_HUGE_PAGE // PAGES_PER_VMEMMAP_PAGE
    return (
        f"byte {offset} of a struct page is {member_at(offset)}; the PFN ends in {low:#08x} (its "
        f"low 24 bits), in vmemmap page {index} of a folio of 2 MiB"
    )


def _function_statements(mention: Mention) -> Iterator[Statement]:
    for name in mention.functions:
        known = known_function(name)
        if known:
            yield certain(f"{name}() was on the stack: {known}")
