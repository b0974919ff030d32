# SPDX-License-Identifier: LGPL-2.1-or-later

"""What may stand in a page table, in the vmemmap and in the kernel's data, and what may not."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.content import Content, nodes_of
from drgn_vmemmap.extract.filter import Filter
from drgn_vmemmap.extract.owners import FrameOwners
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, SAVED_DIRTY
from drgn_vmemmap.target.memory import Memory, ProgramMemory
from drgn_vmemmap.vmemmap.sections import SectionRange
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

NX = 1 << 63
INVERTED = (1 << 52) - PAGE_SIZE
"""The bits of an address, which are inverted in an entry that is not present."""

TEXTS = {
    "pins": b"".join(b"%cpin%02d\0\0" % ("eacgio"[i % 6].encode(), i % 100) for i in range(512)),
    "text": b"a secret, and another secret: 4111-1111-1111-1111. ".ljust(64, b"!") * 64,
    "cards": b"".join(
        struct.pack("<QQ32sIIQ", 1000 + i, 0, b"card 4111-1111-1111-%04d pin%04d" % (i, i), 0, 7, 0)
        for i in range(64)
    ),
    "pipe": b"hunter\n".ljust(PAGE_SIZE, b"\0"),
    "short lines": b"".join((b"pass%02d\n" % n).ljust(64, b"\0") for n in range(64)),
    "half": (b"\xa5SECRET\xa5" * 8 + bytes(64)) * 32,
    "numbers": struct.pack("<512Q", *((0x1234_5678_9ABC_DEF1 * i) % (1 << 63) for i in range(512))),
}


class Overlaid(Memory):
    """Memory of which some frames hold something else."""

    def __init__(self, memory: Memory, frames: Mapping[int, bytes]) -> None:
        self._memory, self._frames = memory, frames

    def read(self, address: int, size: int) -> bytes:
        page = self._frames.get(address >> PAGE_SHIFT)
        start = address % PAGE_SIZE
        return self._memory.read(address, size) if page is None else page[start : start + size]


def snapshot_of(release: str, has_no_execute: bool = True) -> Snapshot:
    line = LINES[release]
    optimized = line.layout is not Layout.NONE
    folios = (Folio(FIRST_FOLIO, remapped=optimized), Folio(FIRST_FOLIO + 512, remapped=False))
    image = Image(Machine(line=line, folios=folios, has_no_execute=has_no_execute))
    return Snapshot(discover(image.prog), ProgramMemory(image.prog))


@pytest.fixture(scope="module", params=(True, False), ids=("", "without-nx"))
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    return snapshot_of("6.12.0", request.param)


@pytest.fixture(scope="module")
def content(snapshot: Snapshot) -> Content:
    return Content(snapshot.kernel, [0])


@pytest.mark.parametrize(
    "entry",
    (
        0x2000067,  # _PAGE_TABLE
        0x2000063,  # _KERNPG_TABLE
        NX | 0x2000163,  # PAGE_KERNEL
        NX | 0x2000121,  # PAGE_KERNEL_RO
        NX | 0x20001E3,  # PAGE_KERNEL_LARGE
        NX | SAVED_DIRTY | 0x2000121,  # PAGE_KERNEL after ptep_set_wrprotect() of v6.6
        0x2000161,  # PAGE_KERNEL_ROX
        NX | 0x200017B,  # set_memory_uc()
        NX | INVERTED ^ 0x2000060,  # debug_pagealloc, KFENCE
        NX | INVERTED ^ 0x2000062,  # set_memory_np_noalias() of the image's, with PTI
    ),
)
def test_an_entry_of_the_kernels_is_written(content: Content, entry: int) -> None:
    assert content.is_entry(entry)


@pytest.mark.parametrize(
    "entry", (0x2000067 | 1 << 52, 0x2000066, NX | 0x2000125, NX | 0x2000121 | 1 << 50)
)
def test_an_entry_with_one_bit_damaged_is_still_recognised(content: Content, entry: int) -> None:
    assert not content.is_entry(entry)
    assert content.is_damaged_entry(entry)


@pytest.mark.parametrize("text", (b"epin01\0\0", b"PASSWORD", b"epin\0\0\0\0", b"aecgio01"))
def test_a_text_is_no_entry_and_no_data_of_the_kernels(content: Content, text: bytes) -> None:
    word = int.from_bytes(text, "little")
    assert not content.is_data_or_entry(word)
    assert not content.is_tail_mark(word)


def test_a_struct_page_that_was_poisoned_is_one(content: Content) -> None:
    assert content.is_struct_page(b"\xff" * 64)


def test_a_struct_page_is_of_a_node_that_has_memory(snapshot: Snapshot) -> None:
    kernel = snapshot.kernel
    page = bytearray(snapshot.struct_pages(FIRST_FOLIO + 512))
    flags = kernel.page.value(bytes(page), "flags") | 3 << kernel.page_flags.node_shift
    start = kernel.page.offset("flags")
    page[start : start + 8] = flags.to_bytes(8, "little")
    assert Content(kernel, [0, 3]).is_struct_page(bytes(page))
    assert not Content(kernel, [0]).is_struct_page(bytes(page))


@pytest.mark.parametrize(
    ("member", "word"),
    (
        ("private", 1 << 58 | 0x1234),  # in swap cache, of the second swap device
        ("private", 22 << 58 | 0x1234),  # of the last one
        ("private", (1 << 62) - 2),  # of a page pool, which gives out parts of it
        ("private", 1 << 63 | 700 << 32 | 3),  # of a large folio that many processes map
        ("private", 1 << 63 | 1 << 31),  # of one to which this is just being done
        ("compound_head", 2),  # allocated from the reserves (pfmemalloc)
        ("compound_head", 0xDEAD000000000042 | 700 << 7),  # of a page pool, mapped for DMA
        ("mapping", 0x8001FF << 32 | 0xFFFFFFFF),  # counts of a folio mapped by a PMD
    ),
)
def test_a_struct_page_has_words_that_are_no_pointers_and_no_small_numbers(
    snapshot: Snapshot, content: Content, member: str, word: int
) -> None:
    start = snapshot.kernel.page.offset(member)
    page = bytearray(snapshot.struct_pages(FIRST_FOLIO + 512))
    page[start : start + 8] = word.to_bytes(8, "little")
    assert content.is_struct_page(bytes(page))
    assert content.are_struct_pages(bytes(page))


@pytest.mark.parametrize(("release", "nodes"), (("7.2.0", {0, 1}), ("6.12.0", {0})))
def test_the_zones_of_a_node_keep_tails_when_its_memory_is_gone(
    release: str, nodes: set[int]
) -> None:
    machine = Machine(line=LINES[release], nodes=2)
    image = Image(machine)
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    left = SectionRange(machine.node_pfns(0), 0)
    assert set(nodes_of(snapshot, [left])) == nodes


def test_nodes_may_begin_and_end_within_a_section(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node has 32 MiB."""
    shift = snapshot.kernel.page_flags.node_shift
    offset = snapshot.kernel.page.offset("flags")

    def struct_page(pfn: int) -> bytes:
        return (pfn >> 13 << shift).to_bytes(8, "little").rjust(offset + 8, b"\0").ljust(64, b"\0")

    monkeypatch.setattr(snapshot, "struct_pages", struct_page)
    section = SectionRange(range(1 << 15), 0)
    assert set(nodes_of(snapshot, [section])) == {0, 1, 2, 3}


