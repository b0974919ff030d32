# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is known of a PFN's memory, where all of the vmemmap is checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.model import SECTION_PAGES, Machine, Section

NUMBER = 5
PFN = NUMBER * SECTION_PAGES


def context(section: Section | None, *unknown: range) -> VmemmapContext:
    """A kernel with one special section, whose dump does not show what some of its memory is."""
    image = Image(Machine(sections={} if section is None else {NUMBER: section}))
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    return VmemmapContext(snapshot, replace(analyse(snapshot), unknown=[*unknown]))


@pytest.mark.parametrize(
    ("section", "is_online", "is_from_boot"),
    (
        (None, True, True),
        (Section.PREPARED, True, True),
        (Section.PLUGGED, True, False),
        (Section.HOST, True, False),
        (Section.OFFLINE, False, False),
        (Section.OFFLINE_HOST, False, False),
        (Section.DEVICE, False, False),
    ),
)
def test_memory_is_online_and_from_boot_as_its_section_says(
    section: Section | None, is_online: bool, is_from_boot: bool
) -> None:
    known = context(section)
    assert known.has_offline is not is_online
    for pfn in (PFN, PFN + SECTION_PAGES - 1):
        assert known.has_section(pfn)
        assert (known.is_online(pfn), known.is_from_boot(pfn)) == (is_online, is_from_boot)
    for pfn in (PFN - 1, PFN + SECTION_PAGES):
        assert known.is_online(pfn) and known.is_from_boot(pfn)


def test_memory_of_no_section_is_neither_offline_nor_from_boot() -> None:
    known = context(None)
    pfn = known.snapshot.kernel.paging.max_pfn
    assert not known.has_section(pfn) and not known.is_from_boot(pfn)
    assert known.is_online(pfn)


def test_memory_of_which_the_dump_does_not_show_what_it_is_is_not_said_to_be_online() -> None:
    nested, apart = range(PFN + 20, PFN + 30), range(PFN + 200, PFN + 201)
    after, around = range(PFN + 100, PFN + 120), range(PFN + 10, PFN + 100)
    first = range(PFN - 20, PFN)
    known = context(None, apart, nested, first, range(PFN, PFN), after, around)
    assert known.has_offline
    pfns = range(PFN - 50, PFN + 300)
    unknown = {*first, *around, *after, *apart}
    assert {pfn for pfn in pfns if known.is_unknown(pfn)} == unknown
    assert {pfn for pfn in pfns if not known.is_online(pfn)} == unknown
