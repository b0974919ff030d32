# SPDX-License-Identifier: LGPL-2.1-or-later

"""Between which limits a word is taken for the kernel's; beyond them, it may be a user's."""

from __future__ import annotations

import dataclasses

import pytest

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.content import Content, nodes_of
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

POISON = 0xDEAD000000000000
OF_POOL = POISON + 0x40
MANY = 1 << 20
LONG_MAX = (1 << 63) - 1


def snapshot_of(release: str) -> Snapshot:
    image = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO, remapped=False),)))
    return Snapshot(discover(image.prog), ProgramMemory(image.prog))


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return snapshot_of("6.12.0")


@pytest.fixture(scope="module")
def content(snapshot: Snapshot) -> Content:
    return Content(snapshot.kernel, [0])


def page_with(snapshot: Snapshot, **words: int) -> bytes:
    """The struct page of a head, in which some words are others."""
    page = bytearray(snapshot.struct_pages(FIRST_FOLIO))
    for member, word in words.items():
        start = snapshot.kernel.page.offset(member) & -8
        page[start : start + 8] = word.to_bytes(8, "little")
    return bytes(page)


@pytest.mark.parametrize(
    ("member", "right", "wrong"),
    (
        ("mapping", (1 << 52) - 1, 1 << 52),  # numbers
        ("mapping", 0xFF << 56, (0xFF << 56) - 1),  # pointers
        ("mapping", POISON, POISON - 1),
        ("mapping", POISON + 0xFFFF, POISON + 0x10000),
        ("mapping", 1 << 55 | (1 << 52) - 1, 1 << 55 | 1 << 52),  # a folio mapped by a PMD
        ("mapping", 1 << 55, 1 << 54),
        ("mapping", 1 << 55, 1 << 56),
        ("compound_head", 2, 1),  # a page from the reserves
        ("compound_head", 2, 3),
        ("compound_head", OF_POOL | 1 << 38, OF_POOL | 1 << 39),  # a page of a page pool
        ("compound_head", OF_POOL | 1 << 38 | 3, OF_POOL | 1 << 38 | 4),
        ("compound_head", OF_POOL | 1 << 38, POISON | 1 << 38),
        ("private", 0xFF << 56, 0xFE << 56),  # a pointer
        ("private", 31 << 58 | (1 << 52) - 1, 31 << 58 | 1 << 52),  # a place in swap
        ("private", 31 << 58 | 1 << 22, 32 << 58 | 1 << 22),
        ("private", 31 << 58 | 1 << 22, 33 << 58 | 1 << 22),
        # Numbers of two processes' memory.
        ("private", 1 << 63 | 1 << 31 | (1 << 22) - 1, 1 << 63 | 1 << 31 | 1 << 22),
        ("private", 1 << 63 | ((1 << 22) - 1) << 32, 1 << 63 | (1 << 22) << 32),
        ("private", 1 << 63 | 1 << 53 | 3, 1 << 53 | 3),
        ("private", LONG_MAX, LONG_MAX - MANY),  # references to parts of a page
        ("private", LONG_MAX - MANY + 1, LONG_MAX - MANY),
        ("private", LONG_MAX >> 1, (LONG_MAX >> 1) - MANY),
        ("private", (LONG_MAX >> 1) - MANY + 1, (LONG_MAX >> 1) - MANY),
        ("refcount", MANY - 1 << 32, MANY << 32),
        ("refcount", 0xFFF00000 << 32, 0xFFEFFFFF << 32),
        ("refcount", 1 << 32 | MANY - 1, 1 << 32 | MANY),  # counts of mappings, and page types
        ("refcount", 1 << 32 | 1 << 31, 1 << 32 | (1 << 31) - 1),
        ("refcount", 0xFFFFFFFF, 0x7FFFFFFF),
        ("refcount", 0xFFFFFFFF << 32, 0x7FFFFFFF << 32),
    ),
)
def test_a_word_of_a_struct_page_has_limits(
    snapshot: Snapshot, content: Content, member: str, right: int, wrong: int
) -> None:
    for word, is_right in ((right, True), (wrong, False)):
        page = page_with(snapshot, **{member: word})
        assert content.is_struct_page(page) is is_right
        assert content.are_struct_pages(page) is is_right
        start = snapshot.kernel.page.offset(member) & -8
        assert content.is_struct_page(page[start : start + 8], start) is is_right


@pytest.mark.parametrize(("kind", "is_right"), ((0, False), (1, True), (3, True), (4, False)))
def test_memory_from_boot_is_registered_with_a_kind_and_a_section_of_the_vmemmap(
    snapshot: Snapshot, content: Content, kind: int, is_right: bool
) -> None:
    geometry, pages = snapshot.geometry, snapshot.kernel.sections.pages
    first, last = geometry.base // pages, (geometry.end - 1) // pages
    for section in (first, last):
        page = page_with(snapshot, private=section << 4 | kind)
        assert content.is_struct_page(page) is is_right
    for section in (first - 1, last + 2):
        assert not content.is_struct_page(page_with(snapshot, private=section << 4 | kind))


