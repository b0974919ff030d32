# SPDX-License-Identifier: LGPL-2.1-or-later

"""The walker: what page tables say, at every level, sound or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.paging.mapping import Entry, Paging
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from tests.oracles.page_tables import Page, ReferenceWalker
from tests.synthetic.physical import (
    DIRTY,
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
    PageTables,
    PhysicalMemory,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

ADDRESS = 0xFFFFEA0040000000
"""Where the tests map; as canonical with 4 levels as with 5."""
MEMORY = 64 * GIB
ROOT = 1

NAMES = {4: ("PGD", "PUD", "PMD", "PTE"), 5: ("PGD", "P4D", "PUD", "PMD", "PTE")}
EVERY_LEVEL = [(levels, level) for levels, names in NAMES.items() for level in names]
EVERY_TABLE = [(levels, level) for levels, level in EVERY_LEVEL if level != "PGD"]
PAGES_OF_LEAF = {"PUD": GIB // PAGE_SIZE, "PMD": 2 * MIB // PAGE_SIZE, "PTE": 1}

both_depths = pytest.mark.parametrize("levels", (4, 5))
every_level = pytest.mark.parametrize(("levels", "level"), EVERY_LEVEL)
every_table = pytest.mark.parametrize(("levels", "level"), EVERY_TABLE)
every_leaf = pytest.mark.parametrize("leaf", PAGES_OF_LEAF)


class Space:
    """An address space, and a walker for it that reads through drgn."""

    def __init__(self, levels: int, encryption_mask: int = 0) -> None:
        self.memory = PhysicalMemory()
        tables = iter(range(ROOT + 1, 1 << 20))
        self.tables = PageTables(self.memory, levels, ROOT, lambda: next(tables), encryption_mask)
        self.paging = Paging(levels, ROOT << PAGE_SHIFT, encryption_mask, MEMORY >> PAGE_SHIFT)

    def map(self, pfn: int, level: str = "PTE", flags: int = KERNEL, at: int = ADDRESS) -> None:
        self.tables.map(at, pfn, level, flags)

    def change(self, level: str, clear: int = 0, set_: int = 0, at: int = ADDRESS) -> None:
        """Clear and set bits of the entry of a level."""
        address = self.tables.entry_address(at, level)
        self.memory.write_u64(address, self.memory.read_u64(address) & ~clear | set_)

    @property
    def walker(self) -> Walker:
        return Walker(ProgramMemory(self.memory.program()), self.paging)

    def walk(self, start: int, end: int) -> list[Entry]:
        return walked(self.walker, start, end)

    def page(self, at: int = ADDRESS) -> Entry:
        (entry,) = self.walk(at, at + PAGE_SIZE)
        return entry

    @property
    def reference(self) -> ReferenceWalker:
        return ReferenceWalker(self.memory, *self.paging[:4])


def walked(walker: Walker, start: int, end: int) -> list[Entry]:
    """What the walker says of each page of a range."""
    return [entry for run in walker.walk(start, end) for entry in walker.pages(run)]


def seen(entry: Entry) -> Page:
    """The walker's words in the reference's."""
    return Page(
        entry.level.name,
        entry.raw,
        entry.raw_address,
        entry.frame,
        str(entry.access),
        entry.problem and entry.problem.value,
    )


def same(entry: Entry, page: Page) -> bool:
    if page.raw is None and entry.raw_address >> PAGE_SHIFT == page.raw_address >> PAGE_SHIFT:
        # Where in a table that is not in the dump makes no difference.
        page = page._replace(raw_address=entry.raw_address)
    return seen(entry) == page


# Leaves.


@both_depths
@every_leaf
def test_each_page_of_a_leaf_has_its_own_frame(levels: int, leaf: str) -> None:
    space = Space(levels)
    space.map(GIB * 5 >> PAGE_SHIFT, leaf)
    pages = PAGES_OF_LEAF[leaf]
    entries = space.walk(ADDRESS, ADDRESS + pages * PAGE_SIZE)
    first = GIB * 5 >> PAGE_SHIFT
    assert [entry.frame for entry in entries] == list(range(first, first + pages))
    assert {entry.level.name for entry in entries} == {leaf}
    assert {entry.raw_address for entry in entries} == {space.tables.entry_address(ADDRESS, leaf)}


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


# Random tables: few of them, that point at each other, at memory, and at what is not there.

TABLES = range(ROOT, ROOT + 5)
MISSING = TABLES.stop
TARGETS = (*TABLES, *TABLES, MISSING, 0x40000, 0x40200, 0x12345, MEMORY >> PAGE_SHIFT)
FLAGS = (WRITABLE, USER, LARGE, 1 << 12, GLOBAL, DIRTY, 1 << 47, 1 << 58, NO_EXECUTE)


@st.composite
def entries(draw: st.DrawFn) -> int:
    present = PRESENT if draw(st.integers(0, 9)) else 0
    flags = sum(draw(st.sets(st.sampled_from(FLAGS), max_size=5)))
    target: int = draw(st.sampled_from(TARGETS))
    return target << PAGE_SHIFT | present | flags


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Each table is a few entries, over and over."""
    space = Space(draw(st.sampled_from((4, 5))), draw(st.sampled_from((0, 1 << 47))))
    for table in TABLES:
        pattern = draw(st.lists(entries(), min_size=1, max_size=4))
        raw = b"".join(entry.to_bytes(8, "little") for entry in pattern)
        space.memory.write(table << PAGE_SHIFT, (raw * 512)[:PAGE_SIZE])
    return space


def addresses(unit: int) -> st.SearchStrategy[int]:
    """Addresses at and around the edges of what entries of all levels cover."""
    edges = st.sampled_from((0, 2 * MIB, GIB, 512 * GIB, 1 << 48))
    around = st.integers(-3, 3).map(lambda count: count * unit)
    return st.builds(lambda edge, offset: (ADDRESS + edge + offset) & -unit, edges, around)


@given(spaces(), addresses(PAGE_SIZE), st.integers(1, 700))
def test_random_tables_say_what_the_reference_reads(space: Space, start: int, pages: int) -> None:
    found = space.walk(start, start + pages * PAGE_SIZE)
    assert [entry.address for entry in found] == [start + i * PAGE_SIZE for i in range(pages)]
    reference = space.reference
    assert [e for e in found if not same(e, reference.walk(e.address))] == []


@given(spaces(), addresses(2 * MIB), st.integers(1, 3 * GIB // PAGE_SIZE))
def test_runs_cover_a_range_without_a_gap(space: Space, start: int, pages: int) -> None:
    walker, reference = space.walker, space.reference
    end = start + pages * PAGE_SIZE
    at = start
    for run in walker.walk(start, end):
        assert run.start == at < run.end
        at = run.end
        for address in (run.start, run.end - PAGE_SIZE):
            assert same(walker.entry(address), reference.walk(address))
        assert reference.walk(run.start).level == run.level.name
    assert at == end
