# SPDX-License-Identifier: LGPL-2.1-or-later

"""The helpers say what the report says, and their examples are true."""

from __future__ import annotations

import doctest
from types import ModuleType

import drgn
import pytest

import drgn_vmemmap
from drgn_vmemmap import examine, helpers
from drgn_vmemmap.helpers import for_each_hugetlb_folio, hugetlb_folio_hvo_state, vmemmap_walk
from tests.support import open_vmcore, recorded


@pytest.mark.parametrize("module, examples", [(helpers, 8), (drgn_vmemmap, 3)])
def test_the_examples_are_true(module: ModuleType, examples: int) -> None:
    failed, tried = doctest.testmod(module, extraglobs={"prog": open_vmcore("head-reuse")})
    assert tried >= examples
    assert failed == 0


def test_the_prompt_completes_each_name_of_the_package() -> None:
    assert {*drgn_vmemmap.__all__} <= {*dir(drgn_vmemmap)}


@pytest.mark.long
@pytest.mark.parametrize("name", ["head-reuse", "shared-tail", "two-nodes-1GiB", "hvo-off"])
def test_folios_and_their_states_are_those_of_the_report(name: str) -> None:
    prog = open_vmcore(name)
    report = examine(prog)
    heads = list(for_each_hugetlb_folio(prog))
    pfns = [report.kernel.geometry.address(folio.pfn) for folio, _ in report.folios]
    assert [head.value_() for head in heads] == pfns
    assert [hugetlb_folio_hvo_state(head) for head in heads] == [
        judgement for _, judgement in report.folios
    ]


def test_the_walk_ends_at_the_folios_reuse_frame() -> None:
    prog = open_vmcore("shared-tail")
    report = recorded("shared-tail")
    folio = next(each for each in report["folios"] if each["verdict"] == "optimized")
    *_, last = vmemmap_walk(prog, int(folio["head"], 16) + 4096)
    assert last.raw is not None
    assert last.raw >> 12 & 0xFFFFFFFFFF == folio["reuse_frame"]
    assert not last.access.writable


def test_what_is_no_folio_is_refused() -> None:
    prog = open_vmcore("head-reuse")
    head = next(for_each_hugetlb_folio(prog))
    for page in (head + 1, drgn.Object(prog, "struct page *", head.value_() + 8)):
        with pytest.raises(ValueError, match="is no HugeTLB folio's head page"):
            hugetlb_folio_hvo_state(page)
    with pytest.raises(ValueError, match="0x1000 is not in the vmemmap"):
        vmemmap_walk(prog, 0x1000)
