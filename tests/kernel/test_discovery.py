# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a kernel is, where it has fewer variables than most."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import drgn
import pytest

from drgn_vmemmap import CannotAnalyse, discover, examine, verify
from drgn_vmemmap.errors import MissingFacts
from drgn_vmemmap.kernel import memory_model
from drgn_vmemmap.kernel.c_types import enumerators, find_member, named_members
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.kernel.struct_page import struct_page
from drgn_vmemmap.kernel.structs import Member, Struct
from tests.support import open_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine
from tests.synthetic.physical import PAGE_SIZE


class ConstantLayout(Machine):
    """A machine that moves neither its direct map nor its vmemmap."""

    page_offset = 0xFFFF888000000000
    vmemmap = 0xFFFFEA0000000000


FOLIOS = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False))


@pytest.mark.parametrize("release", ("5.15.0", "6.1.0", "6.12.0", "7.2.0"))
def test_without_vmemmap_base_the_sections_say_where_the_vmemmap_is(release: str) -> None:
    image = Image(ConstantLayout(line=LINES[release], folios=FOLIOS))
    expected = list(examine(image.prog).folios)
    image = Image(ConstantLayout(line=LINES[release], folios=FOLIOS))
    for name in ("vmemmap_base", "page_offset_base"):
        del image.variables[name]
    report = verify(image.prog)
    assert list(report.folios) == expected
    assert {finding.rule for finding in report.findings} == {"unoptimized"}
    assert (report.kernel.vmemmap, report.kernel.direct_map) == (
        ConstantLayout.vmemmap,
        ConstantLayout.page_offset,
    )


def test_sections_that_disagree_are_of_no_virtual_memmap() -> None:
    image = Image(ConstantLayout(line=LINES["6.1.0"], folios=FOLIOS))
    del image.variables["vmemmap_base"]
    roots = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    root = image.memory.read_u64(image.physical(roots))
    encoded = image.memory.read_u64(image.physical(root))
    image.write(root, encoded + (1 << 30))
    with pytest.raises(CannotAnalyse, match="no virtual memmap"):
        examine(image.prog)


def test_threads_find_out_at_once_what_a_program_is() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        prog = open_vmcore("head-reuse")
        with ThreadPoolExecutor(4) as pool:
            kernels = list(pool.map(discover, [prog] * 4))
    finally:
        sys.setswitchinterval(before)
    assert {kernel.types_from for kernel in kernels} == {"btf"}
    assert len({kernel.vmemmap for kernel in kernels}) == 1


# What a damaged dump may say of its types and itself.

X86_64 = drgn.Platform(drgn.Architecture.X86_64)


@pytest.mark.parametrize(
    ("error", "words"),
    (
        (OverflowError, r"contradicts itself \(OverflowError"),
        (ZeroDivisionError, r"contradicts itself \(ZeroDivisionError"),
        (MemoryError, "more memory than this process may have"),
    ),
)
def test_facts_that_cannot_be_computed_are_damage_or_lack_memory(
    error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lookup: Lookup) -> None:
        raise error

    monkeypatch.setattr(memory_model, "sections", fail)
    with pytest.raises(CannotAnalyse, match=words):
        examine(Image(Machine(folios=FOLIOS)).prog)


def lookup_of(size: int, offset: int = 0, bit: int = 0) -> Lookup:
    """A kernel that has one structure with one member, and one enumeration with one constant."""
    prog = drgn.Program(X86_64)
    number = prog.int_type("unsigned long", 8, False)
    member = drgn.TypeMember(number, "flags", offset * 8)
    types = {
        "page": prog.struct_type("page", size, (member,)),
        "pageflags": prog.enum_type("pageflags", number, (drgn.TypeEnumerator("PG_head", bit),)),
    }
    prog.register_type_finder("test", lambda _, kinds, name, file: types[name], enable_index=0)
    return Lookup(prog, {})


@pytest.mark.parametrize(("size", "offset"), ((0, 0), (1 << 40, 0), (64, 60), (64, 1 << 30)))
def test_a_structure_that_cannot_be_is_damage(size: int, offset: int) -> None:
    with pytest.raises(CannotAnalyse, match=r"struct page is .* bytes, which is impossible"):
        lookup_of(size, offset).struct("struct page", flags=["flags"])
    assert lookup_of(64, 56).struct("struct page", flags=["flags"]).size == 64


def made_of_itself(prog: drgn.Program, number: int) -> drgn.Type:
    """A structure with unnamed members of its own type, and one that has a name."""
    types: list[drgn.Type] = []
    unnamed = drgn.TypeMember(lambda: drgn.Object(prog, types[0]), None, 0)
    named = drgn.TypeMember(prog.int_type("unsigned long", 8, False), "flags", 0)
    types.append(prog.struct_type("page", 64, (*[unnamed] * number, named)))
    return types[0]


