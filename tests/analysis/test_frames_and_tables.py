# SPDX-License-Identifier: LGPL-2.1-or-later

"""The frames and page tables of the vmemmap: each is checked, and what is missing is counted."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.vmemmap import tables
from tests.damage.edited import EditedKernel
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, PMD_SHIFT, Damage, Folio, Machine, Section, pmd_of
from tests.synthetic.physical import PAGE_SHIFT

OPTIMIZED, UNOPTIMIZED = FIRST_FOLIO, FIRST_FOLIO + 512
UNUSED = 72 << 20 >> PAGE_SHIFT
"""A frame that the image's kernel has not allocated."""
FRAME_MASK = ((1 << 52) - 1) & -4096


def image() -> Image:
    return Image(Machine(folios=(Folio(OPTIMIZED), Folio(UNOPTIMIZED, remapped=False))))


def back_with(kernel: Image, index: int, frame: int, references: int = 1) -> None:
    """Back a vmemmap page of the folio that is not optimized with another frame."""
    entry = kernel.entry(UNOPTIMIZED, index)
    kernel.memory.frames[frame] = kernel.memory.frames[(entry & FRAME_MASK) >> PAGE_SHIFT]
    kernel.write_entry(UNOPTIMIZED, index, entry & ~FRAME_MASK | frame << PAGE_SHIFT)
    kernel.write_page(frame, _refcount=references)


def without_struct_pages(kernel: Image, pfns: Iterable[int]) -> Report:
    """What is said where the struct pages of some PFNs are not in the dump."""
    edited = EditedKernel(kernel.prog)
    edited.memory.missing |= {edited.frame(pfn, 0) for pfn in pfns}
    return edited.check()


def unreadable(report: Report) -> list[str]:
    assert not report.broken and report.incomplete
    return [f.message for f in report.findings if f.rule == "unreadable"]


@pytest.mark.parametrize("count", (1, 3))
def test_frames_whose_struct_pages_are_not_in_the_dump_are_counted(count: int) -> None:
    kernel = image()
    for number in range(count):
        back_with(kernel, 3 + number, UNUSED + 2 * number)
    (message,) = (m for m in unreadable(without_struct_pages(kernel, [UNUSED])) if "frames" in m)
    assert message.startswith(f"the struct pages of {count} frames that back the vmemmap are not")


def test_page_tables_whose_struct_pages_are_not_in_the_dump_are_counted() -> None:
    kernel = image()
    levels = ("PTE", "PMD", "PUD")
    tables = {kernel.entry_address(OPTIMIZED, 0, level) >> PAGE_SHIFT for level in levels}
    assert len({table // 64 for table in tables}) == 1
    report = without_struct_pages(kernel, tables)
    assert [(f.message, f.severity) for f in report.findings if "page tables" in f.message] == [
        (
            "the struct pages of 3 page tables over the vmemmap are not in the dump: "
            "whether these are in use is not known",
            Severity.WARNING,
        )
    ]


def test_the_lowest_of_the_frames_is_checked_too() -> None:
    kernel = image()
    back_with(kernel, 3, frame=1, references=0)
    found = [(f.rule, f.folio, f.index) for f in verify(kernel.prog).findings]
    assert [each for each in found if each[0] != "unoptimized"] == [("frame-freed", UNOPTIMIZED, 3)]


def test_each_table_over_memory_of_no_folio_that_is_not_in_the_dump_is_named_once() -> None:
    missing = {3: Damage.MISSING, 4: Damage.MISSING, 7: Damage.MISSING}
    machine = Machine(folios=(Folio(OPTIMIZED),), split=frozenset(missing), damage=missing)
    start = machine.vmemmap
    assert [m for m in unreadable(verify(Image(machine).prog)) if "table" in m] == [
        f"PTE table over vmemmap {start + (pmd << PMD_SHIFT):#x} is not in the dump"
        for pmd in missing
    ]


def test_a_table_of_a_folio_that_is_not_in_the_dump_is_named_with_the_folio_only() -> None:
    pmd = pmd_of(OPTIMIZED)
    machine = Machine(folios=(Folio(OPTIMIZED),), damage={pmd: Damage.MISSING})
    report = verify(Image(machine).prog)
    assert [f.folio for f in report.findings if "table" in f.message] == [OPTIMIZED]


def test_page_tables_that_lead_in_a_circle_where_no_memory_is_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "_GAP_PAGES_LIMIT", 1000)
    kernel = Image(Machine(folios=(Folio(OPTIMIZED),), sections={5: Section.DEVICE}))
    kernel.write(kernel.variables["max_pfn"][1], 1 << 30)
    address = kernel.entry_address(OPTIMIZED, 0, "PUD")
    table = kernel.memory.read_u64(address) & ~FRAME_MASK | address & FRAME_MASK
    kernel.memory.write_u64(address + 8, table)
    report = verify(kernel.prog)
    assert report.incomplete
    assert "page tables lead in a circle" in "".join(f.message for f in report.findings)
    kernel.memory.write_u64(address + 8, 0)
    assert "in a circle" not in "".join(f.message for f in verify(kernel.prog).findings)
