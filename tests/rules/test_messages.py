# SPDX-License-Identifier: LGPL-2.1-or-later

"""What findings name: the first and the last PFN, and how many there are, in words."""

from __future__ import annotations

import pytest

from drgn_vmemmap.hugetlb.search import MissingHeads
from drgn_vmemmap.kernel.facts import ZoneKey
from drgn_vmemmap.paging.mapping import Entry
from drgn_vmemmap.paging.x86_64 import PTE, Access
from drgn_vmemmap.rules import content, frames, lists
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.rules.frames import VmemmapPage
from drgn_vmemmap.vmemmap.sections import MissingSections
from drgn_vmemmap.vmemmap.special import UnknownMemory

ENTRY = Entry(0, PTE, 0, 0, 0x4000, Access(True, False, False, True), None)
PFNS = range(0x8000, 0x8040)
WORDS = "PFNs 0x8000 to 0x803f"


def test_memory_is_named_by_its_first_and_last_pfn() -> None:
    for finding in (
        frames.not_present(ENTRY, PFNS),
        frames.entry_attributes(ENTRY, PFNS, ["user"]),
        frames.orphan_remap(ENTRY, PFNS, "is read-only"),
        content.stale_tails(ENTRY, PFNS, None, 0),
        lists.search_problem(MissingHeads(PFNS)),
        lists.search_problem(MissingSections(PFNS, PFNS)),
        lists.unknown_memory(UnknownMemory(PFNS, "are a device's memory")),
    ):
        assert WORDS in finding.message


def test_missing_sections_are_not_missing_struct_pages() -> None:
    sections, heads = MissingSections(PFNS, PFNS), MissingHeads(PFNS)
    assert [lists.search_problem(each).message for each in (sections, heads)] == [
        f"the dump does not show which of {WORDS} have a memmap",
        f"not all of the memmap of {WORDS} is in the dump",
    ]


@pytest.mark.parametrize(
    ("count", "words"),
    ((1, "the struct page of PFN 0x8000 is a tail of"), (2, "PFNs 0x8000 to 0x8001 are tails of")),
)
def test_one_stale_tail_is_named_by_its_pfn(count: int, words: str) -> None:
    assert words in content.stale_tails(ENTRY, PFNS[:count], 0x8200, 0).message


@pytest.mark.parametrize(("rest", "words"), ((0, "also backs page 3"), (1, "page 3 and 1 more")))
def test_of_a_frames_other_pages_one_is_named(rest: int, words: str) -> None:
    page = VmemmapPage(0x8000, 3, ENTRY)
    assert frames.frame_aliased(page, 0x4000, "page 3", rest).message.endswith(words)


@pytest.mark.parametrize(("count", "words"), ((1, "1 page table over"), (2, "2 page tables over")))
def test_page_tables_whose_owners_are_missing_are_counted(count: int, words: str) -> None:
    missing, left_out = (frames.unreadable_owners(count, each) for each in (False, True))
    assert words in missing.message
    assert (missing.severity, left_out.severity) == (Severity.WARNING, Severity.INFO)


@pytest.mark.parametrize(("count", "more"), ((1, ""), (8, ""), (9, " and 1 more")))
def test_of_zones_that_are_missing_eight_are_named(count: int, more: str) -> None:
    message = lists.missing_zones([ZoneKey(node, 2) for node in range(count)]).message
    named = ", ".join(f"2 of node {node}" for node in range(min(count, 8)))
    assert message == f"the tail frames of zones {named}{more} are not in the dump"
