# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a PFN is where it is no plain memory, and what struct pages hold, by their names."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.dump.explained_log import explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import AddressKind, Explanation
from drgn_vmemmap.explain.dump.places import Place, Places
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.text.read import logical_lines
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.output.explanation import text
from drgn_vmemmap.output.explanation_document import document
from drgn_vmemmap.output.logged import rest_of_log
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedKernel
from tests.support import recorded, shared_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, GIB, SECTION_PAGES, Folio, Machine, Section

LAST = GIB // 4096 // SECTION_PAGES - 1
"""Number of the last section of the first node."""


def image(section: Section | None, release: str = "6.12.0") -> Image:
    sections = {} if section is None else {LAST: section}
    return Image(
        Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),), sections=sections, orders=(9,))
    )


def explained(of: Image, what: str) -> Explanation:
    return Explainer.of_program(of.prog).explain(parse(what))


@pytest.mark.parametrize(
    ("section", "place", "words"),
    (
        (None, Place.ONLINE, ""),
        (Section.OFFLINE, Place.OFFLINE, "is offline memory: its struct page is not in use"),
        (Section.HOST, Place.ONLINE, ""),
        (Section.DEVICE, Place.DEVICE, "is memory of a device"),
    ),
    ids=("memory", "offline", "self-hosted", "device"),
)
def test_a_pfn_is_called_what_it_is(section: Section | None, place: Place, words: str) -> None:
    of = image(section)
    pfn = LAST * SECTION_PAGES + 0x1234
    explanation = explained(of, f"{of.machine.page_address(pfn):#x}")
    assert explanation.page is not None and explanation.page.place is place
    assert words in text(explanation)
    page = document(explanation)["page"]
    assert page["memory"] == place.name.lower().replace("_", "-")


def test_nobody_has_written_how_offline_memory_is_used() -> None:
    of = image(Section.OFFLINE_HOST)
    pfn = LAST * SECTION_PAGES + 0x1234
    for what in f"pfn:{pfn:#x}", f"{of.machine.page_offset + (pfn << 12):#x}":
        explanation = explained(of, what)
        assert explanation.frame_state == Place.OFFLINE.value
        assert f"frame {pfn:#x}: is offline memory" in text(explanation)
    # Its memory holds its own memmap, so that the frames of that are offline, too.
    explanation = explained(of, f"{of.machine.page_address(pfn):#x}")
    assert explanation.frame_state == Place.OFFLINE.value


@pytest.mark.parametrize("link", ((1 << 64) - 1, None))
@pytest.mark.parametrize("release", ("5.15.0", "6.12.0", "7.2.0"))
def test_a_poisoned_struct_page_holds_nothing(release: str, link: int | None) -> None:
    """``PagePoisoned()`` asks for the flags alone."""
    of, pfn = image(None, release), FIRST_FOLIO + 0x1234
    frame = of.memmap.boot_frame(of.memmap.number(pfn))
    of.memory.frames[frame] = b"\xff" * 4096
    if link is None:
        link = of.machine.page_address(pfn - 0x34) | 1
    of.write_page(pfn, **{LINES[release].compound_member: link})
    explanation = explained(of, f"pfn:{pfn:#x}")
    assert explanation.frame_state is not None and "is poisoned" in explanation.frame_state
    assert "it holds nothing: it is poisoned" in text(explanation)
    assert "tail" not in text(explanation)


def test_a_frame_is_used_as_its_own_struct_page_says_whatever_it_describes() -> None:
    """The vmemmap of a section that was removed, and that is still mapped."""
    of = image(None)
    roots = of.memory.read_u64(of.physical(of.variables["mem_section"][1]))
    root = of.memory.read_u64(of.physical(roots))
    of.write(root + 5 * of.types.structs["mem_section"].size, 0)
    explanation = explained(of, f"{of.machine.page_address(5 * SECTION_PAGES):#x}")
    assert explanation.page is not None and explanation.page.place is Place.NO_MEMMAP
    assert explanation.frame_state == "in use, reference count 1"
    assert f"frame {explanation.frame:#x}: in use" in text(explanation)


def test_a_log_that_names_offline_memory_says_so() -> None:
    of = image(Section.OFFLINE)
    pfn = LAST * SECTION_PAGES + 0x1234
    lines = f"Memory failure: {pfn:#x}: memory outside kernel control\nmigrating pfn fffff0 failed"
    found = explain_log(
        Explainer.of_program(of.prog), logical_lines(lines), Boot.of_program(of.prog)
    )
    said = "\n".join(rest_of_log(found))
    assert f"pfn:{pfn:#x} (is offline memory" in said
    assert "pfn:0xfffff0 (beyond the end of physical memory)" in said


@pytest.mark.parametrize("release", ("5.15.0", "6.12.0", "7.2.0"))
def test_a_struct_page_after_the_last_section_does_not_exist(release: str) -> None:
    of = image(None, release)
    beyond = of.machine.max_pfn + 10 * SECTION_PAGES
    explanation = explained(of, f"{of.machine.page_address(beyond) + 8:#x}")
    assert explanation.kind is AddressKind.VMEMMAP
    assert explanation.page is not None
    assert (explanation.page.pfn, explanation.page.place) == (beyond, Place.NO_MEMMAP)
    assert "faults" in explanation.read and "faults" in explanation.write
    assert explanation.concerns_hugetlb and not explanation.incomplete


def test_there_can_be_sections_for_all_memory_that_a_machine_can_have() -> None:
    prog = shared_vmcore("head-reuse")
    # MAX_PHYSMEM_BITS of arch/x86/include/asm/sparsemem.h, with five levels of page tables.
    assert Places(Snapshot(discover(prog), ProgramMemory(prog))).end == 1 << (52 - 12)


