# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a struct page is: the head or a tail of which folio, and what an access there does."""

from __future__ import annotations

import pytest

from tests.explain.images import OPTIMIZED, UNOPTIMIZED, at, every_layout, image
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
    assert "many share" in explanation.read


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


@pytest.mark.parametrize("pfn", (OPTIMIZED - 1, UNOPTIMIZED + 512))
def test_struct_pages_beside_a_folio_are_not_its_own(pfn: int) -> None:
    explanation = at(image("6.12.0"), pfn)
    assert explanation.page is not None and explanation.page.folio is None
