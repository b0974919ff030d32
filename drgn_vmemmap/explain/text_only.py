# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a log proves without a dump: each statement is certain, likely, or said to be unknown."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.explain.boot import BASE_ALIGNMENT, Boot
from drgn_vmemmap.explain.mention import Mention
from drgn_vmemmap.explain.mentions import find_mentions
from drgn_vmemmap.explain.message import Kind
from drgn_vmemmap.explain.regions import VMEMMAP, default_region, may_be_moved, vmemmap_start
from drgn_vmemmap.explain.struct_page import (
    PAGES_PER_HUGE_PAGE,
    PAGES_PER_VMEMMAP_PAGE,
    STRUCT_PAGE_SIZE,
    is_tail,
    known_function,
    member_at,
    order_of_mask,
)
from drgn_vmemmap.explain.text import Line
from drgn_vmemmap.explain.walks import LeafThen, leaf
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE

# CR4.LA57: the page tables have five levels.
_LA57 = 1 << 12

_PROTECTION = 1 << 0


class Certainty(enum.Enum):
    """How sure a statement is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"


class Statement(NamedTuple):
    """What a text says of something."""

    certainty: Certainty
    text: str


class Account(NamedTuple):
    """All that a text says of one fault, page or address."""

    mention: Mention
    statements: list[Statement]


@dataclass
class TextReport:
    """What a text proves."""

    accounts: list[Account] = field(default_factory=list)
    boots: list[list[Statement]] = field(default_factory=list)
    """What it says of each boot that wrote it."""
    collect: list[str] = field(default_factory=list)
    """What to collect next."""
    dropped: int = 0
    """How many faults, pages and addresses there are beyond these."""


def text_only(lines: Iterable[Line]) -> TextReport:
    """
    What a text proves by itself.

    :param lines: The log.
    """
    found = find_mentions(lines)
    boots: list[Boot] = []
    for mention in found.named:
        if not any(mention.boot is boot for boot in boots):
            boots.append(mention.boot)
    return TextReport(
        [Account(mention, list(_statements(mention))) for mention in found.named],
        [list(_boot_statements(boot)) for boot in boots],
        list(_collect(found.named)),
        found.dropped,
    )


def _certain(text: str) -> Statement:
    return Statement(Certainty.CERTAIN, text)


def _likely(text: str) -> Statement:
    return Statement(Certainty.LIKELY, text)


def _unknown(text: str) -> Statement:
    return Statement(Certainty.UNKNOWN, text)


def _statements(mention: Mention) -> Iterator[Statement]:
    if mention.kind is Kind.PFN:
        yield from _page_statements(mention, mention.value)
    elif mention.kind is Kind.PHYSICAL:
        yield _certain(f"it is in the page of PFN {mention.value >> PAGE_SHIFT:#x}")
        yield from _page_statements(mention, mention.value >> PAGE_SHIFT)
    else:
        yield from _address_statements(mention)


# Pages.


def _page_statements(mention: Mention, pfn: int) -> Iterator[Statement]:
    index, tail = divmod(pfn % PAGES_PER_HUGE_PAGE, PAGES_PER_VMEMMAP_PAGE)
    head = pfn - pfn % PAGES_PER_HUGE_PAGE
    yield _certain(
        f"physical address {pfn << PAGE_SHIFT:#x}; in a huge page of 2 MiB, that with the head "
        f"PFN {head:#x}, its struct page is number {tail} in vmemmap page {index}"
    )
    if "huge page" in mention.line.lower() or "hugetlb" in mention.line.lower():
        yield _certain("the kernel calls it a huge page")
    if mention.boot.vmemmap is not None:
        address = mention.boot.vmemmap + pfn * STRUCT_PAGE_SIZE
        yield _certain(f"its struct page is at {address:#x}")
    if len(mention.words) > 1:
        yield from _dumped_statements(mention, pfn)
    yield _unknown("whether the page is of a HugeTLB folio, and if that is optimized: only a dump")


def _dumped_statements(mention: Mention, pfn: int) -> Iterator[Statement]:
    link = mention.words[1]
    if not is_tail(link):
        yield _certain("its struct page was that of no tail")
        return
    order = order_of_mask(link)
    where = f"of a folio of order {order}" if order else f"whose head is at {link & ~1:#x}"
    yield _certain(f"its struct page was that of a tail (compound_head {link:#x}), {where}")
    if any("corrupted mapping in tail page" in detail for detail in mention.details):
        yield _likely(
            "its vmemmap was remapped and restored, and what it holds is a copy of the reuse "
            "frame that was not reset: a tail that its owner frees has TAIL_MAPPING"
        )
        if pfn % PAGES_PER_VMEMMAP_PAGE < 8:
            yield _certain("it is among the first struct pages of its vmemmap page")


# Addresses.


def _address_statements(mention: Mention) -> Iterator[Statement]:
    address = mention.value
    yield from _access_statements(mention)
    levels = _levels(mention)
    if not x86_64.is_canonical(address, 5):
        yield _certain("it is not canonical: it is the address of nothing")
        return
    if not address >> 63:
        near = ", and so low that a pointer to a structure was NULL" if address < PAGE_SIZE else ""
        yield _certain(f"it is not in the kernel's half of addresses: not in {VMEMMAP}{near}")
        return
    then = None if mention.walk is None else leaf(mention.walk, address)
    if then is not None:
        yield _leaf_statement(then)
    place = _place(mention, levels, then)
    yield place.statement
    if place.is_vmemmap:
        yield from _in_vmemmap(mention, place.statement.certainty, levels, then)
    elif place.is_vmemmap is None:
        yield _unknown(f"if it is {VMEMMAP}: {_arithmetic(address)}")
    yield from _function_statements(mention)


def _access_statements(mention: Mention) -> Iterator[Statement]:
    if not mention.is_fault:
        return
    access, code = mention.access, mention.error_code
    if access is None:
        yield _unknown("what the access was: the log has neither its kind nor its error code")
        return
    reason = ""
    if code is not None:
        present = code & _PROTECTION
        reason = ": the page was mapped, and forbade it" if present else ": the page was not mapped"
    yield _certain(f"the access was a {access}{reason}")


def _levels(mention: Mention) -> int | None:
    """Levels of the page tables, where the log proves how many they are."""
    if mention.value >> 63 and not x86_64.is_canonical(mention.value, 4):
        return 5
    cr4 = mention.registers.get("CR4")
    if cr4 is not None:
        return 5 if cr4 & _LA57 else 4
    if mention.walk is not None:
        pgd, p4d = mention.walk.entry("PGD"), mention.walk.entry("P4D")
        if pgd is not None and p4d is not None:
            # With four levels, the kernel logs the PGD a second time as P4D.
            return 4 if pgd == p4d else 5
    return None


def _leaf_statement(then: LeafThen) -> Statement:
    if not then.present:
        return _certain(f"the {then.level} was not present: nothing was mapped there")
    access = "writable" if then.writable else "read-only"
    return _certain(f"the page was mapped {access} by a {then.level}, to frame {then.frame:#x}")


class _Place(NamedTuple):
    """Where an address is."""

    is_vmemmap: bool | None
    """``None`` if the text does not say."""
    statement: Statement


def _place(mention: Mention, levels: int | None, then: LeafThen | None) -> _Place:
    address, boot = mention.value, mention.boot
    if boot.pfn_at(address) is not None:
        known = f"it is in {VMEMMAP}, which begins at {boot.vmemmap:#x}"
        return _Place(True, _certain(f"{known}: the log has a struct page and its PFN"))
    if levels is None:
        return _Place(None, _unknown("which region it is in, and how many levels page tables have"))
    region = default_region(address, levels)
    name = "no region of memory" if region is None else region.name
    is_vmemmap = region is not None and region.name == VMEMMAP
    if not may_be_moved(address, levels):
        return _Place(False, _certain(f"it is in {name}, not in {VMEMMAP}"))
    if boot.memory_is_fixed:
        where = f"it is in {name}: KASLR is off, and regions are where they are by default"
        return _Place(is_vmemmap, _certain(where))
    evidence = _evidence(mention, then)
    if evidence:
        return _Place(True, _likely(f"it is in {VMEMMAP}: {evidence}"))
    if boot.kernel_offset is None and is_vmemmap:
        return _Place(True, _likely(f"it is in {VMEMMAP}, if KASLR has not moved it"))
    return _Place(
        None,
        _unknown(f"which region it is in: KASLR moves {VMEMMAP}, and the log does not prove where"),
    )


def _evidence(mention: Mention, then: LeafThen | None) -> str:
    """Why an address is likely to be that of a struct page, in words."""
    if mention.access != "write" or then is None or not then.present or then.writable:
        return ""
    page = mention.value - mention.value % STRUCT_PAGE_SIZE
    registers = [name for name, value in mention.registers.items() if value == page]
    known = [name for name in mention.functions if known_function(name)]
    reasons = [
        *(f"{name} points to the start of a struct page there" for name in registers[:1]),
        *(f"{name}() handles struct pages" for name in known[:1]),
    ]
    if not reasons or then.level != "PTE":
        return ""
    return f"it is read-only data that is mapped by a PTE, and {', '.join(reasons)}"


def _in_vmemmap(
    mention: Mention, certainty: Certainty, levels: int | None, then: LeafThen | None
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
    boot = mention.boot
    pfn = boot.pfn_at(mention.value)
    if pfn is not None:
        yield Statement(certainty, f"it is in the struct page of PFN {pfn:#x}")
        return
    default = None if levels is None else Boot(vmemmap=vmemmap_start(levels))
    pfn = None if default is None else default.pfn_at(mention.value)
    if pfn is not None and boot.memory_is_fixed:
        yield Statement(certainty, f"it is in the struct page of PFN {pfn:#x}")
    elif pfn is not None and boot.kernel_offset is None:
        yield _likely(f"it is in the struct page of PFN {pfn:#x}, if KASLR moved nothing")
    else:
        yield _unknown(f"the PFN: the log does not prove where {VMEMMAP} begins")


def _arithmetic(address: int) -> str:
    """What follows from the address alone: the vmemmap begins at a multiple of 1 GiB."""
    low = address % BASE_ALIGNMENT // STRUCT_PAGE_SIZE
    index = low % PAGES_PER_HUGE_PAGE // PAGES_PER_VMEMMAP_PAGE
    return (
        f"byte {address % STRUCT_PAGE_SIZE} of a struct page is {member_at(address % 64)}; the "
        f"PFN ends in {low:#08x} (its low 24 bits), in vmemmap page {index} of a folio of 2 MiB"
    )


def _function_statements(mention: Mention) -> Iterator[Statement]:
    for name in mention.functions:
        known = known_function(name)
        if known:
            yield _certain(f"{name}() was on the stack: {known}")


# Boots, and what to do next.


def _boot_statements(boot: Boot) -> Iterator[Statement]:
    if boot.release:
        yield _certain(f"the kernel was {boot.release}")
    else:
        yield _unknown("the kernel's release")
    if boot.kernel_offset is not None:
        how = f"on, by {boot.kernel_offset:#x}" if boot.kernel_offset else "off"
        yield _certain(f"KASLR of the kernel's image was {how}")
    else:
        yield _unknown("whether KASLR was on: no Kernel Offset, and no command line with nokaslr")
    if boot.vmemmap is not None:
        yield _certain(f"the vmemmap began at {boot.vmemmap:#x}")
    enabled = boot.hvo_at_boot
    if enabled is None:
        yield _unknown("whether HVO was on: no command line, and it can be switched at run time")
    else:
        yield _certain(f"HVO was switched {'on' if enabled else 'off'} by the command line")


def _collect(mentions: list[Mention]) -> Iterator[str]:
    if not mentions:
        return
    boots = [mention.boot for mention in mentions]
    if any(boot.release is None or boot.command_line is None for boot in boots):
        yield "the log from its first line on (journalctl -k -b -1): release and command line"
    if any(boot.kernel_offset is None and not boot.memory_is_fixed for boot in boots):
        yield "the end of the log, if it ended in a panic: its line Kernel Offset"
    if any(mention.is_fault and mention.walk is None for mention in mentions):
        yield "the lines after the fault: #PF, and PGD to PTE, which say how the page was mapped"
    yield (
        "a vmcore (kdump, or dump-guest-memory of QEMU) of the same boot, and then: "
        "drgn-vmemmap -c vmcore explain --stdin < log"
    )
    yield (
        "from a running kernel of the same configuration: /proc/cmdline, "
        "/proc/sys/vm/hugetlb_optimize_vmemmap, nr_memmap* of /proc/vmstat, "
        "/sys/kernel/mm/hugepages/*/nr_hugepages"
    )
