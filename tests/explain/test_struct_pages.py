# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a struct page is: the head or a tail of which folio, and what an access there does."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import Explanation
from drgn_vmemmap.explain.dump.query import Query
from drgn_vmemmap.output.explanation import text
from tests.explain.images import OPTIMIZED, UNOPTIMIZED, at, every_layout, image
from tests.support import shared_vmcore
from tests.synthetic.kernels import LINES
from tests.synthetic.model import REUSE_W


@every_layout
def test_a_head_page_is_named_and_may_be_written(release: str) -> None:
    explanation = at(image(release), OPTIMIZED)
    assert explanation.page is not None and explanation.page.folio is not None
    assert (explanation.page.pfn, explanation.page.role) == (OPTIMIZED, "head")
    assert explanation.page.folio.folio.pfn == OPTIMIZED
    assert explanation.write.startswith("changes this struct page")


@every_layout
def test_a_write_to_a_shared_tail_faults(release: str) -> None:
    explanation = at(image(release), OPTIMIZED + 5 * 64 + 3)
    assert explanation.page is not None
    assert (explanation.page.role, explanation.page.vmemmap_page) == ("tail", 5)
    assert "0x0003" in explanation.write
    assert "gets a shared tail" in explanation.read


@every_layout
def test_the_first_struct_page_of_a_shared_page_is_a_fake_head_where_heads_are_reused(
    release: str,
) -> None:
    explanation = at(image(release), OPTIMIZED + 5 * 64)
    assert explanation.page is not None
    assert explanation.page.role == ("fake head" if release == "6.12.0" else "tail")


@every_layout
def test_a_write_to_a_writable_tail_goes_unnoticed(release: str) -> None:
    explanation = at(image(release, {5: REUSE_W}), OPTIMIZED + 5 * 64 + 3)
    assert explanation.write.startswith("goes unnoticed")


@every_layout
def test_a_struct_page_of_an_unoptimized_folio_is_its_own(release: str) -> None:
    explanation = at(image(release), UNOPTIMIZED + 5 * 64 + 3)
    assert explanation.read == "gets this struct page"
    assert explanation.write.startswith("changes this struct page")


def test_the_member_that_an_address_lies_in_is_named() -> None:
    explanation = at(image("6.12.0"), OPTIMIZED + 70, 52)
    assert explanation.page is not None
    assert (explanation.page.offset, explanation.page.members) == (52, ["_refcount"])


@every_layout
def test_of_a_tail_the_link_to_its_head_is_named(release: str) -> None:
    explanation = at(image(release), OPTIMIZED + 70, 8)
    assert explanation.page is not None
    assert explanation.page.members == [LINES[release].compound_member]
    assert "lru" in (at(image(release), OPTIMIZED, 8).page or explanation.page).members


def test_of_a_folios_first_tails_the_folios_members_are_named() -> None:
    explanation = at(image("6.12.0"), OPTIMIZED + 1)
    assert explanation.page is not None and explanation.page.members == ["_flags_1"]


@every_layout
def test_a_folios_first_tail_has_the_folios_order_with_or_without_struct_folio(
    release: str,
) -> None:
    assert "of its folio: order 9" in text(at(image(release), OPTIMIZED + 1))


@pytest.mark.parametrize("pfn", (OPTIMIZED - 1, UNOPTIMIZED + 512))
def test_struct_pages_beside_a_folio_are_not_its_own(pfn: int) -> None:
    explanation = at(image("6.12.0"), pfn)
    assert explanation.page is not None and explanation.page.folio is None


def recorded(name: str, pfn: int) -> Explanation:
    return Explainer.of_program(shared_vmcore(name)).explain(Query.of_pfn(pfn))


@pytest.mark.parametrize(
    ("name", "head", "order", "pages"),
    (
        ("head-reuse", 0x2000, 9, "_folio_nr_pages"),
        ("two-nodes-1GiB", 0x40000, 18, "_folio_nr_pages"),
        ("hvo-off", 0x2C00, 9, "_folio_nr_pages"),
        ("shared-tail", 0x9000, 9, "_nr_pages"),
    ),
)
def test_the_first_tail_of_a_real_folio_holds_its_order_and_size_and_has_no_flags_or_mapping(
    name: str, head: int, order: int, pages: str
) -> None:
    explanation = recorded(name, head + 1)
    assert explanation.page is not None
    contents = explanation.page.contents
    assert contents is not None
    assert dict(contents.of_folio)["order"] == order
    assert dict(contents.of_folio)[pages] == 1 << order
    assert contents.flag_names == [] and contents.mapping is None
    assert f"of its folio: order {order}, " in text(explanation)


def test_a_plain_tail_of_a_real_folio_has_the_mapping_of_tails() -> None:
    page = recorded("oops", 0x24C5).page
    assert page is not None and page.contents is not None
    assert (page.contents.mapping, page.contents.of_folio) == (0xDEAD000000000400, [])


def test_a_free_folio_of_a_kernel_without_a_page_type_for_it_is_frozen() -> None:
    assert recorded("hvo-off", 0x2C00).frame_state == "reference count 0 (frozen)"
