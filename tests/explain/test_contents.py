# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a struct page holds: its own members, and those of the folio whose first tails it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from drgn_vmemmap.explain.dump.contents import ContentsReader, PageContents, usage
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.kernel.structs import Member
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ZONES
from tests.synthetic.model import FIRST_FOLIO, Machine


def word(offset: int) -> Member:
    return Member(offset, 8, 1)


def half(offset: int) -> Member:
    return Member(offset, 4, 1)


FOLIO = (
    *(("_flags_1", word(64)), ("_head_1", word(72)), ("_large_mapcount", half(80))),
    *(("_nr_pages_mapped", half(88)), ("_pincount", half(92)), ("_folio_nr_pages", half(96))),
    *(("_mapcount_1", half(112)), ("_refcount_1", half(116)), ("_private_1", word(104))),
    *(("_flags_2", word(128)), ("__head_2", word(136)), ("_deferred_list", Member(144, 16, 1))),
    *(("_hugetlb_subpool", word(144)), ("_hugetlb_cgroup", word(152)), ("_cgroup", word(152))),
    *(("_last", word(184)), ("_next", word(192)), ("_array", Member(160, 8, 2))),
    *(("_beyond", word(256)), ("_mapping_4", word(280))),
)
"""Members of ``struct folio``, as kernels have them and as they may come to have them."""

DEVICE = ZONES.index("ZONE_DEVICE") << 64 - Machine().nodes_shift - 3
"""Flags of a page of a device's memory: the zone's number lies below the node's."""

_OWN_MAPCOUNT = (*FOLIO, ("_in_place_of_mapcount", half(112)))


def parse(
    pfn: int = FIRST_FOLIO,
    folio: Sequence[tuple[str, Member]] = FOLIO,
    without: Collection[str] = (),
    head: int | None = None,
    **members: int,
) -> PageContents:
    """
    The contents of a struct page of 6.12.

    :param without: Members of struct page that this kernel does not have.
    :param head: PFN of the head that the page leads to.
    """
    image = Image(Machine(line=LINES["6.12.0"]))
    names = page_names(image.prog)
    page = [(name, member) for name, member in names.page if name not in without]
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    if head is not None:
        members["compound_head"] = image.machine.page_address(head) | 1
    data = image.types.structs["page"].pack(**members)
    return ContentsReader(snapshot, names._replace(page=page, folio=folio)).parse(data, pfn)


def tail(number: int, **options: Any) -> PageContents:
    return parse(FIRST_FOLIO + number, head=FIRST_FOLIO, **options)


def test_a_head_has_flags_and_no_members_of_a_folios_tails() -> None:
    contents = parse(flags=1 << 6 | 1 << 5, mapping=7, page_type=0xFFFFFFFF, _refcount=2)
    assert contents.flag_names == ["lru", "head"]
    assert (contents.mapping, contents.refcount, contents.mapcount) == (7, 2, 0)
    assert (contents.is_tail, contents.head, contents.of_folio) == (False, None, [])


def test_the_second_page_has_the_order_and_what_is_in_place_of_its_own_members() -> None:
    contents = tail(1, flags=9 | 1 << 8, mapping=5 << 32 | 3, page_type=1, _refcount=0)
    assert (contents.is_tail, contents.head, contents.flag_names) == (True, FIRST_FOLIO, [])
    names = ["order", "_large_mapcount", "_nr_pages_mapped", "_pincount", "_folio_nr_pages"]
    assert [name for name, _ in contents.of_folio] == names
    values = dict(contents.of_folio)
    assert (values["order"], values["_nr_pages_mapped"], values["_pincount"]) == (9, 3, 5)
    assert (contents.mapping, contents.mapcount) == (None, 2)


def test_the_third_page_has_members_by_all_of_their_names_and_no_arrays() -> None:
    contents = tail(2, flags=1 << 6, mapping=8)
    assert contents.of_folio == [
        ("_hugetlb_subpool", 0),
        ("_hugetlb_cgroup or _cgroup", 8),
        ("_last", 0),
    ]
    assert (contents.mapping, contents.flag_names) == (None, ["head"])


def test_a_plain_tail_has_its_own_members_alone() -> None:
    for number in (4, 5):
        contents = tail(number, mapping=0xDEAD000000000400)
        assert (contents.mapping, contents.of_folio) == (0xDEAD000000000400, [])


