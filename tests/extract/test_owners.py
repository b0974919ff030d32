# SPDX-License-Identifier: LGPL-2.1-or-later

"""Whose a frame is, by its own struct page, and what of it an extract may hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Callable

import pytest

from drgn_vmemmap.extract.content import Content
from drgn_vmemmap.extract.filter import Filter, Filtered
from drgn_vmemmap.extract.owners import FrameOwners, Owner
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.image_memory import IMAGE_PFNS
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, SECTION_PAGES, Folio, Machine, Section

USER = FIRST_FOLIO + 1024
"""PFN of memory that is no HugeTLB folio's; nothing but its reference count says that it is used.
"""
PLUGGED = 6 * SECTION_PAGES
FILE = 0xFFFF888123456700
NUMBERS = {"large_kmalloc": 0xF8, "zsmalloc": 0xF6}
"""Page types of newer kernels."""
POINTER, ENTRY, NUMBER = 0xFFFF888123456780, 0x8000000002000163, 0x123456789ABCDE
"""Of the kernel's memory, what may stand in its data, and in a page table; and neither."""


def image_of(release: str = "6.12.0") -> Image:
    line = LINES[release]
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False))
    return Image(Machine(line=line, folios=folios, sections={6: Section.DEVICE}))


def snapshot_of(image: Image) -> Snapshot:
    # No symbol of a synthetic kernel says where its image is.
    kernel = replace(discover(image.prog), image=IMAGE_PFNS)
    names = {**kernel.page_marks.type_names, **{n: name for name, n in NUMBERS.items()}}
    if not kernel.page_marks.type_base:
        kernel = replace(kernel, page_marks=kernel.page_marks._replace(type_names=names))
    return Snapshot(kernel, ProgramMemory(image.prog))


def owner_of(image: Image, frame: int) -> Owner:
    return FrameOwners(snapshot_of(image)).owner(frame)


def head(image: Image) -> None:
    image.write_page(USER, flags=image.memmap.flags(USER, "PG_head"), _refcount=1)


def tail_of(image: Image, frame: int, to: int) -> None:
    image.write_page(frame, compound_head=image.machine.page_address(to) | 1, _refcount=0)


def of_file(image: Image) -> None:
    image.write_page(USER, mapping=FILE)


def anonymous(image: Image) -> None:
    image.write_page(USER, mapping=FILE | 1)


def movable(image: Image) -> None:
    image.write_page(USER, mapping=FILE | 2)


def mapped(image: Image) -> None:
    image.write_page(USER, page_type=0)


def on_a_list_of_reclaim(image: Image) -> None:
    image.write_page(USER, flags=image.memmap.flags(USER, "PG_lru"))


def of_a_mapping_that_is_no_pointer(image: Image) -> None:
    image.write_page(USER, mapping=0x1000)


def of_slab(image: Image) -> None:
    image.write_page(USER, page_type=image.machine.line.page_type("slab"))


def page_table(image: Image) -> None:
    image.write_page(USER, page_type=image.machine.line.page_type("table"))


def of_kmalloc(image: Image) -> None:
    image.write_page(USER, page_type=NUMBERS["large_kmalloc"] << 24)


def of_zsmalloc(image: Image) -> None:
    image.write_page(USER, page_type=NUMBERS["zsmalloc"] << 24)


def of_a_type_without_a_name(image: Image) -> None:
    image.write_page(USER, page_type=0xFA << 24)


def in_use(image: Image) -> None:
    image.write_page(USER, _refcount=1)


def failed(image: Image) -> None:
    image.write_page(USER, flags=image.memmap.flags(USER, "PG_hwpoison"))


def left_by_a_folio(image: Image) -> None:
    """Linux 6.12 leaves such struct pages where it restores them; they are in use again."""
    image.write_page(USER, page_type=image.machine.line.page_type("hugetlb"), _refcount=1)


def from_boot(image: Image) -> None:
    image.write_page(USER, flags=image.memmap.flags(USER, "PG_reserved"))


def free(image: Image) -> None:
    image.memmap.free([USER])


def in_a_free_block(image: Image) -> None:
    image.memmap.free(range(USER - 4, USER + 4))


def marked_as_free_with_an_order_that_cannot_be(image: Image) -> None:
    image.memmap.free([USER])
    image.write_page(USER, private=99)


def on_its_way_to_the_allocator(image: Image) -> None:
    image.write_page(USER, _refcount=0)


