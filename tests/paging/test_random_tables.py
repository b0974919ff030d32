# SPDX-License-Identifier: LGPL-2.1-or-later

"""The walker says of random tables what the reference reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.paging.space import ADDRESS, GIB, MEMORY, MIB, ROOT, Space, same
from tests.synthetic.physical import (
    DIRTY,
    GLOBAL,
    LARGE,
    NO_EXECUTE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PRESENT,
    USER,
    WRITABLE,
)

# They point at each other, at memory, and at what is not there.
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