@pytest.mark.parametrize("number", (3, 20_000))
def test_a_structure_that_is_made_of_itself_is_damage(number: int) -> None:
    type_ = made_of_itself(drgn.Program(X86_64), number)
    with pytest.raises(ValueError, match="struct page has more members than any type"):
        find_member(type_, "of_no_member")
    with pytest.raises(ValueError, match="more members"):
        list(named_members(type_))


def test_a_structure_that_is_its_own_first_member_is_not_followed_without_an_end() -> None:
    type_ = made_of_itself(drgn.Program(X86_64), 1)
    assert find_member(type_, "flags") == Member(0, 8, 1)
    assert find_member(type_, "of_no_member") is None


def test_members_of_unnamed_members_are_found_by_their_names() -> None:
    prog = drgn.Program(X86_64)
    number = prog.int_type("unsigned int", 4, False)
    member = drgn.TypeMember
    inner = prog.union_type(None, 8, (member(number, "a"), member(number, "b", 32)))
    spare = prog.struct_type(None, 8, (member(prog.typedef_type("u", inner), "named"),))
    page = prog.struct_type("page", 24, (member(inner, None, 64), member(spare, None, 128)))
    assert find_member(page, "b") == Member(12, 4, 1)
    assert find_member(page, "named.b") == Member(20, 4, 1)
    assert find_member(page, "a.b") is find_member(page, "c") is None
    assert [name for name, _ in named_members(page)] == ["a", "b", "named"]


def test_a_type_that_is_not_complete_has_no_members_and_no_size() -> None:
    prog = drgn.Program(X86_64)
    incomplete = prog.struct_type("page")
    holder = prog.struct_type("folio", 8, (drgn.TypeMember(incomplete, "page"),))
    assert find_member(incomplete, "flags") is None
    assert find_member(holder, "page") is find_member(holder, "page.flags") is None
    assert list(named_members(incomplete)) == []
    flexible = prog.array_type(prog.int_type("int", 4, True))
    last = prog.struct_type("last", 4, (drgn.TypeMember(flexible, "rest", 32),))
    assert find_member(last, "rest") == Member(4, 4, 0)
    declared = prog.enum_type("pageflags")
    prog.register_type_finder("test", lambda *_: declared, enable_index=0)
    assert enumerators(prog, "enum pageflags") == {}


@pytest.mark.parametrize("bit", (64, 1 << 40, (1 << 64) - 1))
def test_the_number_of_a_bit_that_no_word_has_is_damage(bit: int) -> None:
    with pytest.raises(CannotAnalyse, match=r"PG_head is .*, which is impossible"):
        lookup_of(64, bit=bit).enumerators("enum pageflags")
    assert lookup_of(64, bit=63).enumerators("enum pageflags") == {"PG_head": 63}


@pytest.mark.parametrize("refcount", (Member(52, 68, 1), Member(52, 4, 2), Member(50, 4, 1)))
def test_a_member_of_struct_page_that_is_no_number_is_damage(
    refcount: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lookup, "struct", lambda *_, **__: Struct(64, {"refcount": refcount}))
    with pytest.raises(CannotAnalyse, match="refcount in struct page is no number"):
        struct_page(lookup_of(64))


@pytest.mark.parametrize("mapping", (0, 8))
def test_members_of_struct_page_in_the_same_place_are_damage(
    mapping: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"flags": 0, "lru": 8, "compound_head": 8, "mapping": mapping}
    page = Struct(64, {name: Member(offset, 8, 1) for name, offset in members.items()})
    monkeypatch.setattr(Lookup, "struct", lambda *_, **__: page)
    with pytest.raises(CannotAnalyse, match="mapping in struct page are in the same place"):
        struct_page(lookup_of(64))


def test_a_section_that_no_page_holds_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    struct = Lookup.struct

    def larger(lookup: Lookup, type_name: str, *args: Any, **options: Any) -> Struct:
        found = struct(lookup, type_name, *args, **options)
        return Struct(8192, found.members) if type_name == "struct mem_section" else found

    monkeypatch.setattr(Lookup, "struct", larger)
    with pytest.raises(
        CannotAnalyse, match="struct mem_section is 8192 bytes, which is impossible"
    ):
        examine(Image(Machine(folios=FOLIOS)).prog)