def test_an_address_after_all_that_a_vmemmap_can_describe_is_none_of_it() -> None:
    of = image(None)
    assert explained(of, "0xfffffe0000001000").kind is AddressKind.KERNEL


def test_a_frame_that_backs_many_pages_backs_them_in_one_range() -> None:
    """Each page table covers 512 of the 4096 vmemmap pages of a folio of 1 GiB."""
    folio = Folio(GIB // 4096, order=18)
    of = Image(Machine(node_size=3 * GIB, folios=(folio,)))
    explanation = explained(of, f"{of.machine.page_address(folio.pfn + 5):#x}")
    (mapper,) = explanation.mapping.mappers
    assert mapper.pages == ((0, 4095),)
    assert "backs vmemmap pages 0-4095 of folio" in text(explanation)


def test_an_entry_of_the_direct_map_that_is_not_in_the_dump_may_allow_a_write() -> None:
    prog = shared_vmcore("oops")
    (folio,) = (each for each in recorded("oops")["folios"] if each["pfn"] == 0x2400)
    base = discover(prog).direct_map or 0
    explanation = Explainer.of_program(prog).explain(
        parse(hex(base + folio["reuse_frame"] * 4096 + 0x340))
    )
    assert explanation.kind is AddressKind.DIRECT_MAP
    assert explanation.write.endswith(
        "changes 8 vmemmap pages, unless the entry that is not in the dump forbids it"
    )


def test_where_the_direct_map_is_must_be_in_the_dump() -> None:
    assert discover(shared_vmcore("head-reuse")).direct_map is None


def test_a_write_by_the_direct_map_into_a_shared_tail_is_warned_of() -> None:
    of = image(None)
    frame = of.frames[FIRST_FOLIO][0] or 0
    shared = explained(of, f"{of.machine.page_offset + frame * 4096 + 0x174:#x}")
    assert shared.kind is AddressKind.DIRECT_MAP
    assert "goes unnoticed, and changes 8 vmemmap pages" in shared.write
    assert f"a write there {shared.write}" in text(shared)
    other = explained(of, f"{of.machine.page_offset + FIRST_FOLIO * 4096:#x}")
    assert other.write == ""


# What a struct page holds, on a recorded kernel.


class InUse(EditedKernel):
    """A recorded kernel, and a page of it that is in use, and of no HugeTLB folio."""

    def __init__(self) -> None:
        prog = shared_vmcore("head-reuse")
        super().__init__(prog)
        self.names = page_names(prog)
        self.pfn = self.frame(self.optimized[0], 0)

    def explained(self) -> Explanation:
        return Explainer(self.snapshot(), self.names).explain(parse(f"pfn:{self.pfn:#x}"))


@pytest.mark.parametrize(
    ("count", "words"),
    (
        (1, "in use, reference count 1"),
        (0, "reference count 0: frozen, on a per-CPU list, or on its way"),
        (0xFFFFFFFF, "reference count -1: more references were dropped than taken"),
    ),
)
def test_a_count_is_what_it_is(count: int, words: str) -> None:
    kernel = InUse()
    kernel.write_member(kernel.pfn, "refcount", count)
    assert words in (kernel.explained().frame_state or "")


def test_a_page_with_a_type_and_without_a_reference_is_frozen() -> None:
    kernel = InUse()
    kernel.write_member(kernel.pfn, "refcount", 0)
    kernel.write_member(kernel.pfn, "page_type", 0xF5000000)
    assert kernel.explained().frame_state == "reference count 0 (frozen), type slab"


def test_flags_have_the_kernels_names() -> None:
    kernel = InUse()
    flags = kernel.kernel.geometry.address(kernel.pfn)
    word = int.from_bytes(kernel.walker().read(flags, 8), "little")
    kernel.write_member(kernel.pfn, "flags", word | 1 | 1 << 6)
    explanation = kernel.explained()
    assert explanation.page is not None and explanation.page.contents is not None
    assert explanation.page.contents.flag_names == ["locked", "head"]
    assert "it holds locked|head (" in text(explanation)


@pytest.mark.parametrize(
    ("name", "index"), (("head-reuse", 9), ("head-reuse", 64), ("shared-tail", 64))
)
def test_a_tail_of_a_folio_in_use_is_in_use(name: str, index: int) -> None:
    # With head-reuse, each 64th struct page is read as the head.
    active = next(f for f in recorded(name)["folios"] if f["state"] == "active")
    explanation = Explainer.of_program(shared_vmcore(name)).explain(
        parse(f"pfn:{active['pfn'] + index:#x}")
    )
    state = explanation.frame_state or ""
    assert state.startswith(
        f"a tail of the compound page at {active['pfn']:#x}: in use, reference count"
    )
    assert "type hugetlb" in state


def test_a_tail_that_is_read_from_the_heads_frame_holds_the_folios_members() -> None:
    active = next(f["pfn"] for f in recorded("head-reuse")["folios"] if f["state"] == "active")
    explainer = Explainer.of_program(shared_vmcore("head-reuse"))
    for tail in (1, 2, 3):
        pages = [
            explainer.explain(parse(f"pfn:{active + number:#x}")).page
            for number in (tail, 64 + tail, 448 + tail)
        ]
        first, *others = [None if page is None else page.contents for page in pages]
        assert first is not None and first.mapping is None
        assert ("order", 9) in first.of_folio or tail > 1
        assert others == [first, first]


def test_a_kernel_without_names_for_flags_is_explained_without_them() -> None:
    of = image(None, "5.15.0")
    names = page_names(of.prog)._replace(flags=())
    snapshot = Snapshot(discover(of.prog), ProgramMemory(of.prog))
    explanation = Explainer(snapshot, names).explain(parse(f"pfn:{FIRST_FOLIO:#x}"))
    assert "it holds flags 0x" in text(explanation)
