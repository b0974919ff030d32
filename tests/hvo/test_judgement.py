# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The judgement: what the entries of a folio's vmemmap amount to.

A folio is written as its pages' frames and their access: ``abbbbbbb WWRRRRRR`` is the tail-reuse
layout. The same letter is the same frame; ``.`` is an entry that is not present, ``!`` a frame
beyond memory and ``?`` one that is not in the dump. Frame ``t`` is the one that the zone keeps.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.hvo.diagnosis import judge
from drgn_vmemmap.hvo.verdict import Judgement, Verdict, format_ranges, ranges
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Entry, Problem
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PMD, PTE, Access, Level
from drgn_vmemmap.target.memory import ProgramMemory
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, Line
from tests.synthetic.layouts import KEPT, PICTURES, REUSED_PAGE, ZONES_FRAME
from tests.synthetic.model import FIRST_FOLIO, GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SIZE

NONE, TAIL_REUSE, HEAD_REUSE, SHARED_TAIL = (
    Layout.NONE,
    Layout.TAIL_REUSE,
    Layout.HEAD_REUSE,
    Layout.SHARED_TAIL,
)
UNOPTIMIZED_FOLIO = "abcdefgh WWWWWWWW"
ZONE = frozenset({ord(ZONES_FRAME)})
OF_THE_ZONE = [layout for layout, page in REUSED_PAGE.items() if page is None]
GIGANTIC = 4096

every_layout = pytest.mark.parametrize("layout", PICTURES)
KNOWN = [layout for layout in Layout if layout is not Layout.UNKNOWN]

every_kernel = pytest.mark.parametrize("layout", KNOWN)


def entry(frame: str, access: str, level: Level = PTE) -> Entry:
    problem = {
        ".": Problem.NOT_PRESENT,
        "!": Problem.BEYOND_MEMORY,
        "?": Problem.UNREADABLE,
    }.get(frame)
    mapped = frame not in ".?"
    allowed = Access(mapped and access == "W", False, False, mapped)
    number = ord(frame) if mapped else None
    return Entry(0, level, None if frame == "?" else 0, 0, number, allowed, problem)


def entries(folio: str, level: Level = PTE) -> list[Entry]:
    frames, accesses = folio.split()
    return [entry(frame, access, level) for frame, access in zip(frames, accesses)]


def judged(folio: str, layout: Layout, zone: frozenset[int] | None = ZONE) -> Judgement:
    return judge(entries(folio), layout, zone if layout in OF_THE_ZONE else frozenset())


def gigantic(folio: str) -> str:
    """A 1 GiB folio like a 2 MiB one: its last page over and over."""
    return " ".join(part.ljust(GIGANTIC, part[-1]) for part in folio.split())


def changed(folio: str, index: int, page: str) -> str:
    """A folio with another frame and access at one page."""
    frames, accesses = (list(part) for part in folio.split())
    frames[index], accesses[index] = page.split()
    return f"{''.join(frames)} {''.join(accesses)}"


def mixed(first: str, second: str, at: int) -> str:
    """The pages of one folio up to an index, then those of another."""
    return " ".join(a[:at] + b[at:] for a, b in zip(first.split(), second.split()))


# The four layouts.


def test_the_tail_reuse_layout_keeps_two_pages_and_frees_six() -> None:
    assert judged("abbbbbbb WWRRRRRR", TAIL_REUSE) == Judgement(
        Verdict.OPTIMIZED, TAIL_REUSE, "pte", ord("b"), ((2, 7),), ((2, 7),), 6
    )


def test_the_head_reuse_layout_keeps_the_head_and_frees_seven() -> None:
    assert judged("aaaaaaaa WRRRRRRR", HEAD_REUSE) == Judgement(
        Verdict.OPTIMIZED, HEAD_REUSE, "pte", ord("a"), ((1, 7),), ((1, 7),), 7
    )