def of_a_block_that_was_never_split(image: Image) -> None:
    for frame in range(USER + 1, USER + 512):
        image.write_page(frame, _refcount=0)


def never_written(image: Image) -> None:
    image.memmap.forget(range(USER, USER + 64), b"\xff" * PAGE_SIZE)


CASES: tuple[tuple[Callable[[Image], None], Owner], ...] = (
    (of_file, Owner.USER),
    (anonymous, Owner.USER),
    (movable, Owner.USER),
    (mapped, Owner.USER),
    (on_a_list_of_reclaim, Owner.USER),
    (of_a_mapping_that_is_no_pointer, Owner.USER),
    (of_slab, Owner.SLAB),
    (page_table, Owner.TABLE),
    (of_kmalloc, Owner.KERNEL),
    (of_zsmalloc, Owner.OTHER),
    (of_a_type_without_a_name, Owner.OTHER),
    (head, Owner.KERNEL),
    (in_use, Owner.KERNEL),
    (failed, Owner.KERNEL),
    (left_by_a_folio, Owner.KERNEL),
    (from_boot, Owner.BOOT),
    (free, Owner.FREE),
    (in_a_free_block, Owner.FREE),
    (marked_as_free_with_an_order_that_cannot_be, Owner.FREE),
    (on_its_way_to_the_allocator, Owner.FREE),
    (never_written, Owner.UNUSED),
)


