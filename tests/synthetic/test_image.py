# SPDX-License-Identifier: LGPL-2.1-or-later

"""The synthetic image is the kernel that it claims to be, as drgn's own helpers see it."""

from __future__ import annotations

import drgn
import pytest
from drgn.helpers.linux.hugetlb import for_each_hstate
from drgn.helpers.linux.list import list_for_each_entry

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, NO_TYPE, ONE_OF_EACH_LAYOUT
from tests.synthetic.layouts import PICTURES, REUSED_PAGE
from tests.synthetic.model import GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT

HVO_LINES = [release for release, line in LINES.items() if line.layout is not Layout.NONE]
GIGANTIC = GIB >> PAGE_SHIFT
MACHINE = Machine(
    node_size=3 * GIB,
    nodes=2,
    folios=(
        Folio(0x8000),
        Folio(0x8200),
        Folio(0x8400, state=State.ACTIVE),
        Folio(GIGANTIC, order=18),
        # On node 1, above 4 GiB.
        Folio(5 * GIGANTIC - 512),
    ),
)

every_line = pytest.mark.parametrize("release", LINES)
every_hvo_line = pytest.mark.parametrize("release", HVO_LINES)
both_depths = pytest.mark.parametrize("levels", (4, 5))


def image_of(release: str, levels: int = 4, page_size: int = 64) -> Image:
    line = LINES[release]
    remapped = line.layout is not Layout.NONE
    folios = tuple(Folio(folio.pfn, folio.order, folio.state, remapped) for folio in MACHINE.folios)
    return Image(
        Machine(
            line=line,
            levels=levels,
            nodes=2,
            node_size=3 * GIB,
            nodes_shift=10,
            page_size=page_size,
            folios=folios,
        )
    )


def page_of(image: Image, pfn: int) -> drgn.Object:
    """A struct page, read by drgn through the page tables."""
    return drgn.Object(image.prog, "struct page", address=image.machine.page_address(pfn))


def flags_of(page: drgn.Object) -> int:
    flags = page.flags
    return int(flags if flags.type_.kind == drgn.TypeKind.INT else flags.f)


def link_of(image: Image, pfn: int) -> int:
    return int(getattr(page_of(image, pfn), image.machine.line.compound_member))


