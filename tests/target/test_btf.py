# SPDX-License-Identifier: LGPL-2.1-or-later

"""BTF: real kernels' types are read as the kernels mean them, and damage is reported."""

from __future__ import annotations

import re
import struct

import drgn
import pytest

from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target import types
from drgn_vmemmap.target.btf import Btf, Record
from drgn_vmemmap.target.btf_kinds import BtfError, Kind
from drgn_vmemmap.target.btf_types import BtfTypes
from tests.support import VMCORES, open_vmcore, recorded

KERNELS = {recorded(path.stem)["kernel"]["release"]: path for path in VMCORES}
"""A recorded vmcore of each kernel."""


@pytest.fixture(params=KERNELS.values(), ids=lambda path: path.stem)
def prog(request: pytest.FixtureRequest) -> drgn.Program:
    """A recorded vmcore, with types from its BTF."""
    prog = open_vmcore(request.param)
    discover(prog)
    return prog


def blob_of(prog: drgn.Program) -> bytes:
    start = prog.symbol("__start_BTF").address
    return bytes(prog.read(start, prog.symbol("__stop_BTF").address - start))


def btf_of(data: bytes) -> Btf:
    return Btf(len(data), lambda offset, size: data[offset : offset + size])


def test_sizes_and_offsets_are_those_that_the_kernel_itself_has(prog: drgn.Program) -> None:
    vmcoreinfo = prog["VMCOREINFO"].string_().decode()
    sizes = re.findall(r"^SIZE\((page|zone|list_head|free_area)\)=(\d+)$", vmcoreinfo, re.M)
    offsets = re.findall(r"^OFFSET\((page|zone)\.([a-z_.]+)\)=(\d+)$", vmcoreinfo, re.M)
    assert len(sizes) == 4
    assert len(offsets) > 5
    for name, size in sizes:
        assert prog.type(f"struct {name}").size == int(size)
    for name, member, offset in offsets:
        assert drgn.offsetof(prog.type(f"struct {name}"), member) == int(offset)


@pytest.mark.long
def test_every_type_of_a_kernel_can_be_made_to_its_members(prog: drgn.Program) -> None:
    btf = btf_of(blob_of(prog))
    types = BtfTypes(prog, btf)
    made = 0
    for type_id in range(1, len(btf), 7):
        if btf.record(type_id).kind in (Kind.DATASEC, Kind.DECL_TAG):
            continue
        type_ = types.type(type_id)
        if type_.kind in (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION) and type_.is_complete():
            for member in type_.members or ():
                assert member.type is not None
        made += 1
    assert made > 10000


def test_types_in_order_of_their_use_are_read_no_further_than_they_are_needed() -> None:
    prog = open_vmcore("head-reuse")
    discover(prog)
    data, read = blob_of(prog), list[int]()

    def counted(offset: int, size: int) -> bytes:
        read.append(size)
        return data[offset : offset + size]

    btf = Btf(len(data), counted)
    before = sum(read)
    assert next(btf.find("page", (Kind.STRUCT,))).name == "page"
    assert sum(read) - before < len(data) // 8
    assert len(btf) > 10000
    assert sum(read) <= len(data)


def test_bit_fields_have_their_width(prog: drgn.Program) -> None:
    members = {member.name: member for member in prog.type("struct sched_dl_entity").members or ()}
    assert members["dl_throttled"].bit_field_size == 1


