# SPDX-License-Identifier: LGPL-2.1-or-later

"""Queries are read as the kernel writes numbers; what is no address of the vmemmap is named."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.dump.explanation import AddressKind
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.output.explanation import text
from tests.explain.images import explained, image


@pytest.mark.parametrize(
    "what",
    ("", "hello", "pfn:", "pfn:x", "phys:-1", "12", "0x", "pfn:1e99z", "0x" + "f" * 17, "\x1b[31m"),
)
def test_what_is_no_address_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="no address") as refused:
        parse(what)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("digits", (12, 13, 15))
def test_a_kernel_address_that_was_cut_off_is_refused(digits: int) -> None:
    cut = "ffffea0004a8c034"[:digits]
    with pytest.raises(ValueError, match=f"has {digits} of the 16 digits"):
        parse(cut)
    assert parse(f"0x{cut}").address == int(cut, 16)
    assert parse("7ffea0004a8c034"[:digits]).address is not None


@pytest.mark.parametrize(
    ("what", "physical"),
    (
        ("pfn:0x2c00", 0x2C00000),
        ("pfn:02c00", 0x2C00000),  # as "Bad page state" has it
        ("pfn:2c00", 0x2C00000),
        ("PFN:0X2C00", 0x2C00000),
        ("pfn:7", 0x7000),
        ("phys:0x2c00123", 0x2C00123),
    ),
)
def test_numbers_are_read_as_the_kernel_writes_them(what: str, physical: int) -> None:
    assert parse(what) == (what, None, physical)


def test_a_number_that_can_be_read_in_two_ways_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="pfn:0x11264 or pfn:0x2c00"):
        parse("pfn:11264")


def test_a_number_beyond_all_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="52 bits"):
        parse("pfn:0x10000000000")


@pytest.mark.parametrize(
    ("what", "place"),
    (
        ("0x1234", AddressKind.USER),
        ("00007fffa20ace70", AddressKind.USER),
        ("0x8000000000000000", AddressKind.NOT_CANONICAL),
        ("0xffffffffff000000", AddressKind.KERNEL),
        ("phys:0xfffffffffffff", AddressKind.BEYOND_MEMORY),
    ),
)
def test_other_addresses_are_named_for_what_they_are(what: str, place: AddressKind) -> None:
    explanation = explained(image("6.12.0"), what)
    assert explanation.kind is place
    assert not explanation.concerns_hugetlb
    assert not explanation.incomplete
    assert place.value in text(explanation)


def test_the_walk_to_any_address_of_the_kernel_is_shown() -> None:
    of = image("6.12.0")
    explanation = explained(of, f"{of.variables['hstates'][1]:#x}")
    assert explanation.kind is AddressKind.KERNEL
    assert explanation.steps[-1].level.name == "PMD"
    assert explanation.frame == of.physical(of.variables["hstates"][1]) >> 12
    assert explanation.page is not None and explanation.page.known
