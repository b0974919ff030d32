# SPDX-License-Identifier: LGPL-2.1-or-later

"""All that a text proves of an address or a page: no statement is missing, none is added."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.text_only.statements import Certainty, Statement
from tests.explain.logs import BAD_PAGE
from tests.explain.reading import Said, assert_said, report_on

CERTAIN, LIKELY, UNKNOWN = Certainty.CERTAIN, Certainty.LIKELY, Certainty.UNKNOWN
FOUR_LEVELS = "CR4: 0000000000350ee0"
IN_VMEMMAP = 0xFFFFEA0004A8C034
BYTE = "byte 52 of a struct page is _refcount; the PFN ends in 0x12a300"
MOVED = "Kernel Offset: 0x1c00000 from 0xffffffff81000000"
READ_ONLY, WRITABLE, ABSENT = 0x8000000035F9B121, 0x8000000035F9B163, 0x35F9B120


def fault(address: int, code: int) -> tuple[str, str]:
    return (
        f"BUG: unable to handle page fault for address: {address:016x}",
        f"#PF: error_code(0x{code:04x}) - x",
    )


def walk(pte: int) -> str:
    return f"PGD 7fcb0067 P4D 7fcb0067 PUD 7fcae067 PMD 2420067 PTE {pte:x}"


def statements(*lines: str) -> list[Statement]:
    (account,) = report_on(lines).accounts
    return account.statements


@pytest.mark.parametrize(
    ("address", "expected"),
    (
        (0xFFF, "so low that a pointer to a structure was NULL"),
        (0x1000, "it is not in the kernel's half of addresses: not in the vmemmap"),
        # Of user space with page tables of five levels.
        (0x800000000000, "it is not in the kernel's half of addresses: not in the vmemmap"),
    ),
)
def test_of_an_address_in_user_space_only_its_access_is_said(address: int, expected: str) -> None:
    said = statements(*fault(address, 2))
    not_mapped = (CERTAIN, "the access was a write: the page was not mapped")
    assert_said(said, (not_mapped, (CERTAIN, expected)))
    assert ("NULL" in said[1].text) is (address < 0x1000)


def test_of_an_address_that_is_not_canonical_nothing_else_is_said() -> None:
    line = "Oops: general protection fault, probably for non-canonical address 0x123456789abcdef"
    assert_said(
        statements(f"{line}: 0000 [#1] SMP"),
        (
            (UNKNOWN, "what the access was: a general protection fault does not say"),
            (CERTAIN, "it is not canonical"),
        ),
    )


@pytest.mark.parametrize(
    ("address", "place"),
    (
        (0xFFFFEB8000000000, "it is in no region of memory: KASLR is off"),
        (0xFFFF800000001000, "it is in no region of memory, not in the vmemmap"),
        (0xFFFF888000001000, "it is in the direct map: KASLR is off"),
    ),
)
def test_an_address_outside_the_vmemmap_has_no_struct_page_there(address: int, place: str) -> None:
    said = statements(*fault(address, 0), FOUR_LEVELS, "Kernel Offset: disabled")
    assert_said(said, ((CERTAIN, "a read: the page was not mapped"), (CERTAIN, place)))


@pytest.mark.parametrize(
    ("address", "where"),
    ((0xFFFFE6FFFFFFFFFF, "it is below"), (0xFFFFE80000000000, "it is beyond the end of")),
)
def test_where_the_vmemmap_is_known_nothing_is_said_of_struct_pages_outside_it(
    address: int, where: str
) -> None:
    page = "page:ffffe70000000000 refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x0"
    of = report_on((page, *fault(address, 0), FOUR_LEVELS)).accounts[-1]
    assert_said(of.statements, ((CERTAIN, "not mapped"), (CERTAIN, f"{where} the vmemmap")))


def test_where_kaslr_moved_the_vmemmap_it_is_said_what_follows_if_an_address_is_in_it() -> None:
    said = statements(*fault(IN_VMEMMAP, 1), walk(WRITABLE), MOVED)
    expected: Said = (
        (CERTAIN, "the access was a read: the page was mapped, and its mapping forbade the access"),
        (CERTAIN, "the page was mapped writable by a PTE, to frame 0x35f9b"),
        (UNKNOWN, "which region it is in: KASLR moves the vmemmap, and the log does not prove"),
        (UNKNOWN, f"if it is in the vmemmap: {BYTE}"),
    )
    assert_said(said, expected)


def test_without_levels_it_is_said_what_follows_if_an_address_is_in_the_vmemmap() -> None:
    said = statements(f"BUG: unable to handle page fault for address: {IN_VMEMMAP:016x}")
    expected: Said = (
        (UNKNOWN, "what the access was: the log has neither its kind nor its error code"),
        (UNKNOWN, "which region it is in, and how many levels page tables have"),
        (UNKNOWN, f"if it is in the vmemmap: {BYTE}"),
    )
    assert_said(said, expected)


@pytest.mark.parametrize(("code", "pte"), ((3, WRITABLE), (0x11, READ_ONLY), (0x11, WRITABLE)))
def test_no_page_is_said_to_be_shared_but_a_read_only_one_that_was_written_to(
    code: int, pte: int
) -> None:
    expected: Said = (
        (CERTAIN, "the page was mapped, and its mapping forbade the access"),
        (CERTAIN, "by a PTE, to frame 0x35f9b"),
        (LIKELY, "it is in the vmemmap, if KASLR has not moved it"),
        (LIKELY, "it is in the struct page of PFN 0x12a300, if KASLR moved nothing"),
        (LIKELY, BYTE),
    )
    assert_said(statements(*fault(IN_VMEMMAP, code), walk(pte)), expected)


WALKER = "RIP: 0010:isolate_migratepages_block+0x2f1/0x1520"
LARGE = "PGD 7fcb0067 P4D 7fcb0067 PUD 7fcae067 PMD 80000000024001a1"


@pytest.mark.parametrize(
    ("code", "entries", "is_likely"),
    (
        (3, walk(READ_ONLY), True),
        (3, walk(WRITABLE), False),
        (2, walk(ABSENT), False),
        (1, walk(READ_ONLY), False),
        (3, LARGE, False),
    ),
)
def test_a_function_that_handles_struct_pages_makes_it_likely_that_a_shared_page_was_written_to(
    code: int, entries: str, is_likely: bool
) -> None:
    said = statements(*fault(0xFFFFF1C004A8C034, code), entries, WALKER, MOVED, "Call Trace:")
    (reason, *_) = [text for how, text in said if how is LIKELY] or [""]
    if is_likely:
        assert reason == (
            "it is in the vmemmap: it is read-only data that is mapped by a PTE, "
            "and isolate_migratepages_block() handles struct pages"
        )
    else:
        assert reason == ""


def test_where_kaslr_moved_the_vmemmap_its_default_place_tells_no_pfn() -> None:
    said = statements(*fault(IN_VMEMMAP, 3), walk(READ_ONLY), WALKER, MOVED)
    expected: Said = (
        (CERTAIN, "the access was a write"),
        (CERTAIN, "read-only by a PTE"),
        (LIKELY, "it is in the vmemmap: it is read-only data"),
        (UNKNOWN, "the PFN: the log does not prove where the vmemmap begins"),
        (LIKELY, BYTE),
        (LIKELY, "a write to a page of the vmemmap that HVO shares"),
        (CERTAIN, "isolate_migratepages_block() was on the stack"),
    )
    assert_said(said, expected)


def test_one_pointer_and_one_function_are_evidence_enough() -> None:
    more = (
        "RAX: 0000000000000001 RBX: fff1c00004a8c000 RCX: fff1c00004a8c000",
        "Call Trace:",
        " <TASK>",
        " compact_zone+0x8ad/0x1010",
        " isolate_freepages_block+0x1/0x2",
    )
    said = statements(*fault(0xFFF1C00004A8C034, 3), walk(READ_ONLY), WALKER, *more)
    (reason,) = [text for how, text in said if how is LIKELY and "by a PTE" in text]
    assert reason.endswith(
        "RBX points to the start of a struct page there, and "
        "isolate_migratepages_block() handles struct pages"
    )
    stack = [text.split(":")[0] for _, text in said if "on the stack" in text]
    assert stack == [
        f"isolate_{what}pages_block() was on the stack" for what in ("migrate", "free")
    ]


PLACE = (CERTAIN, "physical address 0x2ec0000; in a huge page of 2 MiB, whose head is PFN")
OPEN = (
    UNKNOWN,
    "whether the page is of a HugeTLB folio, and whether that is optimized: only a dump shows it",
)
HEADER = "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:{:#x}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    (
        ("0017ffffc0000000 ffffea0004a8c000", "its struct page was not that of a tail"),
        ("0017ffffc0000000 ffa09b70800b8001", "that of a tail (compound_head 0xffa09b70800b8001)"),
        ("ffffffffffffffff ffffffffffffffff", "its struct page was poisoned"),
        ("0017ffffc0000000", None),
    ),
)
def test_two_words_of_a_struct_page_are_enough_to_tell_a_tail(
    raw: str, expected: str | None
) -> None:
    more = [] if expected is None else [(CERTAIN, expected)]
    said = statements(HEADER.format(0x2EC0), f"raw: {raw}")
    found = [each for each in said if "struct page is at" not in each.text]
    assert_said(found, (PLACE, *more, OPEN))


@pytest.mark.parametrize(("pfn", "is_first"), ((0x2EC1, True), (0x2EC7, True), (0x2EC8, False)))
def test_a_tail_with_a_corrupted_mapping_is_likely_to_have_been_restored(
    pfn: int, is_first: bool
) -> None:
    lines = (HEADER.format(pfn), *BAD_PAGE[3:])
    texts = [text for _, text in statements(*lines)]
    assert any("a copy of the reuse frame that was not reset" in text for text in texts)
    first = "it is among the first struct pages of its vmemmap page"
    assert (first in texts) is is_first
    other = statements(*lines[:-1], "page dumped because: nonzero mapcount")
    assert not any("reuse frame" in text for _, text in other)


def test_of_a_page_of_a_hugetlb_folio_only_a_dump_says_whether_it_is_optimized() -> None:
    said = statements(HEADER.format(0x2EC0), "page_type: f4(hugetlb)", "page dumped because: x")
    expected: Said = (
        PLACE,
        (CERTAIN, "its folio had the page type of a HugeTLB folio"),
        (UNKNOWN, "whether that folio is optimized: only a dump shows it"),
    )
    assert_said(said, expected)


def test_of_an_entry_with_both_bits_of_memory_encryption_both_are_named() -> None:
    entry = 0x2EC0 << 12 | 1 << 47 | 1 << 51 | 0x867
    (only,) = statements(f"BUG: Bad page map in process cat  pte:{entry:016x} pmd:02420067")
    assert only.certainty is UNKNOWN
    assert "bit 47 and 51 of the entry" in only.text and only.text.endswith("PFN 0x2ec0")


@pytest.mark.parametrize(("pfn", "is_memory"), ((0xFFFFFFFFFF, True), (0x10000000000, False)))
def test_a_pfn_beyond_all_memory_has_no_place(pfn: int, is_memory: bool) -> None:
    said = statements(f"Memory failure: {pfn:#x}: recovery action for huge page: Recovered")
    if is_memory:
        assert f"physical address {pfn << 12:#x}" in said[0].text
    else:
        assert_said(said, ((CERTAIN, f"no memory has PFN {pfn:#x}"),))


@pytest.mark.parametrize(("pte", "access"), ((READ_ONLY, "read-only"), (WRITABLE, "writable")))
def test_of_a_walk_without_its_address_the_frame_is_explained(pte: int, access: str) -> None:
    said = statements(walk(pte), "Oops: Oops: 0003 [#1] SMP NOPTI")
    expected: Said = (
        (CERTAIN, "physical address 0x35f9b000"),
        (CERTAIN, f"a fault met a PTE that maps this frame {access}"),
        (UNKNOWN, "the address of that fault: the line that names it is not in the text"),
        OPEN,
    )
    assert_said(said, expected)


def test_a_physical_address_is_in_a_page() -> None:
    said = statements("mce: [Hardware Error]: TSC 3f3c4fe8b2d10 ADDR 2ec0040 MISC 8c")
    assert said[0].text == "it is in the page of PFN 0x2ec0"
    assert_said(said, ((CERTAIN, "it is in the page of PFN 0x2ec0"), PLACE, OPEN))