def test_a_struct_page_that_is_neither_mapped_nor_referenced_has_no_mappings(
    snapshot: Snapshot, content: Content
) -> None:
    """What has flags, and 0 for both of its counts, is none."""
    layout, page = snapshot.kernel.page, bytearray(snapshot.struct_pages(FIRST_FOLIO + 512))
    counts = layout.offset("refcount") & -8
    for word, is_one in ((0xFFFFFFFF, True), (1 << 32, True), (0, False), (b"abcd", False)):
        data = word if isinstance(word, bytes) else word.to_bytes(8, "little")
        page[counts : counts + 8] = data.ljust(8, b"\0")
        assert content.is_struct_page(bytes(page)) is is_one
        assert content.are_struct_pages(bytes(page)) is is_one
    assert content.are_struct_pages(bytes(64))


def test_a_tail_that_is_mapped_once_has_no_count_but_zero(
    snapshot: Snapshot, content: Content
) -> None:
    """Of a large folio, as of a file: a process maps some of its pages, one by one."""
    layout, page = snapshot.kernel.page, bytearray(snapshot.struct_pages(FIRST_FOLIO + 512))
    counts, link = layout.offset("refcount") & -8, layout.offset("compound_head")
    page[counts : counts + 8] = bytes(8)
    tail_info = snapshot.kernel.tail_info(FIRST_FOLIO + 512, 9)
    for word, is_one in ((tail_info, True), (tail_info - 1, False), (b"password", False)):
        data = word if isinstance(word, bytes) else word.to_bytes(8, "little")
        page[link : link + 8] = data
        assert content.is_struct_page(bytes(page)) is is_one
        assert content.are_struct_pages(bytes(page)) is is_one


def test_memory_from_boot_may_be_registered_with_a_section_made_of_an_address(
    snapshot: Snapshot, content: Content
) -> None:
    layout, page = snapshot.kernel.page, bytearray(snapshot.struct_pages(FIRST_FOLIO + 512))
    start = layout.offset("private")
    address = snapshot.geometry.address(FIRST_FOLIO)
    section = address // snapshot.kernel.sections.pages
    for word, is_one in (
        (section << 4 | 1, True),
        (section << 4 | 2, True),
        (section << 4 | 4, False),
        (section << 5 | 1, False),
    ):
        page[start : start + 8] = word.to_bytes(8, "little")
        assert word >> 52 and content.is_struct_page(bytes(page)) is is_one
        assert content.are_struct_pages(bytes(page)) is is_one


