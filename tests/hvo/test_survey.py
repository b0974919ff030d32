# SPDX-License-Identifier: LGPL-2.1-or-later

"""The survey: each frame that backs the vmemmap has the owner that a slow walk gives it."""

from __future__ import annotations

from typing import Any

import pytest

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.hvo.ownership import ZONE_OWNER, LargeLeaf, Ownership
from drgn_vmemmap.hvo.survey import Described, survey
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import FIRST_FOLIO, FRESH_W, GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE

every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)

IN_LEAF = 512
"""How many vmemmap pages a large leaf maps, or a page table."""


def surveyed(image: Image) -> Ownership:
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    report = analyse(snapshot)
    facts = report.sections, report.folios, report.special, report.tail_frames, report.unknown
    return survey(snapshot, Described(*facts))


def check(**facts: Any) -> None:
    """
    Compare what a survey finds with what follows from the entries, one by one.

    A frame belongs to its zone, or to the first page that maps it.
    """
    image = Image(Machine(**facts))
    found, machine = surveyed(image), image.machine
    walker = Walker(ProgramMemory(image.prog), discover(image.prog).paging)
    in_folios = (pfn for folio in machine.folios for pfn in folio.pfns)
    of_folios = {pfn * machine.page_size // PAGE_SIZE for pfn in in_folios}
    owners: dict[int | None, int] = dict.fromkeys(image.tail_frames.values(), ZONE_OWNER)
    leaves = []
    for page in range(machine.max_pfn * machine.page_size // PAGE_SIZE):
        entry = walker.entry(machine.vmemmap + page * PAGE_SIZE)
        assert entry.frame is not None
        if entry.is_last_level:
            owners.setdefault(entry.frame, page)
            assert found.is_of_no_folio(page) is (page not in of_folios)
        elif page % IN_LEAF == 0:
            leaves.append(LargeLeaf(entry.frame, page, IN_LEAF))
            is_of_none = of_folios.isdisjoint(range(page, page + IN_LEAF))
            assert found.is_of_no_folio(page) is found.is_of_no_folio(page + 511) is is_of_none
    assert dict(zip(found.frames, found.pages)) == owners
    assert len(found.frames) == len(found.pages) == len(owners)
    assert found.leaves == leaves
    assert (found.read_only, found.absent, found.unreadable) == ([], [], [])


def folios(table: int, kinds: str) -> list[Folio]:
    """
    Folios of 2 MiB whose vmemmap one table maps, by their places in it.

    Each is optimized (``o``), restored (``r``), half restored (``h``) or was never optimized
    (``n``), or there is none (``.``).
    """
    edits = {"r": dict.fromkeys(range(8), FRESH_W), "h": dict.fromkeys(range(5, 8), FRESH_W)}
    return [
        Folio(512 * (64 * table + place), remapped=kind in "oh", edits=edits.get(kind, {}))
        for place, kind in enumerate(kinds)
        if kind != "."
    ]


@every_layout
@pytest.mark.parametrize("last", ("r" * 63 + "o", "o" * 63), ids=("full", "not full"))
def test_frames_of_folios_side_by_side_are_those_of_the_pages_that_keep_them(
    release: str, last: str
) -> None:
    tables = (
        "o" * 31 + "h" + "r" * 32,
        "o" * 64,
        "o" * 20 + "r" * 7 + "o" * 37,
        "." + "o" * 63,
        "o" * 40 + "." + "r" * 23,
        last,
        "nn",
    )
    found = (each for table, kinds in enumerate(tables, 1) for each in folios(table, kinds))
    check(line=LINES[release], folios=tuple(found))


@pytest.mark.long
@every_layout
def test_frames_of_gigantic_folios_are_those_of_the_pages_that_keep_them(release: str) -> None:
    pfn, kept = GIB >> PAGE_SHIFT, KEPT[LINES[release].layout]
    for edits in ({}, {600: FRESH_W}, dict.fromkeys(range(kept, 4096), FRESH_W)):
        found = Folio(pfn, 18, edits=edits), Folio(2 * pfn)
        memory = 2 * GIB + (128 << 20)
        check(line=LINES[release], node_size=memory, folios=found, split=frozenset({3}))


def test_frames_of_folios_that_do_not_fill_their_tables_are_those_of_their_pages() -> None:
    """51 folios have 10 vmemmap pages each, and one more begins in the same table."""
    found = tuple(Folio(FIRST_FOLIO + 512 * place, remapped=False) for place in range(160))
    check(page_size=80, folios=found, split=frozenset(range(10)))
