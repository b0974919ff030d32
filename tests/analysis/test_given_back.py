# SPDX-License-Identifier: LGPL-2.1-or-later

"""Memory of no folio, where HVO touched the vmemmap: what a restore leaves, and what others do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.hugetlb.folio import State
from tests.synthetic.image import Image
from tests.synthetic.kernels import HUGETLB_PAGE_DTOR, LINES, Mark
from tests.synthetic.model import FIRST_FOLIO, GIB, SECTION_PAGES, Folio, Machine, Section
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE, WRITABLE

GIGANTIC = GIB >> PAGE_SHIFT
AFTER = FIRST_FOLIO + 512 * 4

lines = pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0", "7.2.0"))


def image(release: str) -> Image:
    """A kernel with a folio, after which last-level tables map memory of no folio."""
    return Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),)))


def link(of: Image, head: int, order: int) -> dict[str, int]:
    """What makes a struct page a tail of a compound page."""
    line, size = of.machine.line, of.machine.page_size
    mask = -(size << order) % (1 << 64)
    return {line.compound_member: (mask if line.masks_heads else of.machine.page_address(head)) | 1}


def said(of: Image) -> list[str]:
    """What is said beyond sound folios."""
    return [finding.rule for finding in verify(of.prog).findings if finding.rule != "unoptimized"]


@lines
def test_struct_pages_that_the_kernel_poisoned_are_not_in_use(release: str) -> None:
    """``page_init_poison()``: a device left a part of a section that has memory, too."""
    of = image(release)
    for pfn in range(AFTER, AFTER + 512, PAGE_SIZE // of.machine.page_size):
        frame = of.memmap.boot_frame(of.memmap.number(pfn))
        of.memory.frames[frame] = b"\xff" * PAGE_SIZE
    assert said(of) == []


@pytest.mark.parametrize("has_memmap", (True, False))
@lines
def test_struct_pages_of_a_section_that_is_gone_are_not_in_use(
    release: str, has_memmap: bool
) -> None:
    machine = Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),), split=frozenset((5,)))
    of = Image(machine)
    of.write_page(5 * SECTION_PAGES + 1, **link(of, 5 * SECTION_PAGES, 9))
    if not has_memmap:
        roots = of.memory.read_u64(of.physical(of.variables["mem_section"][1]))
        root = of.memory.read_u64(of.physical(roots))
        of.write(root + 5 * of.types.structs["mem_section"].size, 0)
    assert said(of) == ["stale-struct-page"] * has_memmap


@pytest.mark.parametrize("is_online", (True, False))
@lines
def test_nobody_wrote_the_struct_pages_of_a_section_that_is_not_online(
    release: str, is_online: bool
) -> None:
    section = Section.PLUGGED if is_online else Section.OFFLINE
    machine = Machine(
        line=LINES[release],
        folios=(Folio(FIRST_FOLIO),),
        split=frozenset({5}),
        sections={5: section},
    )
    of = Image(machine)
    of.write_page(5 * SECTION_PAGES + 1, **link(of, 5 * SECTION_PAGES, 9))
    assert said(of) == ["stale-struct-page"] * is_online


@pytest.mark.parametrize("is_split", (True, False))
@lines
def test_vmemmap_that_a_large_leaf_maps_was_never_of_an_optimized_folio(
    release: str, is_split: bool
) -> None:
    split = frozenset({5}) if is_split else frozenset()
    of = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),), split=split))
    of.write_page(5 * SECTION_PAGES + 1, **link(of, 5 * SECTION_PAGES, 9))
    assert said(of) == ["stale-struct-page"] * is_split


def stale(of: Image) -> list[int]:
    """Which PFNs have struct pages that are called stale, the first of each finding."""
    addresses = [f.address for f in verify(of.prog).findings if f.rule == "stale-struct-page"]
    start, size = of.machine.vmemmap, of.machine.page_size
    return [(address - start) // size for address in addresses if address is not None]


@lines
def test_a_stale_tail_is_found_once_wherever_it_lies(release: str) -> None:
    of, pfns = image(release), [AFTER + 64 * page + 1 for page in (103, 104, 400)]
    for number, pfn in reversed([*enumerate(pfns)]):
        of.write_page(pfn, **link(of, pfn - 1, 9))
        assert stale(of) == pfns[number:]


@lines
def test_a_stale_tail_is_found_after_a_struct_page_that_is_not_in_use(release: str) -> None:
    of = image(release)
    of.write_page(AFTER + 65, flags=(1 << 64) - 1)
    of.write_page(AFTER + 66, **link(of, AFTER + 64, 9))
    assert stale(of) == [AFTER + 66]


@lines
def test_a_tail_that_leads_to_itself_is_stale(release: str) -> None:
    of = image(release)
    of.write_page(AFTER + 512, **link(of, AFTER + 512, 9))
    assert stale(of) == [AFTER + 512]


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0"))
def test_a_tail_that_leads_out_of_the_memmap_is_stale(release: str) -> None:
    of = image(release)
    of.write_page(AFTER + 65, compound_head=0xDEAD000000000101)
    (message,) = (f.message for f in verify(of.prog).findings if f.rule == "stale-struct-page")
    assert "of no folio: compound_head leads out of the memmap" in message


@lines
def test_a_stale_tail_is_found_once_beside_one_that_is_not_in_the_dump(release: str) -> None:
    of = image(release)
    of.write_page(AFTER + 65, **link(of, AFTER + 64, 9))
    of.drop_frame(of.memmap.boot_frame(of.memmap.number(AFTER + 128)))
    assert stale(of) == [AFTER + 65]


@pytest.mark.parametrize("release", ("5.10.0", "6.1.0", "6.12.0"))
def test_struct_pages_that_lie_in_two_frames_are_not_accused(release: str) -> None:
    """Such a kernel has no HVO: nothing was given back."""
    machine = Machine(line=LINES[release], page_size=56, split=frozenset(range(4)))
    assert said(Image(machine)) == []


@lines
def test_a_stale_tail_is_found_beside_vmemmap_that_is_mapped_to_nothing(release: str) -> None:
    of = image(release)
    of.write_entry(AFTER, 1, 0)
    of.write_page(AFTER + 128 + 1, **link(of, AFTER + 128, 9))
    assert said(of)[:2] == ["not-present", "stale-struct-page"]


@lines
def test_tails_beyond_the_end_of_a_smaller_compound_page_are_stale(release: str) -> None:
    of = image(release)
    of.write_page(AFTER, flags=of.memmap.flags(AFTER, "PG_head"))
    if of.machine.line.mark is Mark.DESTRUCTOR:
        of.write_page(AFTER + 1, compound_dtor=1, compound_order=3)
    else:
        of.write_page(AFTER + 1, flags=of.memmap.flags(AFTER + 1) | 3)
    for pfn in range(AFTER + 1, AFTER + 8):
        of.write_page(pfn, **link(of, AFTER, 3))
    assert said(of) == []
    for first in (AFTER + 64, AFTER + 8):
        for pfn in range(first, AFTER + 512):
            of.write_page(pfn, **link(of, AFTER, 9))
        assert set(said(of)) == {"stale-struct-page"}
        stale = [f for f in verify(of.prog).findings if f.rule == "stale-struct-page"]
        assert stale[0].address == of.machine.page_address(first)


@lines
def test_stale_tails_are_named_without_what_was_allocated_between_them(release: str) -> None:
    of = image(release)
    for pfn in (AFTER + 64, AFTER + 65, AFTER + 67):
        of.write_page(pfn, **link(of, AFTER, 9))
    (message,) = (f.message for f in verify(of.prog).findings if f.rule == "stale-struct-page")
    assert message.startswith(f"3 of the struct pages of PFNs {AFTER + 64:#x} to {AFTER + 67:#x} ")


@lines
def test_a_head_that_has_its_tails_and_no_order_yet_is_being_made(release: str) -> None:
    """``prep_compound_page()`` notes the order last."""
    of = image(release)
    of.write_page(AFTER, flags=of.memmap.flags(AFTER, "PG_head"))
    for pfn in range(AFTER + 1, AFTER + 8):
        of.write_page(pfn, **link(of, AFTER, 3))
    assert said(of) == []


@lines
def test_tails_whose_head_is_not_in_the_dump_are_not_accused(release: str) -> None:
    of = image(release)
    for pfn in range(AFTER + 64, AFTER + 512):
        of.write_page(pfn, **link(of, AFTER, 9))
    of.drop_frame(of.memmap.boot_frame(of.memmap.number(AFTER)))
    report = verify(of.prog)
    assert report.incomplete and not report.broken
    assert (
        "the struct pages in 1 vmemmap pages of memory of no folio are not in the dump: "
        "they were not compared"
    ) in [finding.message for finding in report.findings]


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0"))
def test_copies_of_a_head_whose_table_is_not_in_the_dump_are_not_accused(release: str) -> None:
    """The tables after the first one map all tails of a gigantic folio to its head's frame."""
    folio = Folio(GIGANTIC, 18, state=State.OFF_LIST)
    of = Image(Machine(line=LINES[release], node_size=3 * GIB, folios=(folio,)))
    assert said(of) == ["off-list"]
    of.drop_frame(of.entry_address(GIGANTIC, 0) >> PAGE_SHIFT)
    report = verify(of.prog)
    assert report.incomplete and not report.broken


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0"))
def test_another_folios_tails_are_not_stale_where_a_folios_head_is_not_in_the_dump(
    release: str,
) -> None:
    other = FIRST_FOLIO + 512
    folios = (Folio(FIRST_FOLIO), Folio(other, state=State.OFF_LIST))
    of = Image(Machine(line=LINES[release], folios=folios))
    of.write_entry(other, 3, of.entry(FIRST_FOLIO, 3))
    assert "frame-aliased" in said(of)
    head = of.frames[other][0]
    assert head is not None
    of.drop_frame(head)
    assert [rule for rule in said(of) if rule != "unreadable"] == ["frame-aliased"]