def test_all_of_several_struct_pages_are_right(snapshot: Snapshot, content: Content) -> None:
    sound = snapshot.struct_pages(FIRST_FOLIO, 4)
    assert content.are_struct_pages(sound)
    assert not content.are_struct_pages(sound[:-8])
    # A count of 0 and a member of the memory controller, but no references and no mappings.
    wrong = page_with(snapshot, refcount=0, memcg_data=0xFFFF888000001000, compound_head=0)
    assert not content.is_struct_page(wrong)
    for start in range(0, 256, 64):
        assert not content.are_struct_pages(sound[:start] + wrong + sound[start + 64 :])
    unused = bytes(64)
    assert content.are_struct_pages(unused + sound)
    assert content.are_struct_pages(sound + unused)


def test_struct_pages_of_no_whole_words_are_not_judged_together(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Content(snapshot.kernel, [0])
    monkeypatch.setattr(content, "_size", 60)
    assert not content.are_struct_pages(bytes(120))


UNKNOWN = ("refcount", "private")


def test_where_the_counts_or_what_is_private_is_unknown_any_number_is_right(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = snapshot.kernel.page
    known = {name: each for name, each in layout.members.items() if name not in UNKNOWN}
    kernel = dataclasses.replace(snapshot.kernel, page=layout._replace(members=known))
    content = Content(kernel, [0])
    page = bytearray(snapshot.struct_pages(FIRST_FOLIO))
    page[48:56] = MANY.to_bytes(8, "little")
    for word, is_right in ((7, True), (1 << 58 | 7, False)):
        page[40:48] = word.to_bytes(8, "little")
        assert content.is_struct_page(bytes(page)) is is_right
        assert content.are_struct_pages(bytes(page)) is is_right
    without_counts = bytes(page[:40]) + bytes(24)
    assert content.is_struct_page(without_counts)
    assert content.are_struct_pages(without_counts)


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_the_mark_of_a_tail_is_a_mask_or_a_pointer_by_the_kernel(release: str) -> None:
    kernel = snapshot_of(release).kernel
    content = Content(kernel, [0])
    for order in (1, 9, 18):
        mask = -(64 << order) % (1 << 64) | 1
        assert content.is_tail_mark(mask) is kernel.tails_hold_mask
        assert not content.is_tail_mark(mask - 1)
    pointer = kernel.geometry.address(FIRST_FOLIO) | 1
    assert content.is_tail_mark(pointer) is not kernel.tails_hold_mask
    assert not any(map(content.is_tail_mark, (0, 1, pointer - 1, pointer + 1, pointer + 2)))


@pytest.mark.parametrize(
    ("word", "is_data"),
    (
        (0, True),
        (0xFF << 56, True),
        (0xFE << 56 | 1, False),
        (1, True),  # parts of a section that have a memmap
        (0b0110, True),
        (0b0101, False),
        (0b1011 << 40, False),
        (0b11 << 62, True),
        (0b101 << 61, False),
    ),
)
def test_data_of_the_kernel_is_a_pointer_or_a_row_of_bits(
    content: Content, word: int, is_data: bool
) -> None:
    assert content.is_data(word) is is_data
    assert content.is_data_or_entry(word) is is_data


ENTRY, ONE_WRONG, TWO_WRONG = 0x2000067, 0x2000066, 0x2000064


def test_an_entry_with_two_bits_damaged_may_be_anything(content: Content) -> None:
    assert content.is_entry(0) and content.is_damaged_entry(0)
    assert content.is_entry(ENTRY) and content.is_data_or_entry(ENTRY)
    assert not content.is_entry(ONE_WRONG) and content.is_damaged_entry(ONE_WRONG)
    assert not content.is_entry(TWO_WRONG) and not content.is_damaged_entry(TWO_WRONG)


def test_an_entry_leads_to_no_frame_beyond_memory(snapshot: Snapshot, content: Content) -> None:
    end = snapshot.geometry.max_pfn << snapshot.geometry.page_shift
    beyond = 1 << end.bit_length()
    assert content.is_entry(ENTRY | beyond >> 1)
    assert not content.is_entry(ENTRY | beyond)


@pytest.mark.parametrize(
    ("words", "is_table"),
    (
        ((ENTRY, ONE_WRONG), False),
        ((ENTRY, ENTRY, ONE_WRONG), True),
        ((ENTRY, ONE_WRONG, TWO_WRONG), False),
        ((0, 0, 0, ENTRY, ONE_WRONG), False),
        ((), False),
    ),
)
def test_a_table_has_more_entries_than_other_words(
    content: Content, words: tuple[int, ...], is_table: bool
) -> None:
    assert content.is_table(words) is is_table


def test_memory_that_is_missing_or_poisoned_tells_no_node(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing may be of any node; what follows it is read all the same."""
    monkeypatch.setattr("drgn_vmemmap.extract.content._LIKELY_NODES", 2)
    of_node_5 = page_with(snapshot, flags=5 << snapshot.kernel.page_flags.node_shift)
    pages = {1 << 13: b"\xff" * 64, 1 << 14: of_node_5}

    def struct_page(pfn: int) -> bytes:
        if pfn not in pages:
            raise MissingMemory("a page")
        return pages[pfn]

    monkeypatch.setattr(snapshot, "struct_pages", struct_page)
    assert set(nodes_of(snapshot, [SectionRange(range(1 << 13, 3 << 13), 0)])) == {5}
    assert set(nodes_of(snapshot, [SectionRange(range(3 << 13), 0)])) == {0, 1, 5}