def test_a_fourth_page_without_members_of_the_folio_has_its_own_mapping() -> None:
    contents = tail(3, mapping=8)
    assert (contents.mapping, contents.of_folio) == (8, [("_next", 0)])


def test_a_mapcount_that_the_folio_has_in_its_place_is_not_the_pages() -> None:
    contents = tail(1, folio=_OWN_MAPCOUNT, page_type=0xF5 << 24)
    assert (contents.mapcount, contents.page_type) == (None, None)
    assert dict(contents.of_folio)["_in_place_of_mapcount"] == 0xF5 << 24


def test_without_struct_folio_the_first_tails_hold_what_is_not_their_own() -> None:
    """Before v5.16, ``struct page`` has the folio's members, too."""
    for number, order in ((1, [("order", 9)]), (2, []), (3, [])):
        contents = tail(number, folio=(), flags=9, mapping=8, page_type=1)
        assert (contents.mapping, contents.mapcount, contents.page_type) == (None, None, None)
        assert contents.of_folio == order
    assert tail(4, folio=(), mapping=8, page_type=1).mapcount == 2


@pytest.mark.parametrize(
    ("raw", "mapcount", "page_type"),
    (
        (0xFFFFFFFF, 0, None),
        (0, 1, None),
        (3, 4, None),
        (0x7FFFFFFF, 1 << 31, None),
        (0xF5000000, None, "slab"),
        (0xFA000000, None, "0xfa000000"),
        (0xFFFFFFFE, None, "page_type 0xfffffffe"),
        (0x80000000, None, "page_type 0x80000000"),
    ),
)
def test_a_mapcount_or_a_page_type_is_in_one_place(
    raw: int, mapcount: int | None, page_type: str | None
) -> None:
    contents = parse(page_type=raw)
    assert (contents.mapcount, contents.page_type) == (mapcount, page_type)


def test_a_kernel_without_page_types_counts_below_zero() -> None:
    contents = parse(without=["page_type"], page_type=0xFFFFFFFE, _refcount=0xFFFFFFFD)
    assert (contents.mapcount, contents.page_type, contents.refcount) == (-1, None, -3)


def test_members_that_a_kernel_does_not_have_are_none() -> None:
    contents = parse(without=["compound_head", "mapping", "_mapcount", "_refcount"])
    assert contents[2:9] == (None, None, None, None, None, "", None)
    assert not contents.is_tail


@pytest.mark.parametrize(("link", "is_tail"), ((0, False), (0xFFFFEA0000000000, False), (1, True)))
def test_a_link_is_a_tails_by_its_lowest_bit(link: int, is_tail: bool) -> None:
    contents = parse(compound_head=link)
    assert (contents.link, contents.link_name) == (link, "compound_head")
    assert (contents.is_tail, contents.head) == (is_tail, None)


def test_a_list_that_leads_to_a_struct_page_makes_no_tail() -> None:
    contents = parse(compound_head=Machine().page_address(FIRST_FOLIO - 512))
    assert (contents.is_tail, contents.head) == (False, None)


@pytest.mark.parametrize(
    ("contents", "words"),
    (
        ({"_refcount": 2}, "in use, reference count 2"),
        ({"_refcount": 1, "page_type": 0xF5 << 24}, "in use, reference count 1, type slab"),
        (
            {"_refcount": 0xFFFFFFFF},
            "reference count -1: more references were dropped than taken",
        ),
        ({"page_type": 0xF4 << 24}, "reference count 0 (frozen), type hugetlb"),
        ({"flags": 1 << 6}, "reference count 0 (frozen)"),
        ({}, "reference count 0: frozen, on a per-CPU list, or on its way to the buddy allocator"),
        ({"flags": DEVICE}, "reference count 0: memory of a device that nothing uses"),
        ({"flags": DEVICE, "_refcount": 1}, "in use, reference count 1"),
        ({"without": ["_refcount"]}, "reference count unknown"),
    ),
)
def test_the_use_of_a_page_follows_from_its_count(contents: dict[str, Any], words: str) -> None:
    assert usage(parse(**{"page_type": 0xFFFFFFFF, **contents})) == words
