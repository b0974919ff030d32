# SPDX-License-Identifier: LGPL-2.1-or-later

"""Who owns the frames that back the vmemmap, and its page tables, by their own struct pages."""

from __future__ import annotations

from typing import Callable

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.owners import FrameOwner, OwnerKind, OwnerReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedKernel
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, Mark
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine, pmd_of
from tests.synthetic.physical import PAGE_SHIFT

OPTIMIZED, RESTORED = FIRST_FOLIO, FIRST_FOLIO + 512
UNSPLIT = FIRST_FOLIO + 64 * 512 * 2
"""Its vmemmap is in a block that HVO did not split."""
FILE, ANONYMOUS = 0xFFFF888123456700, 0xFFFF888123456701
CHARGE = 0xFFFF888123456702

every_line = pytest.mark.parametrize("release", LINES)


def image(release: str) -> Image:
    has_hvo = LINES[release].layout.value != "none"
    folios = (Folio(OPTIMIZED, remapped=has_hvo), Folio(RESTORED, remapped=False))
    split = frozenset((pmd_of(OPTIMIZED),))
    return Image(Machine(line=LINES[release], folios=folios, split=split))


def errors(image: Image) -> list[tuple[str, int | None, int | None, str]]:
    found = (f for f in verify(image.prog).findings if f.severity.value == "error")
    return [(f.rule, f.folio, f.index, f.message) for f in found]


def page_cache(image: Image, frame: int) -> None:
    flags = image.memmap.flags(frame, "PG_lru")
    image.write_page(frame, flags=flags, mapping=FILE, page_type=0, _refcount=2)


def anonymous(image: Image, frame: int) -> None:
    image.write_page(frame, mapping=ANONYMOUS, page_type=0, _refcount=2)


def mapped(image: Image, frame: int) -> None:
    image.write_page(frame, page_type=3, _refcount=4)


def on_a_list_of_reclaim(image: Image, frame: int) -> None:
    image.write_page(frame, flags=image.memmap.flags(frame, "PG_lru"), _refcount=1)


def slab(image: Image, frame: int) -> None:
    line = image.machine.line
    if "PG_slab" in line.flags:
        image.write_page(frame, flags=image.memmap.flags(frame, "PG_slab"), _refcount=1)
    else:
        image.write_page(frame, page_type=line.page_type("slab"), _refcount=1)


def page_table(image: Image, frame: int) -> None:
    image.write_page(frame, page_type=image.machine.line.page_type("table"), _refcount=1)


def tail(image: Image, frame: int) -> None:
    link = image.machine.page_address(frame & -8) | 1
    if image.machine.line.masks_heads:
        # Of order 3, with struct pages of 64 bytes.
        link = -1 << (3 + 6) & (1 << 64) - 1 | 1
    image.write_page(frame, **{image.machine.line.compound_member: link}, _refcount=0)


def head(image: Image, frame: int) -> None:
    image.write_page(frame, flags=image.memmap.flags(frame, "PG_head"), _refcount=1)


def of_a_page_pool(image: Image, frame: int) -> None:
    """Mapped for DMA as the 700th page of all pools."""
    link = {image.machine.line.compound_member: 0xDEAD000000000042 | 700 << 7}
    image.write_page(frame, **link, _refcount=1)


def stack(image: Image, frame: int) -> None:
    """A process's stack: its memory cgroup is charged for each page."""
    image.write_page(frame, memcg_data=CHARGE, _refcount=1)


OWNERS: dict[str, Callable[[Image, int], None]] = {
    "the page cache (mapping 0xffff888123456700)": page_cache,
    "anonymous memory (mapping 0xffff888123456701)": anonymous,
    "processes that map it (4 times)": mapped,
    "an LRU list of page reclaim": on_a_list_of_reclaim,
    "slab": slab,
    "page tables": page_table,
    "a compound page, as a tail": tail,
    "a compound page, as its head": head,
    "a network driver's page pool": of_a_page_pool,
    "a memory cgroup that is charged for it (memcg_data 0xffff888123456702)": stack,
}

every_owner = pytest.mark.parametrize(
    ("words", "take"), OWNERS.items(), ids=lambda v: v if isinstance(v, str) else ""
)


@every_owner
@every_line
def test_a_frame_that_backs_vmemmap_and_belongs_to_somebody_else_is_found_with_its_owner(
    release: str, words: str, take: Callable[[Image, int], None]
) -> None:
    kernel = image(release)
    frame = kernel.frames[RESTORED][3]
    assert frame is not None
    take(kernel, frame)
    ((rule, folio, index, message),) = errors(kernel)
    assert (rule, folio, index) == ("frame-foreign", RESTORED, 3)
    assert message.startswith(f"frame {frame:#x} belongs to {words}")