def test_the_shared_tail_layout_keeps_the_head_and_frees_seven() -> None:
    assert judged("attttttt WRRRRRRR", SHARED_TAIL) == Judgement(
        Verdict.OPTIMIZED, SHARED_TAIL, "pte", ord("t"), ((1, 7),), ((1, 7),), 7
    )


@every_kernel
def test_a_folio_with_eight_writable_frames_is_not_optimized(layout: Layout) -> None:
    assert judged(UNOPTIMIZED_FOLIO, layout) == Judgement(
        Verdict.UNOPTIMIZED, NONE, "pte", None, (), (), 0
    )


@every_layout
def test_a_folio_of_1_gib_frees_all_but_the_kept(layout: Layout) -> None:
    judgement = judged(gigantic(PICTURES[layout]), layout)
    kept = KEPT[layout]
    assert judgement.verdict is Verdict.OPTIMIZED
    assert judgement.freed == 4096 - kept
    assert judgement.shared == judgement.read_only == ((kept, 4095),)


def test_a_folio_under_a_large_leaf_is_mapped_by_it() -> None:
    assert judge(entries(UNOPTIMIZED_FOLIO, PMD), HEAD_REUSE, frozenset()).mapped_by == "pmd"


def test_a_folio_under_leaves_of_two_levels_is_mapped_by_both() -> None:
    both = entries(UNOPTIMIZED_FOLIO, PMD)[:4] + entries(UNOPTIMIZED_FOLIO)[4:]
    judgement = judge(both, HEAD_REUSE, frozenset())
    assert (judgement.mapped_by, judgement.verdict) == ("mixed", Verdict.UNOPTIMIZED)


# Another kernel's layout.


@pytest.mark.parametrize("kernel", KNOWN)
@every_layout
def test_only_the_layout_of_this_kernel_is_optimized(layout: Layout, kernel: Layout) -> None:
    judgement = judged(PICTURES[layout], kernel)
    expected = Verdict.OPTIMIZED if kernel is layout else Verdict.INCONSISTENT
    assert judgement.verdict is expected


def test_the_access_of_page_1_tells_tail_reuse_from_shared_tail() -> None:
    assert judged("abbbbbbb WWRRRRRR", HEAD_REUSE).layout is TAIL_REUSE
    assert judged("abbbbbbb WRRRRRRR", HEAD_REUSE).layout is SHARED_TAIL


def test_the_zone_distinguishes_shared_tail_from_tail_reuse() -> None:
    judgement = judged("attttttt WWRRRRRR", SHARED_TAIL)
    assert (judgement.layout, judgement.shared) == (SHARED_TAIL, ((1, 7),))


def test_a_shared_frame_that_the_zone_does_not_keep_is_inconsistent() -> None:
    assert judged("auuuuuuu WRRRRRRR", SHARED_TAIL).verdict is Verdict.INCONSISTENT


def test_device_dax_is_no_hugetlb_folio_of_any_kernel() -> None:
    for kernel in KNOWN:
        assert judged("abbbbbbb WWWWWWWW", kernel).verdict is Verdict.INCONSISTENT


# Half remapped, half rolled back, half restored.


@every_layout
@pytest.mark.parametrize("folio", ("2 MiB", "1 GiB"))
def test_every_half_remapped_folio_is_inconsistent(layout: Layout, folio: str) -> None:
    unoptimized, optimized = UNOPTIMIZED_FOLIO, PICTURES[layout]
    cuts: range | tuple[int, ...] = range(KEPT[layout] + 1, 8)
    if folio == "1 GiB":
        unoptimized = "".join(map(chr, range(0x4E00, 0x4E00 + GIGANTIC))) + " " + "W" * GIGANTIC
        optimized, cuts = gigantic(optimized), (512, 513, 2048, 4095)
        for index in range(KEPT[layout]):
            unoptimized = changed(unoptimized, index, f"{optimized[index]} W")
    last = len(optimized) // 2 - 1
    for cut in cuts:
        remapped = judged(mixed(optimized, unoptimized, cut), layout)
        assert remapped.verdict is Verdict.INCONSISTENT
        assert remapped.shared == remapped.read_only == ((KEPT[layout], cut - 1),)
        restored = judged(mixed(unoptimized, optimized, cut), layout)
        assert restored.verdict is Verdict.INCONSISTENT
        assert restored.shared == restored.read_only == ((cut, last),)
        assert remapped.layout is restored.layout is layout
        assert remapped.freed + restored.freed == last + 1 - KEPT[layout]