@pytest.mark.parametrize("text", TEXTS)
def test_no_word_of_a_users_page_is_written_as_a_struct_page_or_an_entry(
    snapshot: Snapshot, content: Content, text: str
) -> None:
    page = TEXTS[text]
    assert len(page) == PAGE_SIZE
    address = snapshot.geometry.address(FIRST_FOLIO)
    entry = snapshot.walker.entry(address)
    assert entry.frame is not None
    table = entry.raw_address >> PAGE_SHIFT
    memory = Overlaid(snapshot.memory, {entry.frame: page, table: page})
    filter_ = Filter(
        Snapshot(snapshot.kernel, memory), FrameOwners(snapshot), content, [table], {entry.frame: 0}
    )
    left = filter_.apply({frame << PAGE_SHIFT: page for frame in (entry.frame, table)})
    assert not any(any(data) for data in left.reads.values())
    assert {withheld.frame for withheld in left.withheld} == {entry.frame, table}


@pytest.mark.parametrize("place", (0, 8, 16, 24, 32, 40, 48, 56))
def test_one_word_of_a_users_in_a_frame_of_struct_pages_is_not_written(
    snapshot: Snapshot, content: Content, place: int
) -> None:
    """Wherever it is: the frame is judged as a whole first, and then by struct pages."""
    frame = snapshot.walker.entry(snapshot.geometry.address(FIRST_FOLIO + 512) + PAGE_SIZE).frame
    assert frame is not None
    sound = snapshot.memory.read(frame << PAGE_SHIFT, PAGE_SIZE)
    # No flags, no pointer, no count and no number: those of a user, and a poisoned pointer's like.
    for secret in (b"PASSWORD", b"epin01\x00\x7f", b"\x00\x10\x01\x00\x00\x00\xad\xde"):
        at = 37 * 64 + place
        page = sound[:at] + secret + sound[at + 8 :]
        memory = Overlaid(snapshot.memory, {frame: page})
        owners = FrameOwners(snapshot)
        filter_ = Filter(Snapshot(snapshot.kernel, memory), owners, content, (), {frame: 0})
        left = filter_.apply({frame << PAGE_SHIFT: page})
        assert [each.frame for each in left.withheld] == [frame]
        assert not any(secret in data for data in left.reads.values())


def test_a_struct_page_is_judged_by_the_words_that_the_dump_has(
    snapshot: Snapshot, content: Content
) -> None:
    address = snapshot.geometry.address(FIRST_FOLIO + 512) + PAGE_SIZE
    frame = snapshot.walker.entry(address).frame
    assert frame is not None
    start = frame << PAGE_SHIFT

    class Partial(Overlaid):
        def read(self, address: int, size: int) -> bytes:
            if address <= start + 16 < address + size:
                raise MissingMemory("the third word")
            return super().read(address, size)

    for flags, kept in ((bytes(8), 8), (b"PASSWORD", 0)):
        page = flags + snapshot.memory.read(start + 8, PAGE_SIZE - 8)
        memory = Partial(snapshot.memory, {frame: page})
        owners = FrameOwners(snapshot)
        filter_ = Filter(Snapshot(snapshot.kernel, memory), owners, content, (), {frame: 0})
        left = filter_.apply({start: flags})
        assert sum(map(len, left.reads.values())) == kept


@pytest.mark.parametrize(("part", "kept"), ((b"\x63\x20\x00\x02", 0), (bytes(4), 4)))
def test_half_an_entry_is_written_only_if_it_is_zero(
    snapshot: Snapshot, content: Content, part: bytes, kept: int
) -> None:
    entry = snapshot.walker.entry(snapshot.geometry.address(FIRST_FOLIO))
    table = entry.raw_address >> PAGE_SHIFT
    filter_ = Filter(snapshot, FrameOwners(snapshot), content, [table], {})
    left = filter_.apply({table << PAGE_SHIFT: part})
    assert sum(map(len, left.reads.values())) == kept


@pytest.mark.parametrize("has_no_execute", (True, False), ids=("", "without-nx"))
@pytest.mark.parametrize("release", LINES)
def test_nothing_is_withheld_of_a_sound_kernels_vmemmap_and_its_tables(
    release: str, has_no_execute: bool
) -> None:
    snapshot = snapshot_of(release, has_no_execute)
    frames, tables = set(), set()
    start = snapshot.geometry.address(FIRST_FOLIO)
    for address in range(start, start + 16 * PAGE_SIZE, PAGE_SIZE):
        entry = snapshot.walker.entry(address)
        assert entry.frame is not None
        frames.add(entry.frame)
        tables.add(entry.raw_address >> PAGE_SHIFT)
    content = Content(snapshot.kernel, [0])
    vmemmap = dict.fromkeys(frames, 0)
    filter_ = Filter(snapshot, FrameOwners(snapshot), content, tables, vmemmap)
    pieces = {
        frame << PAGE_SHIFT: snapshot.memory.read(frame << PAGE_SHIFT, PAGE_SIZE)
        for frame in frames | tables
    }
    assert filter_.apply(pieces).withheld == []
