# SPDX-License-Identifier: LGPL-2.1-or-later

"""The walker: what page tables say, at every level, sound or not."""

from __future__ import annotations

import pytest

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from tests.oracles.page_tables import Page
from tests.paging.space import (
    ADDRESS,
    GIB,
    KIB,
    MEMORY,
    MIB,
    NAMES,
    PAGES_OF_LEAF,
    ROOT,
    Space,
    both_depths,
    every_leaf,
    every_level,
    every_table,
    seen,
    walked,
)
from tests.synthetic.physical import (
    GLOBAL,
    KERNEL,
    KERNEL_TABLE,
    LARGE,
    NO_EXECUTE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PRESENT,
    USER,
    WRITABLE,
)


@both_depths
@every_leaf
def test_each_page_of_a_leaf_has_its_own_frame(levels: int, leaf: str) -> None:
    space = Space(levels)
    space.map(GIB * 5 >> PAGE_SHIFT, leaf)
    pages, first = PAGES_OF_LEAF[leaf], GIB * 5 >> PAGE_SHIFT
    # Of a GiB, where it begins and ends, and its middle: more than a PMD maps.
    parts = [range(pages)]
    if pages > 1024:
        parts = [range(start, start + 1024) for start in (0, pages // 2 - 512, pages - 1024)]
    for part in parts:
        start, end = (ADDRESS + page * PAGE_SIZE for page in (part.start, part.stop))
        entries = space.walk(start, end)
        assert [entry.frame for entry in entries] == [first + page for page in part]
        assert {entry.level.name for entry in entries} == {leaf}
        raw_addresses = {entry.raw_address for entry in entries}
        assert raw_addresses == {space.tables.entry_address(ADDRESS, leaf)}


@every_leaf
def test_a_leaf_ends_where_its_entry_ends(leaf: str) -> None:
    space = Space(4)
    space.map(GIB >> PAGE_SHIFT, leaf)
    end = ADDRESS + PAGES_OF_LEAF[leaf] * PAGE_SIZE
    last, after = space.walk(end - PAGE_SIZE, end + PAGE_SIZE)
    assert last.frame == (GIB >> PAGE_SHIFT) + PAGES_OF_LEAF[leaf] - 1
    assert after.frame is None


@pytest.mark.parametrize("leaf", ("PUD", "PMD"))
def test_the_pat_bit_of_a_large_leaf_is_no_address(leaf: str) -> None:
    space = Space(4)
    space.map(GIB >> PAGE_SHIFT, leaf, KERNEL | 1 << 12)
    assert space.page().frame == GIB >> PAGE_SHIFT


def test_the_pat_bit_of_a_pte_makes_no_large_leaf_of_it() -> None:
    space = Space(4)
    space.map(7, "PTE", KERNEL | LARGE)
    assert (space.page().frame, space.page().level.name) == (7, "PTE")


@every_leaf
def test_software_bits_are_no_address(leaf: str) -> None:
    space = Space(4)
    saved_dirty, protection_key = 1 << 58, 0b1111 << 59
    space.map(GIB >> PAGE_SHIFT, leaf, KERNEL | saved_dirty | protection_key)
    assert space.page().frame == GIB >> PAGE_SHIFT


# Access.


@every_level
def test_a_level_without_the_write_bit_makes_all_below_read_only(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7)
    assert space.page().access.writable
    space.change(level, clear=WRITABLE)
    assert not space.page().access.writable


@every_level
def test_a_level_with_the_no_execute_bit_gives_it_to_all_below(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7, flags=KERNEL & ~NO_EXECUTE)
    assert space.page().access.executable
    space.change(level, set_=NO_EXECUTE)
    assert not space.page().access.executable


@both_depths
def test_a_page_is_the_users_if_every_level_says_so(levels: int) -> None:
    space = Space(levels)
    space.map(7)
    for level in NAMES[levels]:
        assert not space.page().access.user
        space.change(level, set_=USER)
    assert space.page().access.user


@every_level
def test_only_the_leaf_makes_a_page_global(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7, flags=KERNEL & ~GLOBAL)
    space.change(level, set_=GLOBAL)
    assert space.page().access.global_ == (level == "PTE")


# What is not mapped, or cannot be seen.


@every_level
def test_an_entry_that_is_not_present_is_a_result(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7)
    place = space.tables.entry_address(ADDRESS, level)
    space.change(level, clear=PRESENT)
    assert seen(space.page()) == Page(
        level, space.memory.read_u64(place), place, problem="not present"
    )


@every_table
def test_a_table_that_is_not_in_the_dump_is_a_result(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7)
    place = space.tables.entry_address(ADDRESS, level)
    del space.memory.frames[place >> PAGE_SHIFT]
    assert seen(space.page()) == Page(level, None, place, problem="not in the dump")


@both_depths
def test_without_the_top_level_table_nothing_can_be_seen(levels: int) -> None:
    space = Space(levels)
    space.map(7)
    del space.memory.frames[ROOT]
    assert {seen(entry).problem for entry in space.walk(ADDRESS, ADDRESS + 2 * MIB)} == {
        "not in the dump"
    }


@every_leaf
def test_a_frame_beyond_memory_is_a_result_with_that_frame(leaf: str) -> None:
    space = Space(4)
    space.map(MEMORY >> PAGE_SHIFT, leaf)
    entry = space.page()
    assert seen(entry).problem == "beyond physical memory"
    assert (entry.frame, str(entry.access)) == (MEMORY >> PAGE_SHIFT, "W--G")


@every_leaf
def test_the_last_frame_of_memory_is_memory(leaf: str) -> None:
    space = Space(4)
    pages = PAGES_OF_LEAF[leaf]
    space.map((MEMORY >> PAGE_SHIFT) - pages, leaf)
    entry = space.page(ADDRESS + (pages - 1) * PAGE_SIZE)
    assert (entry.frame, entry.problem) == ((MEMORY >> PAGE_SHIFT) - 1, None)


@every_table
def test_a_table_beyond_memory_is_a_result(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7)
    above = NAMES[levels][NAMES[levels].index(level) - 1]
    place = space.tables.entry_address(ADDRESS, above)
    space.memory.write_u64(place, MEMORY | KERNEL_TABLE)
    assert seen(space.page()) == Page(
        above, MEMORY | KERNEL_TABLE, place, problem="beyond physical memory"
    )


@pytest.mark.parametrize(("levels", "level"), ((4, "PGD"), (5, "PGD"), (5, "P4D")))
def test_there_are_no_leaves_above_the_pud(levels: int, level: str) -> None:
    space = Space(levels)
    space.map(7)
    space.change(level, set_=LARGE)
    entry = space.page()
    assert (entry.level.name, seen(entry).problem) == (level, "reserved bit set")


# Memory encryption.


@both_depths
@every_leaf
def test_the_encryption_bit_is_no_address_at_any_level(levels: int, leaf: str) -> None:
    space = Space(levels, encryption_mask=1 << 51)
    space.map(GIB >> PAGE_SHIFT, leaf)
    entry = space.page()
    assert entry.raw is not None and entry.raw & 1 << 51
    assert (entry.frame, entry.problem) == (GIB >> PAGE_SHIFT, None)


def test_without_encryption_the_same_bit_is_an_address() -> None:
    space = Space(4)
    space.map(7, flags=KERNEL | 1 << 51)
    assert seen(space.page()).problem == "beyond physical memory"


# Tables in circles.


@both_depths
def test_a_table_that_points_to_itself_is_walked_to_the_last_level(levels: int) -> None:
    space = Space(levels)
    root = ROOT << PAGE_SHIFT | KERNEL_TABLE
    space.memory.write(ROOT << PAGE_SHIFT, root.to_bytes(8, "little") * 512)
    assert {(e.level.name, e.frame) for e in space.walk(ADDRESS, ADDRESS + 4 * MIB)} == {
        ("PTE", ROOT)
    }


def test_tables_that_point_at_each_other_end() -> None:
    space = Space(5)
    for table, other in ((1, 2), (2, 1)):
        raw = other << PAGE_SHIFT | KERNEL_TABLE
        space.memory.write(table << PAGE_SHIFT, raw.to_bytes(8, "little") * 512)
    assert {entry.frame for entry in space.walk(ADDRESS, ADDRESS + 4 * MIB)} == {2}


# Ranges.


def test_an_empty_range_has_no_pages() -> None:
    assert Space(4).walk(ADDRESS, ADDRESS) == []


@pytest.mark.parametrize("start", (0, 4 * KIB, 2 * MIB - 4 * KIB))
@pytest.mark.parametrize("size", (4 * KIB, 8 * KIB, 2 * MIB, 2 * MIB + 4 * KIB))
def test_a_range_may_begin_and_end_within_a_table(start: int, size: int) -> None:
    space = Space(4)
    for number in range(1024):
        space.map(1000 + number, at=ADDRESS + number * PAGE_SIZE)
    first = 1000 + start // PAGE_SIZE
    frames = [entry.frame for entry in space.walk(ADDRESS + start, ADDRESS + start + size)]
    assert frames == list(range(first, first + size // PAGE_SIZE))


def test_a_range_may_end_at_the_top_of_the_address_space() -> None:
    space = Space(4)
    top = 1 << 64
    space.map(7, at=top - PAGE_SIZE)
    assert [entry.frame for entry in space.walk(top - 2 * PAGE_SIZE, top)] == [None, 7]


def test_a_run_is_one_table_or_one_entry_above() -> None:
    space = Space(4)
    space.map(GIB >> PAGE_SHIFT, "PUD")
    space.map(2 * MIB >> PAGE_SHIFT, "PMD", at=ADDRESS + GIB)
    space.map(7, "PTE", at=ADDRESS + GIB + 2 * MIB)
    runs = list(space.walker.walk(ADDRESS, ADDRESS + GIB + 6 * MIB))
    assert [(run.level.name, run.pages, len(run.raw)) for run in runs] == [
        ("PUD", 512 * 512, 8),
        ("PMD", 512, 8),
        ("PTE", 512, 4096),
        ("PMD", 512, 8),
    ]


# One page, and reading through the tables.


def test_one_page_is_looked_up_by_any_address_in_it() -> None:
    space = Space(4)
    space.map(7, at=ADDRESS + 5 * PAGE_SIZE)
    space.map(2 * GIB >> PAGE_SHIFT, "PMD", at=ADDRESS + 2 * MIB)
    walker = space.walker
    assert walker.entry(ADDRESS + 5 * PAGE_SIZE + 0x123) == space.page(ADDRESS + 5 * PAGE_SIZE)
    assert walker.entry(ADDRESS + 2 * MIB + 0x5123).frame == (2 * GIB >> PAGE_SHIFT) + 5


def test_virtual_memory_is_read_across_pages() -> None:
    space = Space(4)
    for page, pfn, content in ((0, 9, b"a"), (1, 7, b"b"), (2, 8, b"c")):
        space.map(pfn, at=ADDRESS + page * PAGE_SIZE)
        space.memory.fill([pfn], content * PAGE_SIZE)
    data = space.walker.read(ADDRESS + PAGE_SIZE - 1, PAGE_SIZE + 2)
    assert data == b"a" + b"b" * PAGE_SIZE + b"c"


@pytest.mark.parametrize("hole", ("not mapped", "not in the dump", "beyond memory"))
def test_virtual_memory_that_cannot_be_had_is_said_to_be_missing(hole: str) -> None:
    space = Space(4)
    space.map(7)
    space.memory.fill([7], bytes(PAGE_SIZE))
    beyond = MEMORY >> PAGE_SHIFT
    if hole != "not mapped":
        space.map(8 if hole == "not in the dump" else beyond, at=ADDRESS + PAGE_SIZE)
        space.memory.fill([beyond], bytes(PAGE_SIZE))
    with pytest.raises(MissingMemory):
        space.walker.read(ADDRESS + PAGE_SIZE - 8, 16)


def test_a_large_leaf_is_read_at_once_and_not_beyond_memory() -> None:
    space = Space(4)
    space.map(0x600, "PMD")
    space.memory.fill([0x600, 0x601], b"a" * PAGE_SIZE)
    assert space.walker.read(ADDRESS + 8, 2 * PAGE_SIZE - 8) == b"a" * (2 * PAGE_SIZE - 8)
    smaller = space.paging._replace(max_pfn=0x601)
    walker = Walker(ProgramMemory(space.memory.program()), smaller)
    assert walker.read(ADDRESS, PAGE_SIZE) == b"a" * PAGE_SIZE
    with pytest.raises(MissingMemory):
        walker.read(ADDRESS, PAGE_SIZE + 1)


def test_a_table_is_read_once() -> None:
    space = Space(4)
    space.map(7)
    walker = space.walker
    before = walked(walker, ADDRESS, ADDRESS + 2 * MIB)
    space.memory.frames.clear()
    assert walked(walker, ADDRESS, ADDRESS + 2 * MIB) == before