@pytest.mark.parametrize(("take", "owner"), CASES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_frame_is_its_users_by_its_struct_page(
    take: Callable[[Image], None], owner: Owner
) -> None:
    image = image_of()
    take(image)
    assert owner_of(image, USER) is owner


def test_a_frame_of_a_block_that_was_never_split_is_the_kernels() -> None:
    image = image_of()
    of_a_block_that_was_never_split(image)
    assert owner_of(image, USER + 3) is Owner.KERNEL


@pytest.mark.parametrize(
    ("pfn", "owner"),
    (
        (FIRST_FOLIO, Owner.HUGETLB),
        (FIRST_FOLIO + 512, Owner.HUGETLB),
        (FIRST_FOLIO + 513, Owner.HUGETLB),
        (FIRST_FOLIO + 1023, Owner.HUGETLB),
        (PLUGGED, Owner.DEVICE),
        (1 << 30, Owner.UNKNOWN),
    ),
)
@pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0"))
def test_frames_of_folios_of_devices_and_beyond_memory(
    release: str, pfn: int, owner: Owner
) -> None:
    assert owner_of(image_of(release), pfn) is owner


@pytest.mark.parametrize(
    ("take", "owner"),
    (
        (in_use, Owner.TAIL),
        (of_slab, Owner.TAIL),
        (of_kmalloc, Owner.TAIL),
        (of_file, Owner.USER),
        (of_zsmalloc, Owner.OTHER),
    ),
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_tail_has_the_owner_of_its_head(take: Callable[[Image], None], owner: Owner) -> None:
    image = image_of()
    head(image)
    take(image)
    tail_of(image, USER + 3, USER)
    assert owner_of(image, USER + 3) is owner


def test_a_tail_of_no_head_has_an_owner_that_is_not_known() -> None:
    image = image_of()
    tail_of(image, USER + 3, USER)
    tail_of(image, USER + 4, image.machine.max_pfn)
    assert [owner_of(image, USER + n) for n in (3, 4)] == [Owner.OTHER, Owner.OTHER]


def test_tails_that_lead_to_each_other_have_an_owner_that_is_not_known() -> None:
    image = image_of()
    for one, other in ((USER, USER + 1), (USER + 1, USER)):
        image.write_page(one, flags=image.memmap.flags(one, "PG_head"))
        tail_of(image, one, other)
    assert owner_of(image, USER) is Owner.OTHER


def test_a_tail_whose_head_is_not_in_the_dump_is_a_tail_of_the_kernels() -> None:
    image = image_of()
    tail_of(image, USER + 64, USER)
    image.drop_frame(image.memmap.boot_frame(image.memmap.number(USER)))
    assert owner_of(image, USER) is Owner.UNKNOWN
    assert owner_of(image, USER + 64) is Owner.TAIL


def filtered(
    image: Image,
    word: int,
    tables: Collection[int] = (),
    vmemmap: Collection[int] = (),
    frame: int = USER,
) -> Filtered:
    """What may be written of a page of equal words."""
    snapshot, data = snapshot_of(image), word.to_bytes(8, "little") * (PAGE_SIZE // 8)
    image.memory.fill([frame], data)
    content, owners = Content(snapshot.kernel, [0]), FrameOwners(snapshot)
    filter_ = Filter(snapshot, owners, content, tables, dict.fromkeys(vmemmap, 0))
    return filter_.apply({frame << PAGE_SHIFT: data})


def kept(
    image: Image,
    word: int,
    tables: Collection[int] = (),
    vmemmap: Collection[int] = (),
    frame: int = USER,
) -> bool:
    """Whether a page of equal words is written; otherwise, none of it is."""
    size = sum(map(len, filtered(image, word, tables, vmemmap, frame).reads.values()))
    assert size in (0, PAGE_SIZE)
    return bool(size)


OF_KERNEL = (in_use, head, of_kmalloc, failed, left_by_a_folio)
every_user = pytest.mark.parametrize(
    "take", [take for take, _ in CASES], ids=lambda each: getattr(each, "__name__", "")
)


@every_user
def test_a_page_table_is_written_if_its_frame_may_be_one(take: Callable[[Image], None]) -> None:
    image = image_of()
    take(image)
    assert kept(image, ENTRY, tables=[USER]) is (take in (*OF_KERNEL, from_boot, page_table))


@every_user
def test_vmemmap_is_written_if_its_frame_may_hold_some(take: Callable[[Image], None]) -> None:
    image = image_of()
    take(image)
    assert kept(image, 0, vmemmap=[USER]) is (take in (*OF_KERNEL, from_boot, never_written))


def test_vmemmap_in_the_memory_of_a_device_is_written() -> None:
    assert kept(image_of(), 0, vmemmap=[PLUGGED], frame=PLUGGED)
    assert not kept(image_of(), 0, frame=PLUGGED)


@every_user
def test_data_of_the_kernels_is_written_as_far_as_its_frame_may_hold_it(
    take: Callable[[Image], None],
) -> None:
    image = image_of()
    take(image)
    words = {word for word in (POINTER, ENTRY, NUMBER) if kept(image, word)}
    if take in (*OF_KERNEL, from_boot, page_table):
        assert words == {POINTER, ENTRY}
    else:
        assert words == ({POINTER} if take is of_slab else set())


def test_of_a_tail_of_the_kernels_pointers_are_written() -> None:
    image = image_of()
    head(image)
    tail_of(image, USER + 3, USER)
    assert kept(image, POINTER, frame=USER + 3)
    assert not kept(image, ENTRY, frame=USER + 3)


def test_the_kernels_image_is_written_whatever_it_holds() -> None:
    image, frame = image_of(), IMAGE_PFNS[-1]
    image.write_page(frame, flags=image.memmap.flags(frame, "PG_reserved"))
    assert all(kept(image, word, frame=frame) for word in (POINTER, ENTRY, NUMBER))


@pytest.mark.parametrize(
    ("frame", "is_written"), ((IMAGE_PFNS[-1], True), (USER, False)), ids=("image", "other")
)
def test_a_frame_whose_struct_page_is_missing_is_written_if_it_is_of_the_kernels_image(
    frame: int, is_written: bool
) -> None:
    image = image_of()
    image.drop_frame(image.memmap.boot_frame(image.memmap.number(frame)))
    assert kept(image, POINTER, frame=frame)
    assert kept(image, NUMBER, frame=frame) is is_written


def test_a_users_page_where_the_kernels_image_should_be_is_not_written() -> None:
    image = image_of()
    image.write_page(IMAGE_PFNS[-1], mapping=FILE)
    assert not kept(image, POINTER, frame=IMAGE_PFNS[-1])


@pytest.mark.parametrize(
    ("take", "reason"),
    ((in_use, "it holds no {}"), (free, "it is free"), (of_slab, "it is slab memory")),
)
@pytest.mark.parametrize(
    ("tables", "vmemmap", "claim"),
    (((USER,), (), "page table"), ((), (USER,), "vmemmap"), ((), (), "data of the kernel")),
)
def test_what_is_withheld_is_named_with_the_reason(
    take: Callable[[Image], None],
    reason: str,
    tables: Collection[int],
    vmemmap: Collection[int],
    claim: str,
) -> None:
    image = image_of()
    take(image)
    (withheld,) = filtered(image, NUMBER, tables, vmemmap).withheld
    assert str(withheld) == (
        f"{PAGE_SIZE} bytes of frame {USER:#x}, claimed as {claim}: {reason.format(claim)}"
    )