def test_a_tails_owner_is_named_by_its_head() -> None:
    kernel = image("6.12.0")
    frame = kernel.frames[RESTORED][3]
    assert frame is not None
    tail(kernel, frame)
    ((*_, message),) = errors(kernel)
    assert message.endswith(f"leads to the head at PFN {frame & -8:#x})")


@every_owner
@pytest.mark.parametrize("level", ("PTE", "PMD"))
def test_a_page_table_over_the_vmemmap_that_belongs_to_somebody_else_is_found(
    level: str, words: str, take: Callable[[Image, int], None]
) -> None:
    kernel = image("6.12.0")
    table = kernel.entry_address(OPTIMIZED, 0, level) >> 12
    take(kernel, table)
    if take is page_table:
        # Recent kernels mark their own page tables, too.
        assert errors(kernel) == []
        return
    ((rule, folio, index, message),) = errors(kernel)
    assert (rule, folio, index) == ("frame-foreign", None, None)
    assert message.startswith(f"frame {table:#x}, the page table over the vmemmap from ")
    assert f"belongs to {words}" in message


@pytest.mark.parametrize("level", ("PTE", "PMD"))
@every_line
def test_a_page_table_over_the_vmemmap_in_the_buddy_allocator_is_found(
    release: str, level: str
) -> None:
    kernel = image(release)
    table = kernel.entry_address(OPTIMIZED, 0, level) >> 12
    kernel.memmap.free([table])
    ((rule, _, _, message),) = errors(kernel)
    assert rule == "table-freed"
    assert f"frame {table:#x} is free, in the buddy allocator's block" in message


@every_line
def test_a_page_table_of_a_process_is_told_from_one_over_the_vmemmap(release: str) -> None:
    """Both have the page type of tables, and a process is charged for its own."""
    kernel = image(release)
    table = kernel.entry_address(OPTIMIZED, 0) >> PAGE_SHIFT
    page_table(kernel, table)
    stack(kernel, table)
    ((rule, *_, message),) = errors(kernel)
    assert rule == "frame-foreign"
    assert f"belongs to a memory cgroup that is charged for it (memcg_data {CHARGE:#x})" in message


@pytest.mark.parametrize("member", ("compound_head", "memcg_data"))
def test_list_poison_is_no_mark_of_an_owner(member: str) -> None:
    """A page that was on a list of its CPU before has it where a tail has its link."""
    kernel = image("6.12.0")
    frame = kernel.frames[RESTORED][3]
    assert frame is not None
    for poison in (0xDEAD000000000100, 0xDEAD000000000122):
        kernel.write_page(frame, **{member: poison})
        assert errors(kernel) == []


def test_a_page_table_without_references_is_not_accused() -> None:
    kernel = image("6.12.0")
    kernel.write_page(kernel.entry_address(OPTIMIZED, 0) >> 12, _refcount=0)
    assert errors(kernel) == []


@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_each_free_frame_of_a_split_block_is_found(release: str) -> None:
    """A block that hot-plugged vmemmap was allocated in, of which 511 frames were freed."""
    line = LINES[release]
    machine = Machine(
        line=line, folios=(Folio(RESTORED, remapped=False),), split=frozenset((pmd_of(RESTORED),))
    )
    kernel = Image(machine)
    first = kernel.memmap.boot_frame(kernel.memmap.number(RESTORED >> 15 << 15))
    kernel.memmap.allocate(first)
    kernel.memmap.free(range(first + 1, first + 512))
    found = errors(kernel)
    assert len(found) == 511
    assert {rule for rule, *_ in found} == {"frame-freed"}


@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_each_free_frame_under_a_large_leaf_is_found(release: str) -> None:
    kernel = Image(
        Machine(line=LINES[release], folios=(Folio(OPTIMIZED), Folio(UNSPLIT, remapped=False)))
    )
    first = kernel.memmap.boot_frame(kernel.memmap.number(UNSPLIT)) >> 9 << 9
    kernel.memmap.allocate(first)
    kernel.memmap.free(range(first + 1, first + 512))
    found = errors(kernel)
    assert len(found) == 511
    assert {rule for rule, *_ in found} == {"frame-freed"}


@every_owner
def test_a_frame_under_a_large_leaf_that_belongs_to_somebody_else_is_found(
    words: str, take: Callable[[Image, int], None]
) -> None:
    kernel = Image(
        Machine(line=LINES["6.12.0"], folios=(Folio(OPTIMIZED), Folio(UNSPLIT, remapped=False)))
    )
    frame = kernel.memmap.boot_frame(kernel.memmap.number(UNSPLIT) + 3)
    take(kernel, frame)
    ((rule, folio, index, message),) = errors(kernel)
    assert (rule, folio, index) == ("frame-foreign", UNSPLIT, 3)
    assert f"belongs to {words}" in message


