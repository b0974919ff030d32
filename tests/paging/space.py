# SPDX-License-Identifier: LGPL-2.1-or-later

"""An address space made to order, and what the walker and the reference say of it."""

from __future__ import annotations

import pytest

from drgn_vmemmap.paging.mapping import Entry, Paging
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from tests.oracles.page_tables import Page, ReferenceWalker
from tests.synthetic.physical import KERNEL, PAGE_SHIFT, PAGE_SIZE, PageTables, PhysicalMemory

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