@every_layout
def test_one_page_with_a_frame_of_its_own_is_inconsistent(layout: Layout) -> None:
    for index in range(KEPT[layout], 8):
        judgement = judged(changed(PICTURES[layout], index, "x W"), layout)
        assert judgement.verdict is Verdict.INCONSISTENT
        assert judgement.freed == 8 - KEPT[layout] - 1
        assert judgement.layout is layout


# Access.


@every_layout
def test_a_tail_that_is_writable_is_inconsistent(layout: Layout) -> None:
    for index in range(KEPT[layout], 8):
        frame = PICTURES[layout][index]
        judgement = judged(changed(PICTURES[layout], index, f"{frame} W"), layout)
        assert judgement.verdict is Verdict.INCONSISTENT
        assert judgement.shared == ((KEPT[layout], 7),)
        assert str(index) not in format_ranges(judgement.read_only).replace("-", ",").split(",")


@every_layout
def test_a_kept_page_that_is_read_only_is_inconsistent(layout: Layout) -> None:
    for index in range(KEPT[layout]):
        frame = PICTURES[layout][index]
        judgement = judged(changed(PICTURES[layout], index, f"{frame} R"), layout)
        assert judgement.verdict is Verdict.INCONSISTENT


@every_kernel
def test_a_read_only_page_of_an_unoptimized_folio_is_inconsistent(layout: Layout) -> None:
    for index in range(8):
        judgement = judged(
            changed(UNOPTIMIZED_FOLIO, index, f"{UNOPTIMIZED_FOLIO[index]} R"), layout
        )
        assert (judgement.verdict, judgement.layout) == (Verdict.INCONSISTENT, NONE)
        assert judgement.read_only == ((index, index),)


# What is not mapped, or not known.


@every_layout
@pytest.mark.parametrize("page", (". R", "! W", "! R"))
def test_a_page_without_memory_is_inconsistent(layout: Layout, page: str) -> None:
    for folio in (UNOPTIMIZED_FOLIO, PICTURES[layout]):
        for index in range(8):
            judgement = judged(changed(folio, index, page), layout)
            assert judgement.verdict is Verdict.INCONSISTENT


@every_layout
def test_a_page_that_is_not_in_the_dump_is_unreadable(layout: Layout) -> None:
    for folio in (UNOPTIMIZED_FOLIO, PICTURES[layout], PICTURES[layout].replace("R", "W")):
        for index in range(8):
            judgement = judged(changed(folio, index, "? R"), layout)
            assert judgement.verdict is Verdict.UNREADABLE


@every_layout
def test_pages_that_are_not_known_do_not_change_the_layout(layout: Layout) -> None:
    for index in range(8):
        for page in ("? R", ". R"):
            judgement = judged(changed(PICTURES[layout], index, page), layout)
            assert judgement.layout is layout


@every_kernel
def test_a_folio_of_which_nothing_is_known_has_no_layout(layout: Layout) -> None:
    assert judged("???????? RRRRRRRR", layout) == Judgement(
        Verdict.UNREADABLE, NONE, None, None, (), (), 0
    )


def test_without_the_zone_it_is_unknown_whether_a_shared_tail_is_right() -> None:
    judgement = judged(PICTURES[SHARED_TAIL], SHARED_TAIL, zone=None)
    assert judgement.verdict is Verdict.UNREADABLE
    assert (judgement.layout, judgement.freed) == (SHARED_TAIL, 7)


def test_without_the_zone_an_unoptimized_folio_is_still_unoptimized() -> None:
    assert judged(UNOPTIMIZED_FOLIO, SHARED_TAIL, zone=None).verdict is Verdict.UNOPTIMIZED