@pytest.mark.parametrize("release", ("6.1.0", "6.12.0"))
def test_tails_that_lead_to_the_copy_of_a_folios_head_are_stale(release: str) -> None:
    """The vmemmap page of the folio's last tails shows its head page, with the same order."""
    of = image(release)
    pfn = FIRST_FOLIO + 512 + 65
    of.write_page(pfn, **link(of, FIRST_FOLIO + 448, 9))
    assert said(of) == ["stale-struct-page"]


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_the_page_type_of_a_head_is_recognised_by_its_highest_byte(release: str) -> None:
    of = image(release)
    head(of, AFTER + 1)
    of.write_page(AFTER + 1, page_type=of.machine.line.page_type("hugetlb") | 5)
    assert said(of) == ["stale-struct-page"]


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0"))
def test_a_head_of_an_order_that_cannot_begin_there_is_stale(release: str) -> None:
    of = image(release)
    head(of, AFTER)
    if of.machine.line.mark is Mark.DESTRUCTOR:
        of.write_page(AFTER + 1, compound_order=18)
    else:
        of.write_page(AFTER + 1, flags=of.memmap.flags(AFTER + 1, "PG_active") | 18)
    assert said(of) == ["stale-struct-page"]


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0"))
def test_a_head_whose_second_struct_page_is_on_another_vmemmap_page_may_be_any(
    release: str,
) -> None:
    of = image(release)
    head(of, AFTER + 63)
    assert said(of) == []