class AnotherKernels(Image):
    """A kernel whose VMCOREINFO contradicts its types."""

    @property
    def vmcoreinfo(self) -> str:
        return super().vmcoreinfo.replace("SIZE(page)=64", "SIZE(page)=72")


def test_types_of_another_size_than_vmcoreinfo_says_are_another_kernels() -> None:
    with pytest.raises(CannotAnalyse, match="the symbols are another kernel's"):
        examine(AnotherKernels(Machine(folios=FOLIOS)).prog)


class WithPageType(Image):
    """A kernel whose VMCOREINFO says so of a page type."""

    name, value = "", 0

    @property
    def vmcoreinfo(self) -> str:
        line = f"NUMBER({self.name})={self.value}"
        return re.sub(rf"NUMBER\({self.name}\)=.*", line, super().vmcoreinfo)


# Of -268435456 and -129, a digit less, a digit more, or none of it.
@pytest.mark.parametrize("value", (-26843545, -2684354561, -12, -1299, -1, 1, 4096))
@pytest.mark.parametrize("name", ("BUDDY", "HUGETLB"))
def test_a_page_type_that_none_can_be_is_damage(name: str, value: int) -> None:
    image = WithPageType(Machine(folios=FOLIOS))
    image.name, image.value = f"PAGE_{name}_MAPCOUNT_VALUE", value
    with pytest.raises(
        MissingFacts, match=f"{image.name} is 0x.*, which is impossible: damaged dump"
    ):
        verify(image.prog)


@pytest.mark.parametrize("base", (0, 0xFFFFEA0000000123, 0x7FFF00000000))
def test_a_vmemmap_that_is_nowhere_is_damage(base: int) -> None:
    image = Image(Machine(folios=FOLIOS))
    image.write(image.variables["vmemmap_base"][1], base)
    with pytest.raises(CannotAnalyse, match=f"vmemmap_base is {base:#x}, which is impossible"):
        examine(image.prog)


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_a_vmemmap_base_that_no_section_confirms_accuses_no_folio(release: str) -> None:
    image = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),)))
    base = image.machine.vmemmap ^ 1 << 20
    image.write(image.variables["vmemmap_base"][1], base)
    said = f"{base:#x}, and the sections have their memmap at {image.machine.vmemmap:#x}: damaged"
    with pytest.raises(MissingFacts, match=said):
        verify(image.prog)


def test_a_section_that_contradicts_vmemmap_base_and_other_sections_is_not_believed() -> None:
    image = Image(Machine(folios=(Folio(FIRST_FOLIO),)))
    roots = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    root = image.memory.read_u64(image.physical(roots))
    image.write(root, image.memory.read_u64(image.physical(root)) ^ 1 << 20)
    assert len(verify(image.prog).folios) == 1


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_a_hstate_that_has_an_order_is_counted(release: str) -> None:
    """Folios of a pool that the kernel does not count would be nobody's."""
    image = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),)))
    image.write(image.variables["hugetlb_max_hstate"][1], 0, 4)
    with pytest.raises(MissingFacts, match="hugetlb_max_hstate is 0, but a hstate has an order"):
        verify(image.prog)


def test_where_hstates_are_not_in_the_dump_a_count_of_none_is_believed() -> None:
    image = Image(Machine(folios=()))
    image.write(image.variables["hugetlb_max_hstate"][1], 0, 4)
    type_name, address = image.variables["hstates"]
    image.variables["hstates"] = (type_name, address + (1 << 29))
    assert verify(image.prog).hstates == []


def test_sections_that_agree_on_no_kernel_address_do_not_contradict_vmemmap_base() -> None:
    image = Image(Machine(folios=(Folio(FIRST_FOLIO),)))
    roots = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    root = image.memory.read_u64(image.physical(roots))
    for address in range(root, root + PAGE_SIZE, 8):
        encoded = image.memory.read_u64(image.physical(address))
        if encoded & -PAGE_SIZE == image.machine.vmemmap:
            image.write(address, encoded ^ 1 << 63)
    assert discover(image.prog).vmemmap == image.machine.vmemmap


@pytest.mark.parametrize("missing", (True, False))
def test_sections_that_say_nothing_of_the_vmemmap_leave_none(missing: bool) -> None:
    image = Image(ConstantLayout(line=LINES["6.1.0"], folios=FOLIOS))
    del image.variables["vmemmap_base"]
    roots = image.physical(image.memory.read_u64(image.physical(image.variables["mem_section"][1])))
    root = image.physical(image.memory.read_u64(roots))
    if missing:
        image.drop_frame(root >> 12)
    else:
        image.memory.write_u64(roots, 0)
    with pytest.raises(CannotAnalyse, match="no virtual memmap"):
        examine(image.prog)
