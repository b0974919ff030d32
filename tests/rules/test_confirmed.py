# SPDX-License-Identifier: LGPL-2.1-or-later

"""Which findings count of an extract that was written while the kernel ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.rules.confirmed import counting, recorded
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import COUNT_MISMATCH, OFF_LIST, TAIL_WRITABLE, UNREADABLE
from tests.synthetic.image import Image
from tests.synthetic.model import Machine

NOTE = OFF_LIST.finding("on no list", folio=0x8000)
MISSING = UNREADABLE.finding("not in the dump")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return discover(Image(Machine()).prog)


def counted(kernel: Kernel, line: str | None, findings: Sequence[Finding]) -> list[Finding]:
    """
    :param line: What the extract says of the findings that were confirmed.
    """
    confirmed = None if line is None else frozenset(line.split())
    return [*counting(replace(kernel, confirmed=confirmed), findings)]


def writable(pfn: int, index: int | None = 3) -> Finding:
    return replace(TAIL_WRITABLE.finding("writable", folio=pfn, address=0xFFFFEA00), index=index)


def test_what_was_confirmed_counts_and_what_only_one_pass_saw_does_not(kernel: Kernel) -> None:
    warning = COUNT_MISMATCH.finding("free_huge_pages: 1, but 2 are on its lists")
    lasting = [writable(0x8000), writable(0x8200, None), warning]
    passing = [writable(0x8000, 4), writable(0x8200), COUNT_MISMATCH.finding("of a node", folio=0)]
    line = recorded(lasting)
    assert counted(kernel, line, [*lasting, *passing]) == lasting
    assert counted(kernel, "", lasting) == []


def test_any_other_dump_has_nothing_to_confirm(kernel: Kernel) -> None:
    findings = [writable(0x8000), NOTE, MISSING]
    assert counted(kernel, None, findings) == findings


def test_notes_and_what_the_dump_lacks_need_not_be_confirmed(kernel: Kernel) -> None:
    assert recorded([NOTE]) == ""
    assert counted(kernel, "", [NOTE, writable(0x8000), MISSING]) == [NOTE, MISSING]


@pytest.mark.parametrize(("places", "words"), ((50, 50), (51, 1)))
def test_a_rule_that_is_broken_in_many_places_is_recorded_once_for_all(
    kernel: Kernel, places: int, words: int
) -> None:
    findings = [writable(pfn) for pfn in range(places)]
    line = recorded(findings)
    assert len(line.split()) == words
    assert counted(kernel, line, findings) == findings
