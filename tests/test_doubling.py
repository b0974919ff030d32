# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Twice as much of anything costs about twice as much: no cost grows faster.

Work is counted, not timed: lines of the package that Python executes, a loop's each time, what is
read, and how many bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import pytest

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.explain.dump.explained_log import explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.output.report import View, render
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.support import PACKAGE
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import (
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    REUSE_W,
    SECTION_PAGES,
    Folio,
    Machine,
    Vpage,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SIZE

LEAST = 64
"""
Of each thing there are so many, twice as many, and four times as many. So many folios are
described by one page table.
"""

MOST = 2.5
"""The second doubling may add so many times what the first one added."""

FRESH = dict.fromkeys(range(1, 8), FRESH_W)
"""Vmemmap pages that a restore gave new frames."""


class Work(NamedTuple):
    """What was done."""

    lines: int
    """Of the package, one for each turn of a loop within a line."""
    reads: int
    bytes: int


ALLOWED = Work(lines=750, reads=16, bytes=1 << 16)
"""What a batch more costs, which is no growth."""


def pfns(count: int) -> list[int]:
    return [FIRST_FOLIO + 512 * number for number in range(count)]


def sound(count: int, release: str = "6.12.0") -> Image:
    folios = tuple(map(Folio, pfns(count)))
    return Image(Machine(line=LINES[release], folios=folios))


def restored(count: int) -> Image:
    """Folios that are not optimized any more, each with frames of its own."""
    folios = tuple(Folio(pfn, remapped=False, edits=FRESH) for pfn in pfns(count))
    return Image(Machine(folios=folios))


def writable_tails(count: int) -> Image:
    """A finding for each folio."""
    return Image(Machine(folios=tuple(Folio(pfn, edits={3: REUSE_W}) for pfn in pfns(count))))


def every_other_one_wrong(count: int) -> Image:
    edits: tuple[dict[int, Vpage], ...] = ({3: REUSE_W}, {})
    folios = tuple(Folio(pfn, edits=edits[pfn >> 9 & 1]) for pfn in pfns(count))
    return Image(Machine(folios=folios))


def missing_heads(count: int) -> Image:
    """Folios whose head pages are not in the dump."""
    return Image(Machine(folios=tuple(Folio(pfn, head_in_dump=False) for pfn in pfns(count))))


def one_frame(count: int) -> Image:
    """A page of each folio is mapped to one and the same frame."""
    image = sound(count)
    for pfn in pfns(count)[1:]:
        image.write_entry(pfn, 0, image.entry(FIRST_FOLIO))
    return image


def tails_of_another_folio(count: int) -> Image:
    """The frames of all folios hold the tails of the first one."""
    image = sound(count)
    for pfn in pfns(count):
        for tail in range(1, 64):
            image.write_page(pfn + tail, compound_head=image.machine.page_address(FIRST_FOLIO) | 1)
    return image


def tails_from_boot(count: int) -> Image:
    """Each tail has a word that nothing requires: a list of its own, from when it was a page."""
    image = sound(count)
    for pfn in pfns(count):
        for tail in range(4, 64):
            own = image.lru(pfn + tail)
            image.memory.write(image.physical(own) + 8, own.to_bytes(8, "little"))
    return image


def large_leaves(count: int) -> Image:
    return Image(Machine(node_size=count * GIB // 32))


def leaves_of_the_same_frames(count: int) -> Image:
    """Large leaves that all map the frames of the first one."""
    image = large_leaves(count)
    for number in range(1, count // 4):
        image.write_entry(number * SECTION_PAGES, 0, image.entry(0, 0, "PMD"), "PMD")
    return image


def gaps(count: int) -> Image:
    """Every other section has no memmap."""
    image = large_leaves(2 * count)
    _, pointer = image.variables["mem_section"]
    roots = image.memory.read_u64(image.physical(pointer))
    section = image.types.structs["mem_section"]
    for number in range(1, count // 2, 2):
        index, position = divmod(number, PAGE_SIZE // section.size)
        root = image.memory.read_u64(image.physical(roots + index * 8))
        address = root + position * section.size
        image.write(address + section.members["section_mem_map"].offset, 0)
    return image


def stale_heads(count: int) -> Image:
    """Struct pages in memory of no folio that say that they are the heads of one."""
    image = Image(Machine(split=frozenset({pmd_of(FIRST_FOLIO)})))
    for number in range(count):
        page_type = image.machine.line.page_type("hugetlb")
        image.write_page(FIRST_FOLIO + 64 * number + 1, page_type=page_type)
    return image


def work_of(image: Image, work: Callable[[Image], object]) -> Work:
    """Count what some work does."""
    lines = reads = read_bytes = 0
    read = image.memory.read

    def counted(address: int, size: int) -> bytes:
        nonlocal reads, read_bytes
        reads += 1
        read_bytes += size
        return read(address, size)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if event == "call":
            return trace if frame.f_code.co_filename.startswith(package) else None
        lines += event == "line"
        return trace

    package = str(PACKAGE)
    discover(image.prog)
    image.memory.read = counted  # type: ignore[method-assign]
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(image)
    finally:
        sys.settrace(before)
        image.memory.read = read  # type: ignore[method-assign]
    return Work(lines, reads, read_bytes)


def verify(image: Image) -> None:
    """All checks, and their findings as text."""
    report = check(Snapshot(discover(image.prog), ProgramMemory(image.prog)))
    for format_name in ("table", "json"):
        for _ in render(report, format_name, View(folios=True)):
            pass


def explain_lines(image: Image) -> None:
    """A log with a line about each folio."""
    lines = (
        f"[   12.345678] page: refcount:0 mapcount:0 mapping:{0:016x} index:0x0 pfn:{folio.pfn:#x}"
        for folio in image.machine.folios
    )
    text = "\n".join(lines)
    explainer = Explainer.of_program(image.prog)
    explain_log(explainer, read_text(text.encode()).lines, Boot.of_program(image.prog))


def explain_words(image: Image) -> None:
    """A text with an address of each folio's vmemmap in one line."""
    words = (f"{image.machine.page_address(folio.pfn):016x}" for folio in image.machine.folios)
    explainer = Explainer.of_program(image.prog)
    explain_log(explainer, read_text(" ".join(words).encode()).lines, Boot.of_program(image.prog))


def all_pairs(image: Image) -> None:
    """What costs too much."""
    folios = analyse(Snapshot(discover(image.prog), ProgramMemory(image.prog))).folios
    for _ in range(0, len(folios), 4):
        list(folios)


def grows_like_its_size(make: Callable[[int], Image], work: Callable[[Image], object]) -> None:
    small, middle, large = (work_of(make(LEAST * times), work) for times in (1, 2, 4))
    for name, *costs, allowed in zip(Work._fields, small, middle, large, ALLOWED):
        first, second = costs[1] - costs[0], costs[2] - costs[1]
        assert second <= max(first, 0) * MOST + allowed, (name, costs)


def test_words_of_tails_that_nothing_requires_cost_nothing() -> None:
    plain, words = (work_of(make(LEAST * 4), verify) for make in (sound, tails_from_boot))
    assert words.lines <= plain.lines * 1.05
    assert words[1:] == plain[1:]


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_verifying_sound_folios_costs_as_much_as_there_are(release: str) -> None:
    grows_like_its_size(lambda count: sound(count, release), verify)


@pytest.mark.long
@pytest.mark.parametrize(
    "state",
    (
        restored,
        writable_tails,
        every_other_one_wrong,
        missing_heads,
        one_frame,
        tails_of_another_folio,
        large_leaves,
        leaves_of_the_same_frames,
        gaps,
        stale_heads,
    ),
)
def test_verifying_a_broken_kernel_costs_as_much_as_is_broken(
    state: Callable[[int], Image],
) -> None:
    grows_like_its_size(state, verify)


@pytest.mark.long
@pytest.mark.parametrize("work", (explain_lines, explain_words))
def test_explaining_a_log_costs_as_much_as_it_names(work: Callable[[Image], object]) -> None:
    grows_like_its_size(sound, work)


def test_work_on_all_pairs_of_folios_is_recognised() -> None:
    with pytest.raises(AssertionError, match="lines"):
        grows_like_its_size(sound, all_pairs)