def test_without_the_zone_a_writable_tail_is_still_wrong() -> None:
    judgement = judged("attttttt WRRRWRRR", SHARED_TAIL, zone=None)
    assert judgement.verdict is Verdict.INCONSISTENT


def test_a_head_on_the_zones_tail_frame_is_inconsistent() -> None:
    assert judged("tbcdefgh WWWWWWWW", SHARED_TAIL).verdict is Verdict.INCONSISTENT


# Any folio at all.


def canonical(folio: str, layout: Layout) -> str:
    """A folio with its frames renamed in the order in which they appear, but for the zone's."""
    frames, accesses = folio.split()
    names = {letter: letter for letter in (ZONES_FRAME if layout in OF_THE_ZONE else "") + ".!"}
    for frame in frames:
        names.setdefault(frame, chr(ord("a") + len(names)))
    return f"{''.join(names[frame] for frame in frames)} {accesses}"


@st.composite
def folios(draw: st.DrawFn) -> str:
    """A sound folio with a few changes."""
    folio = draw(st.sampled_from((UNOPTIMIZED_FOLIO, *PICTURES.values())))
    pages = st.builds("{} {}".format, st.sampled_from("abcxt.!?"), st.sampled_from("RW"))
    for index, page in draw(st.dictionaries(st.integers(0, 7), pages, max_size=3)).items():
        folio = changed(folio, index, page)
    return folio


@every_kernel
@given(folio=folios())
def test_a_folio_is_optimized_or_unoptimized_only_to_the_letter(layout: Layout, folio: str) -> None:
    seen = canonical(folio, layout)
    expected = Verdict.INCONSISTENT
    if "?" in folio:
        expected = Verdict.UNREADABLE
    elif seen == canonical(UNOPTIMIZED_FOLIO, layout):
        expected = Verdict.UNOPTIMIZED
    elif layout in PICTURES and seen == canonical(PICTURES[layout], layout):
        expected = Verdict.OPTIMIZED
    assert judged(folio, layout).verdict is expected


# The same, read from a kernel's page tables.


def pattern(kernel_image: Image, folio: Folio) -> str:
    """A folio in letters, in the order in which its frames appear."""
    kernel = discover(kernel_image.prog)
    walker = Walker(ProgramMemory(kernel_image.prog), kernel.paging)
    start = kernel.geometry.address(folio.pfn)
    pages = [
        walker.entry(address)
        for address in range(
            start, start + kernel.geometry.pages_of_order(folio.order) * PAGE_SIZE, PAGE_SIZE
        )
    ]
    order = list(dict.fromkeys(page.frame for page in pages))
    frames = "".join(chr(ord("a") + order.index(page.frame)) for page in pages)
    return f"{frames} {''.join('W' if page.access.writable else 'R' for page in pages)}"


HVO_LINES = [line for line in LINES.values() if line.layout is not NONE]


@pytest.mark.parametrize("line", HVO_LINES, ids=lambda line: line.release)
def test_the_image_of_every_kernel_has_its_layout(line: Line) -> None:
    folios = Folio(FIRST_FOLIO), Folio(GIB >> 12, order=18)
    image = Image(Machine(line=line, node_size=3 * GIB, folios=folios))
    letters = PICTURES[line.layout].replace("t", "b")
    assert pattern(image, folios[0]) == letters
    assert pattern(image, folios[1]) == gigantic(letters)
    if line.layout in OF_THE_ZONE:
        assert {image.frames[folio.pfn][1] for folio in folios} == set(image.tail_frames.values())


# Ranges, as the kernel writes them.


@pytest.mark.parametrize(
    ("indices", "text"),
    (((), ""), (((3, 3),), "3"), (((1, 7),), "1-7"), (((2, 7), (9, 9), (11, 12)), "2-7,9,11-12")),
)
def test_ranges_are_written_as_the_kernel_does(
    indices: tuple[tuple[int, int], ...], text: str
) -> None:
    assert format_ranges(indices) == text
    assert ranges(index for first, last in indices for index in range(first, last + 1)) == indices