def head(of: Image, pfn: int) -> None:
    """A struct page that is the head of a HugeTLB folio, though there is none."""
    of.write_page(
        pfn, flags=of.memmap.flags(pfn, "PG_head"), page_type=of.machine.line.page_type("hugetlb")
    )
    if of.machine.line.mark is Mark.DESTRUCTOR:
        of.write_page(pfn + 1, compound_dtor=HUGETLB_PAGE_DTOR, compound_order=9)
    elif of.machine.line.mark is Mark.FLAG:
        of.write_page(pfn + 1, flags=of.memmap.flags(pfn + 1, "PG_active") | 9)


@lines
@pytest.mark.parametrize("ahead", (1, 8, 65, 300))
def test_a_head_where_no_folio_can_begin_is_stale(release: str, ahead: int) -> None:
    of = image(release)
    head(of, AFTER + ahead)
    findings = [each for each in verify(of.prog).findings if each.rule == "stale-struct-page"]
    assert [each.address for each in findings] == [of.machine.page_address(AFTER + ahead)]
    words = f"the struct page of PFN {AFTER + ahead:#x} is still marked as a HugeTLB folio's"
    assert words in findings[0].message


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0"))
def test_a_head_without_a_page_type_where_a_folio_may_begin_is_on_its_way(release: str) -> None:
    of = image(release)
    head(of, AFTER + 512)
    assert "stale-struct-page" not in said(of)


def without_a_head(release: str, tails: int) -> Image:
    """Tails of a gigantic folio that has no head."""
    split = frozenset(range(GIGANTIC * 64 >> 21, (GIGANTIC * 64 >> 21) + 2))
    machine = Machine(
        line=LINES[release], node_size=4 * GIB, folios=(Folio(FIRST_FOLIO),), split=split
    )
    of = Image(machine)
    for pfn in range(GIGANTIC + 1, GIGANTIC + 1 + tails):
        of.write_page(pfn, _refcount=0, **link(of, GIGANTIC, 18))
    return of


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_a_gigantic_folio_that_is_made_as_others_are_has_a_head_before_its_tails(
    release: str,
) -> None:
    assert set(said(without_a_head(release, 100))) == {"stale-struct-page"}


@pytest.mark.parametrize("release", ("6.6.0", "6.9.0"))
def test_a_folio_that_is_not_gigantic_has_a_head_before_its_tails(release: str) -> None:
    of = image(release)
    for pfn in range(AFTER + 1, AFTER + 8):
        of.write_page(pfn, _refcount=0, **link(of, AFTER, 9))
    assert said(of) == ["stale-struct-page"]


