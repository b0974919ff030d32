# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Hostile dumps: what is read and kept is bounded by what the dump holds, whatever its words say.

Each is a small dump that speaks of much: one page that stands for all memory, tables that lead in a
circle, numbers as large as a word.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.hugetlb.folio import State
from tests.synthetic.debuginfo import section_roots
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine
from tests.synthetic.physical import PAGE_SIZE, PRESENT, WRITABLE

SECONDS, BYTES = 30, 256 << 20
"""A sound one of these kernels takes 0.05 seconds and a few megabytes; a slow machine, more."""

TABLE = 0x60 | WRITABLE | PRESENT
ALL_ONES = (1 << 64) - 1


def sections(image: Image) -> tuple[int, int]:
    """Physical address of the array of pointers to pages of sections, and of the first page."""
    array = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    page = image.memory.read_u64(image.physical(array))
    return image.physical(array), image.physical(page)


def write_variable(image: Image, name: str, value: int, size: int = 8) -> None:
    image.write(image.variables[name][1], value, size)


def one_page_of_sections_for_all_memory(image: Image) -> None:
    array, page = sections(image)
    section = image.memory.read(page, 16)
    image.memory.write(page, section * (PAGE_SIZE // 16))
    image.memory.write(array, image.memory.read(array, 8) * section_roots(image.machine))


def the_same_of_memory_that_is_not_online(image: Image) -> None:
    _, page = sections(image)
    flags = image.memory.read_u64(page) & ~0xC
    image.memory.write_u64(page, flags)
    one_page_of_sections_for_all_memory(image)


def no_pages_of_sections_and_all_memory(image: Image) -> None:
    array, _ = sections(image)
    for address in range(array, array + 8 * section_roots(image.machine), PAGE_SIZE):
        image.drop_frame(address // PAGE_SIZE)
    write_variable(image, "max_pfn", (1 << 40) - 1)


def pages_of_sections_that_are_other_pages(image: Image) -> None:
    array, _ = sections(image)
    start = image.machine.page_offset
    addresses = range(start, start + section_roots(image.machine) * PAGE_SIZE, PAGE_SIZE)
    image.memory.write(array, b"".join(address.to_bytes(8, "little") for address in addresses))


def table_that_leads_to_itself(image: Image, level: str) -> None:
    table = image.entry_address(FIRST_FOLIO, 0, level) & -PAGE_SIZE
    first = 0 if level != "PGD" else 256
    for index in range(first, 511):
        image.memory.write_u64(table + 8 * index, table | TABLE)
    write_variable(image, "max_pfn", (1 << 40) - 1)


def one_table_for_all_memory(image: Image) -> None:
    for level in ("PUD", "PGD"):
        address = image.entry_address(FIRST_FOLIO, 0, level)
        entry, table = image.memory.read_u64(address), address & -PAGE_SIZE
        for index in range(256 if level == "PGD" else 0, 511):
            image.memory.write_u64(table + 8 * index, entry)
    write_variable(image, "max_pfn", (1 << 40) - 1)


def one_frame_for_a_table(image: Image) -> None:
    table = image.entry_address(FIRST_FOLIO) & -PAGE_SIZE
    for index in range(512):
        image.memory.write_u64(table + 8 * index, image.entry(FIRST_FOLIO))


def memory_without_end(image: Image) -> None:
    write_variable(image, "max_pfn", ALL_ONES)


def counters_at_their_limits(image: Image) -> None:
    names = ("nr_huge_pages", "free_huge_pages", "resv_huge_pages", "surplus_huge_pages")
    image.write_hstate(9, **dict.fromkeys((*names, "max_huge_pages"), 1 << 63))
    image.write_hstate(18, **dict.fromkeys((*names, "max_huge_pages"), ALL_ONES))


def hstates_without_end(image: Image) -> None:
    write_variable(image, "hugetlb_max_hstate", (1 << 31) - 1, 4)


def list_that_leads_to_itself(image: Image) -> None:
    pointer = image.lru(FIRST_FOLIO)
    image.memmap.link(FIRST_FOLIO, pointer, pointer)


def memmap_of(content: Callable[[Image], bytes]) -> Callable[[Image], None]:
    """All struct pages from boot are alike."""

    def provoke(image: Image) -> None:
        image.memory.fill(image.memmap.boot_frames(0), content(image))

    return provoke


def heads(image: Image) -> bytes:
    frame = image.frames[FIRST_FOLIO][0] or 0
    return bytes(image.memory.frames[frame][:64]) * 64


def tails(image: Image) -> bytes:
    link = image.machine.page_address(FIRST_FOLIO + 7) | 1
    return image.types.structs["page"].pack(**{image.machine.line.compound_member: link}) * 64


def free_blocks(image: Image) -> bytes:
    buddy = image.machine.line.page_type("buddy")
    return image.types.structs["page"].pack(page_type=buddy, private=10) * 64


HOSTILE: dict[str, Callable[[Image], None]] = {
    "one page of sections for all memory": one_page_of_sections_for_all_memory,
    "the same of memory that is not online": the_same_of_memory_that_is_not_online,
    "no pages of sections and all memory": no_pages_of_sections_and_all_memory,
    "pages of sections that are other pages": pages_of_sections_that_are_other_pages,
    "a PMD table that leads to itself": lambda image: table_that_leads_to_itself(image, "PMD"),
    "a PUD table that leads to itself": lambda image: table_that_leads_to_itself(image, "PUD"),
    "a PGD table that leads to itself": lambda image: table_that_leads_to_itself(image, "PGD"),
    "one table for all memory": one_table_for_all_memory,
    "one frame for a table": one_frame_for_a_table,
    "memory without end": memory_without_end,
    "counters at their limits": counters_at_their_limits,
    "hstates without end": hstates_without_end,
    "a list that leads to itself": list_that_leads_to_itself,
    "heads alone": memmap_of(heads),
    "tails alone": memmap_of(tails),
    "free blocks alone": memmap_of(free_blocks),
    "all ones": memmap_of(lambda _: b"\xff" * PAGE_SIZE),
}


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process have no more than so many bytes beyond what it has."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_more_memory_than_the_limit_cannot_be_had() -> None:
    with limited_memory(), pytest.raises(MemoryError):
        bytearray(2 * BYTES)


@pytest.mark.long
@pytest.mark.parametrize(
    ("release", "levels", "name"),
    [
        *(("6.12.0", 4, name) for name in HOSTILE),
        # What a PUD table that leads to itself costs, a PMD table does, too.
        *(("7.2.0", 5, name) for name in HOSTILE if name != "a PMD table that leads to itself"),
    ],
)
def test_a_hostile_dump_costs_no_more_than_it_holds(
    release: str, levels: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folios = (
        Folio(FIRST_FOLIO),
        Folio(FIRST_FOLIO + 512),
        Folio(FIRST_FOLIO + 1024, remapped=False),
        Folio(FIRST_FOLIO + 1536, state=State.ACTIVE),
    )
    image = Image(Machine(line=LINES[release], levels=levels, folios=folios))
    HOSTILE[name](image)
    prog = image.prog
    start = time.process_time()
    with limited_memory():
        code = command_line.run(["verify"], prog)
    assert time.process_time() - start < SECONDS
    out, err = capsys.readouterr()
    assert code in (0, 1, 3)
    assert out or len(err.splitlines()) == 1
    assert "internal error" not in err
