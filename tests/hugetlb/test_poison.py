# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios with failed memory, on a recorded kernel: which of their pages, as the kernel has it."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.explainer import Explainer
from drgn_vmemmap.explain.query import parse
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.output.explanation import text
from tests.damage.edited import EditedKernel
from tests.support import open_vmcore


@pytest.fixture
def kernel() -> EditedKernel:
    return EditedKernel(open_vmcore("head-reuse"))


def poison(kernel: EditedKernel, pfn: int, failed: list[int], unreliable: bool = False) -> str:
    """Mark a folio as poisoned, with a list of failed pages; the message about it."""
    facts = kernel.kernel.poison
    assert facts.list is not None and facts.unreliable_bit is not None
    head = kernel.snapshot().struct_pages(pfn)
    flags = kernel.kernel.page.value(head, "flags")
    private = kernel.kernel.page.value(head, "private")
    kernel.write_member(pfn, "flags", flags | facts.flag)
    kernel.write_member(pfn, "private", private | unreliable << facts.unreliable_bit)
    # The list's entries are written over a tail that stands for no metadata of the folio.
    geometry = kernel.snapshot().geometry
    place = geometry.address(pfn) + 8 * geometry.struct_size
    pointers = [place + number * facts.page.size for number in range(len(failed))]
    kernel.write(geometry.address(pfn) + facts.list.offset, pointers[0] if pointers else 0)
    for pointer, page, following in zip(pointers, failed, [*pointers[1:], 0]):
        kernel.write(pointer + facts.page.offset("next"), following)
        kernel.write(pointer + facts.page.offset("page"), geometry.address(page))
    (message,) = (f.message for f in kernel.analyse().findings if f.rule == "poisoned")
    return message


def test_the_failed_pages_of_a_folio_are_named(kernel: EditedKernel) -> None:
    assert poison(kernel, 0x2E00, [0x2EC5, 0x2E07]) == (
        "memory failed at PFN 0x2e07, 0x2ec5; the folio is optimized: "
        "it stays in its pool until its vmemmap is restored"
    )


def test_that_not_all_of_them_are_recorded_is_said(kernel: EditedKernel) -> None:
    assert "HPG_raw_hwp_unreliable" in poison(kernel, 0x2E00, [0x2EC5], unreliable=True)


def test_a_page_of_another_folio_is_no_failed_page_of_this_one(kernel: EditedKernel) -> None:
    message = poison(kernel, 0x2E00, [0x2EC5, 0x3000])
    assert message.startswith("memory failed at PFN 0x2ec5; the list of failed pages is damaged")


def test_a_list_that_leads_in_a_circle_ends(kernel: EditedKernel) -> None:
    message = poison(kernel, 0x2E00, [0x2EC5, 0x2EC5])
    assert "the list of failed pages is damaged" in message


def test_an_empty_list_is_called_that(kernel: EditedKernel) -> None:
    assert "the list of its failed pages is empty" in poison(kernel, 0x2E00, [])


def test_poison_is_no_fault_of_hvo(kernel: EditedKernel) -> None:
    poison(kernel, 0x2E00, [0x2EC5])
    report = kernel.analyse()
    assert not report.broken and not report.incomplete


def test_a_page_that_failed_is_explained_as_one(kernel: EditedKernel) -> None:
    poison(kernel, 0x2E00, [0x2EC5])
    explainer = Explainer(kernel.snapshot(), page_names(kernel.prog))
    failed, beside = (text(explainer.explain(parse(f"pfn:{pfn:#x}"))) for pfn in (0x2EC5, 0x2E00))
    for explained in failed, beside:
        assert "of this folio, memory failed at PFN 0x2ec5" in explained
    assert "PFN 0x2ec5 is one that failed" in failed
    assert "is one that failed" not in beside
