# SPDX-License-Identifier: LGPL-2.1-or-later

"""Addresses and PFNs at the ends of the vmemmap and of memory, and outside them."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.log.boot import Boot
from tests.explain.reading import report_on

DUMPED = "page:{:016x} refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:{:#x}"


def said_of_fault(address: int, cr4: int, *first: str) -> list[str]:
    fault = f"BUG: unable to handle page fault for address: {address:016x}"
    registers = f"CR2: {address:016x} CR3: 0000000036022000 CR4: {cr4:016x}"
    account = report_on((*first, fault, registers)).accounts[-1]
    return [statement.text for statement in account.statements]


FOUR, FIVE = 0x370EF0, 0x771EF0


@pytest.mark.parametrize(
    ("address", "cr4", "statement"),
    (
        (0xFFFFEA0000000000, FOUR, "it is in the struct page of PFN 0x0"),
        (0xFFFFEAFFFFFFFFFF, FOUR, "it is in the struct page of PFN 0x3ffffffff"),
        (0xFFD4010000000034, FIVE, "it is in the struct page of PFN 0x400000000"),
        (0xFFD43FFFFFFFFFFF, FIVE, "it is in the struct page of PFN 0xffffffffff"),
        (
            0xFFD4400000000000,
            FIVE,
            "no memory has PFN 0x10000000000: physical addresses have 52 bits at most",
        ),
    ),
)
def test_five_levels_of_page_tables_have_struct_pages_of_more_memory(
    address: int, cr4: int, statement: str
) -> None:
    said = said_of_fault(address, cr4, "Command line: nokaslr")
    assert statement in said
    assert not any("does not prove" in each for each in said)


@pytest.mark.parametrize(
    ("address", "cr4", "base", "statement"),
    (
        (0xFFFFE6FFFFFFFFFF, FOUR, 0xFFFFE70000000000, "it is below the vmemmap"),
        (0xFFFFE7FFFFFFFFFF, FOUR, 0xFFFFE70000000000, "it is in the vmemmap"),
        (0xFFFFE80000000000, FOUR, 0xFFFFE70000000000, "it is beyond the end of the vmemmap"),
        (0xFFA1020000000034, FIVE, 0xFFA1000000000000, "it is in the vmemmap"),
        (0xFFA1400000000000, FIVE, 0xFFA1000000000000, "it is beyond the end of the vmemmap"),
        (0xFFFFFE0000000000, FIVE, 0xFFFFF00000000000, "it is in the CPU entry areas"),
    ),
)
def test_where_the_vmemmap_is_known_what_is_outside_it_is_too(
    address: int, cr4: int, base: int, statement: str
) -> None:
    said = said_of_fault(address, cr4, DUMPED.format(base + 0x40, 1))
    assert any(each.startswith(statement) for each in said)


def test_a_struct_page_below_the_vmemmap_proves_where_that_begins() -> None:
    """The kernel writes its negative PFN without a sign."""
    base = 0xFFA09B7080000000
    page = DUMPED.format(base - (1 << 30), (1 << 64) - (1 << 24))
    below, pfn, failure = report_on((page, "Memory failure: 0x2ec5: x")).accounts
    assert below.mention.boot.vmemmap == base
    assert below.statements[0].text.startswith("it is below the vmemmap")
    assert [each.text for each in pfn.statements] == [
        "no memory has PFN 0xffffffffff000000: physical addresses have 52 bits at most"
    ]
    assert "its struct page is at 0xffa09b70800bb140" in [each.text for each in failure.statements]


def test_words_that_look_like_a_tail_below_the_vmemmap_prove_no_place_below_0() -> None:
    tail = "raw: 0000000000000000 ffa09b70400b8001 0000000000000000 0000000000000000"
    (account,) = report_on(
        (f"page: refcount:0 mapcount:0 index:0x0 pfn:{-0xFFD13B % (1 << 64):#x}", tail)
    ).accounts
    assert account.mention.boot.vmemmap in (None, 0xFFA09B7080000000)


def test_the_first_struct_page_of_a_vmemmap_is_that_of_pfn_0() -> None:
    boot = Boot(vmemmap=0xFFFFEA0000000000)
    assert boot.pfn_at(0xFFFFEA0000000000) == 0
    assert boot.pfn_at(0xFFFFEA0000000000 - 64) is None