@both_depths
@every_line
def test_drgn_follows_the_lists_through_the_page_tables(release: str, levels: int) -> None:
    image = image_of(release, levels)
    hstates = list(for_each_hstate(image.prog))
    assert [hstate.name.string_() for hstate in hstates] == [
        b"hugepages-2048kB",
        b"hugepages-1048576kB",
    ]

    def pfns(hstate: drgn.Object, node: int | None) -> list[int]:
        head = hstate.hugepage_activelist if node is None else hstate.hugepage_freelists[node]
        pages = list_for_each_entry("struct page", head.address_of_(), "lru")
        return [(page.value_() - image.machine.vmemmap) // 64 for page in pages]

    small, large = hstates
    assert pfns(small, 0) == [0x8000, 0x8200]
    assert pfns(small, 1) == [5 * GIGANTIC - 512]
    assert pfns(small, 2) == pfns(small, 1023) == []
    assert pfns(small, None) == [0x8400]
    assert pfns(large, 0) == [GIGANTIC]


@every_line
def test_node_and_zone_are_in_the_top_bits_of_the_flags(release: str) -> None:
    image = image_of(release)
    for pfn, node, zone in ((0, 0, 0), (0x8000, 0, 1), (5 * GIGANTIC - 512, 1, 2)):
        flags = flags_of(page_of(image, pfn))
        assert (flags >> 54, flags >> 51 & 7) == (node, zone)


@every_line
def test_a_folios_first_page_is_a_head_and_the_others_are_tails(release: str) -> None:
    image = image_of(release)
    head_bit = 1 << LINES[release].flags["PG_head"]
    for folio in image.machine.folios:
        assert flags_of(page_of(image, folio.pfn)) & head_bit
        assert not link_of(image, folio.pfn) & 1
        # But for the first of each vmemmap page, which may be like the head.
        for pfn in (folio.pfn + 1, folio.pfn + 63, folio.pfn + 65, folio.pfns[-1]):
            assert not flags_of(page_of(image, pfn)) & head_bit
            assert link_of(image, pfn) & 1


@every_hvo_line
def test_only_where_the_head_is_shared_a_tail_is_like_it(release: str) -> None:
    image = image_of(release)
    head_bit = 1 << LINES[release].flags["PG_head"]
    is_alike = bool(flags_of(page_of(image, 0x8000 + 3 * 64)) & head_bit)
    assert is_alike == (REUSED_PAGE[LINES[release].layout] == 0)


@every_line
def test_a_tail_leads_to_its_head(release: str) -> None:
    image = image_of(release)
    head = image.machine.page_address(0x8200)
    tail = 0x8200 + 200
    if LINES[release].masks_heads:
        assert link_of(image, tail) == 0xFFFFFFFFFFFF8001
        assert link_of(image, GIGANTIC + 70) == 0xFFFFFFFFFF000001
        assert image.machine.page_address(tail) & link_of(image, tail) == head
    else:
        assert link_of(image, tail) == head | 1


@pytest.mark.parametrize(
    ("release", "blocks"),
    (
        ("5.15.0", {2: 1, 4: 2}),
        ("6.1.0", {1: 0, 2: 1, 4: 2}),
        ("6.12.0", {0: 4}),
        ("7.2.0", {0: 4}),
    ),
)
def test_what_nobody_maps_any_more_is_free(release: str, blocks: dict[int, int]) -> None:
    """In blocks as large as can be, here with the next folio's: by first page, their orders."""
    image = image_of(release)
    first = image.memmap.boot_frame(image.memmap.number(0x8000))
    pages = [page_of(image, pfn) for pfn in range(first, first + 8)]
    buddy = LINES[release].page_type("buddy")
    assert {
        number: int(page.private) for number, page in enumerate(pages) if page.page_type == buddy
    } == blocks
    assert {int(page._refcount.counter) for page in pages[min(blocks) :]} == {0}
    assert {int(page._refcount.counter) for page in pages[: min(blocks)]} <= {1}


@every_hvo_line
def test_what_is_mapped_is_in_use(release: str) -> None:
    image = image_of(release)
    for frame in {frame for frames in image.frames.values() for frame in frames}:
        assert frame is not None
        page = page_of(image, frame)
        assert (int(page._refcount.counter), int(page.page_type)) == (1, NO_TYPE)


def test_boot_memory_is_reserved_and_what_came_later_is_not() -> None:
    reserved = 1 << LINES["6.12.0"].flags["PG_reserved"]
    folios = Folio(0x8000, remapped=False), Folio(0x8200)
    image = Image(Machine(folios=folios))
    boot, new = image.frames[0x8000][0], image.frames[0x8200][0]
    assert boot is not None and new is not None
    assert flags_of(page_of(image, boot)) & reserved
    assert not flags_of(page_of(image, new)) & reserved


@pytest.mark.parametrize("page_size", (56, 80, 128))
def test_struct_pages_of_other_sizes_lie_side_by_side(page_size: int) -> None:
    folios = (Folio(0x8000, remapped=False), Folio(0x8200, remapped=False))
    image = Image(Machine(page_size=page_size, folios=folios))
    head = 1 << LINES["6.12.0"].flags["PG_head"]
    for pfn in range(0x7FC0, 0x8440):
        page = page_of(image, pfn)
        assert page.type_.size == page_size
        assert bool(flags_of(page) & head) == (pfn in (0x8000, 0x8200))
        assert bool(link_of(image, pfn) & 1) == (0x8000 < pfn < 0x8400 and pfn != 0x8200)


def test_memory_that_is_not_in_the_dump_faults() -> None:
    image = Image(MACHINE)
    address = image.machine.page_address(0x8000)
    image.prog.read(address, 64)
    head = image.frames[0x8000][0]
    assert head is not None
    image.drop_frame(head)
    with pytest.raises(drgn.FaultError):
        image.prog.read(address, 64)
    image.prog.read(image.machine.page_address(0x8200), 64)


def test_what_a_test_writes_is_seen() -> None:
    image = Image(MACHINE)
    image.write_page(0x8200, private=0x123)
    assert page_of(image, 0x8200).private == 0x123
    # The frame of the head is the one that the tails share.
    assert page_of(image, 0x8200 + 64).private == 0x123
    image.write_entry(0x8200, 0, image.entry(0x8000, 0))
    assert page_of(image, 0x8200).private == page_of(image, 0x8000).private == 16


def test_each_layout_has_its_picture_and_its_kernel() -> None:
    layouts = [LINES[release].layout for release in ONE_OF_EACH_LAYOUT]
    assert (
        layouts
        == list(PICTURES)
        == [layout for layout in Layout if layout not in (Layout.NONE, Layout.UNKNOWN)]
    )