def blob(types: bytes, strings: bytes = b"\0a\0b\0", magic: int = 0xEB9F) -> bytes:
    header = struct.pack("<HBBIIIII", magic, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings


def type_of(kind: int, size_or_type: int = 0, *words: int, name: int = 1, count: int = 0) -> bytes:
    info = kind << 24 | count
    return struct.pack(f"<{3 + len(words)}I", name, info, size_or_type, *words)


INT = type_of(Kind.INT, 4, 32)


def test_a_cut_off_blob_is_refused(prog: drgn.Program) -> None:
    complete = blob_of(prog)
    for size in (0, 10, 24, 1000, len(complete) // 2, len(complete) - 1):
        with pytest.raises(BtfError, match="cut off"):
            btf_of(complete[:size])


@pytest.mark.long
@pytest.mark.parametrize("more", (0, 1, 1 << 25))
def test_what_lies_after_a_blob_is_none_of_it(
    prog: drgn.Program, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the symbol of its end is damaged, its own header says how large it is."""
    start, end = types.btf_addresses(prog)
    monkeypatch.setattr(types, "btf_addresses", lambda _: (start, end + more))
    assert types.btf_span(prog) == (start, len(blob_of(prog)))
    monkeypatch.setattr(types, "btf_addresses", lambda _: (start, start + 100))
    assert types.btf_span(prog) == (start, 100)


def test_types_that_end_in_the_middle_of_one_are_refused() -> None:
    with pytest.raises(BtfError, match="cut off"):
        len(btf_of(blob(INT[:-4])))


@pytest.mark.parametrize("last", (INT[:-4], type_of(25)))
def test_a_type_that_cannot_be_used_is_refused_each_time(last: bytes) -> None:
    btf = btf_of(blob(INT + INT + last))
    for _ in range(2):
        with pytest.raises(BtfError, match=r"cut off|kind 25"):
            btf.record(3)
        assert [btf.record(type_id).id for type_id in (1, 2)] == [1, 2]


def test_another_byte_order_is_refused() -> None:
    with pytest.raises(BtfError, match="byte order"):
        btf_of(blob(INT, magic=0x9FEB))


def test_what_is_no_btf_is_refused() -> None:
    with pytest.raises(BtfError, match="begin"):
        btf_of(blob(INT, magic=0x1234))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BtfError, match="kind 25"):
        len(btf_of(blob(INT + type_of(25))))


LOCATION, LATER = 20, 40
"""Numbers of kinds that newer kernels have, or may have."""


def blob_with_layout(
    types: bytes, end: int = LATER + 1, location: tuple[int, int] = (4, 4)
) -> bytes:
    """
    A blob that says how large the types of each kind before *end* are.

    :param location: Bytes that a location has once, and for each of its members.
    """
    strings = b"\0a\0b\0"
    sizes = {LOCATION: location, LATER: (0, 12)}
    layout = b"".join(struct.pack("<BBH", *sizes.get(kind, (0, 0)), 0) for kind in range(end))
    places = (len(types) + len(layout), len(strings), len(types), len(layout))
    return (
        struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, len(types), *places) + types + layout + strings
    )


UNKNOWN = type_of(LOCATION, 8, 7, 1, 1, name=0, count=2) + type_of(LATER, 0, 1, 1, 1, count=1)


@pytest.mark.parametrize("unnamed", (0, 100))
def test_types_of_a_kind_that_is_not_known_are_passed_over_where_their_size_is(
    unnamed: int,
) -> None:
    """With many types without a name before the others, all are sorted by name."""
    pointers = type_of(Kind.PTR, 0, name=0) * unnamed
    btf = btf_of(blob_with_layout(pointers + UNKNOWN + INT + type_of(Kind.STRUCT, 8, name=3)))
    assert len(btf) == unnamed + 5
    for name, kind, place in (("a", Kind.INT, 3), ("b", Kind.STRUCT, 4)):
        assert [each.id for each in btf.find(name, (kind,))] == [unnamed + place]
    for place in (1, 2):
        with pytest.raises(BtfError, match=r"kind [24]0, which is not known"):
            btf.record(unnamed + place)


@pytest.mark.parametrize("end", (0, LOCATION, LATER))
def test_types_of_a_kind_whose_size_is_not_known_are_refused(end: int) -> None:
    with pytest.raises(BtfError, match=f"kind {LATER if end == LATER else LOCATION}, which"):
        len(btf_of(blob_with_layout(INT + UNKNOWN, end)))


@pytest.mark.parametrize("size", ((6, 4), (4, 5)))
def test_a_kind_whose_size_is_no_number_of_words_has_none(size: tuple[int, int]) -> None:
    with pytest.raises(BtfError, match=f"kind {LOCATION}, which"):
        len(btf_of(blob_with_layout(INT + UNKNOWN, location=size)))


def test_a_layout_beyond_the_end_is_none() -> None:
    data = bytearray(blob_with_layout(INT))
    struct.pack_into("<I", data, 28, 1 << 31)
    assert len(btf_of(bytes(data))) == 2


def test_a_structure_may_have_more_members_than_16_bits_count() -> None:
    count = 1 << 16
    members = (1, 1, 0) * count
    data = blob(type_of(Kind.STRUCT, 8, *members, count=count) + INT)
    btf = btf_of(data)
    assert (len(btf), len(btf.record(1).words)) == (3, 3 * count)


@pytest.mark.parametrize(
    "types",
    (
        type_of(Kind.TYPEDEF, 1),
        type_of(Kind.PTR, 2, name=0) + type_of(Kind.CONST, 1, name=0),
        type_of(Kind.ARRAY, 0, 1, 1, 3),
        type_of(Kind.TYPEDEF, 77),
        type_of(Kind.TYPEDEF, 2) + type_of(Kind.DATASEC, 4),
        type_of(Kind.STRUCT, 8, 99999, 1, 0, count=1),
    ),
)
def test_types_that_contradict_themselves_are_refused(types: bytes) -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    with pytest.raises(BtfError):
        BtfTypes(prog, btf_of(blob(types))).type(1)


def test_members_that_have_the_name_of_an_enumerator_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A structure with 65,535 such members would be copied as often.
    structure = type_of(Kind.STRUCT, 8, *(1, 1, 0) * 1000, count=1000, name=3)
    btf = btf_of(blob(INT + structure + type_of(Kind.ENUM, 4, 1, 0, count=1, name=3)))
    record, read = Btf.record, list[int]()

    def counted(btf: Btf, type_id: int) -> Record:
        read.append(type_id)
        return record(btf, type_id)

    monkeypatch.setattr(Btf, "record", counted)
    assert btf.find_enumerator("a")
    assert read == [3]


def test_a_structure_that_has_itself_for_a_member_does_not_hang() -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    types = BtfTypes(prog, btf_of(blob(type_of(Kind.STRUCT, 8, 3, 1, 0, count=1))))
    members = types.type(1).members
    assert members
    assert members[0].type.tag == "a"


@pytest.mark.parametrize(
    "of_member",
    (
        type_of(Kind.INT, 5_832_708, 32),
        type_of(Kind.FLOAT, 1 << 31),
        type_of(Kind.ARRAY, 0, 0, 0, 3, name=0),
    ),
)
def test_a_member_of_a_type_that_nothing_can_have_is_refused(of_member: bytes) -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    structure = type_of(Kind.STRUCT, 8, 3, 2, 0, count=1)
    members = BtfTypes(prog, btf_of(blob(structure + of_member))).type(1).members
    assert members
    with pytest.raises(BtfError, match="contradicts itself"):
        _ = members[0].type


def test_a_bit_field_of_a_type_that_has_none_is_refused() -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    structure = type_of(Kind.STRUCT | 0x80, 8, 3, 1, 9 << 24, count=1)
    members = BtfTypes(prog, btf_of(blob(structure))).type(1).members
    assert members
    with pytest.raises(BtfError, match="contradicts itself"):
        _ = members[0].type


@pytest.mark.parametrize("size", (0, 5_832_708))
def test_an_enumeration_of_a_size_that_no_number_has_is_refused(size: int) -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    types = BtfTypes(prog, btf_of(blob(INT + type_of(Kind.ENUM, size, 1, 0, count=1, name=3))))
    with pytest.raises(BtfError, match="contradicts itself"):
        types.enumerator("a")