@pytest.mark.parametrize("release", ("6.6.0", "6.9.0"))
def test_no_gigantic_folio_is_being_made_of_free_used_or_remapped_memory(release: str) -> None:
    free = without_a_head(release, 100)
    free.memmap.free([GIGANTIC])
    owned = without_a_head(release, 100)
    owned.write_page(GIGANTIC, flags=owned.memmap.flags(GIGANTIC, "PG_lru"))
    remapped = without_a_head(release, 100)
    raw = remapped.entry(GIGANTIC, 4095, "PMD")
    remapped.write_entry(GIGANTIC, 4095, raw & ~WRITABLE, "PMD")
    for of in (free, owned, remapped):
        assert "stale-struct-page" in said(of)
        assert "in-flight" not in said(of)


@pytest.mark.parametrize("release", ("6.6.0", "6.9.0"))
@pytest.mark.parametrize("done", (1, 100, 600))
def test_a_gigantic_folio_that_is_being_made_has_tails_before_it_has_a_head(
    release: str, done: int
) -> None:
    of = without_a_head(release, done)
    assert said(of) == ["in-flight"]
    (being_made,) = (f for f in verify(of.prog).findings if f.rule == "in-flight")
    assert f"tails lead to PFN {GIGANTIC:#x}, which is no head" in being_made.message
    assert being_made.address == of.machine.page_address(GIGANTIC)
    # What leads elsewhere is of no gigantic folio.
    of.write_page(GIGANTIC + 1 + done, **link(of, GIGANTIC + 512, 9))
    assert set(said(of)) == {"in-flight", "stale-struct-page"}


@pytest.mark.parametrize("release", ("6.12.0", "6.18.0", "7.2.0"))
@pytest.mark.parametrize("done", (1, 3))
def test_tails_of_a_folio_that_is_being_demoted_are_not_stale(release: str, done: int) -> None:
    """They lead to its head, which is that of the first of the smaller folios already."""
    of = demoted(release, done, is_counted=False)
    assert said(of) == ["in-flight"] * done
    # A folio on no list that is counted, as while it is migrated, was made long ago.
    assert set(said(demoted(release, done, is_counted=True))) == {"off-list", "stale-struct-page"}
    # What leads to another one of them was never a larger folio's.
    pfn = GIGANTIC + 512 * done + 5
    of.write_page(pfn, **link(of, GIGANTIC + 512 * (done - 1), 10))
    assert ("stale-struct-page" in said(of)) is (done > 1)


def test_tails_beyond_the_end_of_a_folio_that_is_being_demoted_are_stale() -> None:
    of = demoted("6.12.0", 1, is_counted=False)
    beyond = GIGANTIC + (1 << 18) + 5
    of.write_page(beyond, **link(of, GIGANTIC, 18))
    assert stale(of) == [beyond]


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_a_demotion_is_recognised_while_other_folios_are_migrated(release: str) -> None:
    """These are counted, and on no list either: which ones are not counted is not known."""
    migrated = Folio(FIRST_FOLIO + 512, state=State.OFF_LIST)
    assert said(demoted(release, 2, is_counted=False, more=(migrated,))) == ["off-list"] * 3


def demoted(release: str, done: int, is_counted: bool, more: Sequence[Folio] = ()) -> Image:
    """A folio of 1 GiB of which some folios of 2 MiB were made; the rest is as it was."""
    start = GIGANTIC * 64 >> 21
    folios = (
        Folio(GIGANTIC + 512 * number, state=State.OFF_LIST, remapped=False, counted=is_counted)
        for number in range(done)
    )
    machine = Machine(
        line=LINES[release],
        node_size=4 * GIB,
        folios=(Folio(FIRST_FOLIO), *more, *folios),
        split=frozenset((start, start + 1, start + 8)),
    )
    of = Image(machine)
    rest = GIGANTIC + 512 * done
    for pfn in range(rest, rest + 700):
        of.write_page(pfn, _refcount=0, **link(of, GIGANTIC, 18))
    return of


@pytest.mark.long
@pytest.mark.parametrize("order", (9, 18))
@pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.9.0", "7.2.0"))
def test_the_tails_of_a_folio_that_is_about_to_be_demoted_may_be_gone(
    release: str, order: int
) -> None:
    """``__destroy_compound_gigantic_folio()`` changes the head last."""
    for is_counted in (False, True):
        start = GIGANTIC * 64 >> 21
        folio = Folio(GIGANTIC, order, State.OFF_LIST, remapped=False, counted=is_counted)
        machine = Machine(
            line=LINES[release],
            node_size=4 * GIB,
            folios=(folio,),
            split=frozenset(range(start, start + (512 if order == 18 else 1))),
        )
        of = Image(machine)
        for pfn in range(GIGANTIC + 5, GIGANTIC + 300):
            of.write_page(pfn, mapping=0, **{machine.line.compound_member: 0})
        is_sound = order == 18 and not is_counted
        assert ("tail-content" in said(of)) is not is_sound