def test_a_zones_tail_frame_that_belongs_to_somebody_else_is_found_once() -> None:
    kernel = Image(Machine(line=LINES["7.2.0"], folios=(Folio(OPTIMIZED), Folio(OPTIMIZED + 512))))
    (frame,) = kernel.tail_frames.values()
    page_cache(kernel, frame)
    ((rule, folio, index, _),) = errors(kernel)
    assert (rule, folio, index) == ("frame-foreign", OPTIMIZED, 1)


def test_a_frame_whose_struct_page_was_never_written_is_nobodys() -> None:
    kernel = image("6.12.0")
    frame = kernel.frames[RESTORED][3]
    assert frame is not None
    members = ("flags", "compound_head", "mapping", "page_type")
    sizes = kernel.types.structs["page"].members
    kernel.write_page(frame, **{name: (1 << 8 * sizes[name].size) - 1 for name in members})
    reader = OwnerReader(Snapshot(discover(kernel.prog), ProgramMemory(kernel.prog)))
    assert reader.owner(frame) is None


def test_what_is_missing_is_not_accused() -> None:
    kernel = EditedKernel(image("6.12.0").prog)
    table = kernel.walker().entry(kernel.kernel.geometry.address(OPTIMIZED)).raw_address >> 12
    entry = kernel.walker().entry(kernel.kernel.geometry.address(table))
    assert entry.frame is not None
    kernel.memory.missing.add(entry.frame)
    report = kernel.check()
    assert not report.broken
    messages = [f.message for f in report.findings if f.rule == "unreadable"]
    assert any("page tables over the vmemmap are not in the dump" in each for each in messages)


@pytest.mark.parametrize("release", [r for r in LINES if LINES[r].mark is Mark.TYPE])
def test_a_hugetlb_type_without_a_head_is_no_owner(release: str) -> None:
    """Linux 6.12 leaves such struct pages; the pages may back vmemmap later on."""
    kernel = image(release)
    frame = kernel.frames[RESTORED][3]
    assert frame is not None
    kernel.write_page(frame, page_type=kernel.machine.line.page_type("hugetlb"))
    reader = OwnerReader(Snapshot(discover(kernel.prog), ProgramMemory(kernel.prog)))
    assert reader.owner(frame) is None


@pytest.mark.parametrize(
    ("owner", "words"),
    (
        (FrameOwner(OwnerKind.SLAB), "slab"),
        (FrameOwner(OwnerKind.PAGE_CACHE, FILE), f"the page cache (mapping {FILE:#x})"),
        (FrameOwner(OwnerKind.ANONYMOUS, ANONYMOUS), f"anonymous memory (mapping {ANONYMOUS:#x})"),
        (FrameOwner(OwnerKind.MAPPED, 3), "processes that map it (3 times)"),
        (FrameOwner(OwnerKind.COMPOUND_TAIL, 1), "(compound_head leads to the head outside the"),
    ),
)
def test_an_owner_is_named_with_what_is_known_of_it(owner: FrameOwner, words: str) -> None:
    prog = image("6.12.0").prog
    reader = OwnerReader(Snapshot(discover(prog), ProgramMemory(prog)))
    assert words in reader.describe(OPTIMIZED, owner)
    assert ("(" in words) == ("(" in reader.describe(OPTIMIZED, owner))


@pytest.mark.parametrize(
    ("bits", "kind"),
    (
        (0, OwnerKind.PAGE_CACHE),
        (1, OwnerKind.ANONYMOUS),
        (2, OwnerKind.MOVABLE),
        (3, OwnerKind.ANONYMOUS),
    ),
)
def test_the_low_bits_of_mapping_say_whose_page_it_is(bits: int, kind: OwnerKind) -> None:
    of = image("6.12.0")
    of.write_page(UNSPLIT, mapping=FILE | bits, page_type=0, _refcount=2)
    reader = OwnerReader(Snapshot(discover(of.prog), ProgramMemory(of.prog)))
    assert reader.owner(UNSPLIT) == FrameOwner(kind, FILE | bits)


def test_a_zones_frame_for_no_folio_that_belongs_to_somebody_else_is_found() -> None:
    broken = image("7.2.0")
    ((key, _),) = broken.tail_frames.items()
    frame = UNSPLIT + 9
    broken.write(broken.tail_slot(*key[:2], 18), broken.machine.page_address(frame))
    page_cache(broken, frame)
    (finding,) = (each for each in verify(broken.prog).findings if each.rule == "frame-foreign")
    assert (finding.folio, finding.address) == (None, broken.machine.page_address(frame))
    assert finding.message.startswith(f"frame {frame:#x} belongs to the page cache")
