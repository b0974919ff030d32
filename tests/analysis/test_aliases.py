# SPDX-License-Identifier: LGPL-2.1-or-later

"""One frame for many pages of vmemmap: each of them is named, and the cost is that of naming."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.analysis.report import Report
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import (
    FIRST_FOLIO,
    SECTION_PAGES,
    Damage,
    Folio,
    Machine,
    Section,
    pmd_of,
)
from tests.synthetic.physical import WRITABLE

every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)


def many(release: str, count: int, **machine: Any) -> Image:
    """So many folios that are not optimized."""
    folios = tuple(Folio(FIRST_FOLIO + 512 * n, remapped=False) for n in range(count))
    return Image(Machine(line=LINES[release], folios=folios, **machine))


def map_to(image: Image, pfn: int, index: int, frame: int) -> None:
    """Map a vmemmap page to another frame."""
    mask = ((1 << 52) - 1) & -4096
    image.write_entry(pfn, index, image.entry(pfn, index) & ~mask | frame << 12)


def aliased(report: Report) -> Counter[tuple[int | None, int | None]]:
    found = (f for f in report.findings if f.rule == "frame-aliased")
    return Counter((finding.folio, finding.index) for finding in found)


@every_layout
def test_a_frame_that_backs_a_page_of_each_folio_costs_as_much_as_there_are_folios(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pfns = [FIRST_FOLIO + 512 * number for number in range(200)]
    image = many(release, len(pfns), split=frozenset(pmd_of(pfn) for pfn in pfns))
    shared = image.entry(FIRST_FOLIO, 3)
    for pfn in pfns:
        image.write_entry(pfn, 3, shared)
    names, page_of = 0, VmemmapContext.page

    def counted(context: VmemmapContext, number: int) -> Any:
        nonlocal names
        names += 1
        return page_of(context, number)

    monkeypatch.setattr(VmemmapContext, "page", counted)
    report = verify(image.prog)
    assert aliased(report) == Counter((pfn, 3) for pfn in pfns)
    assert names <= 4 * len(pfns)
    messages = {f.folio: f.message for f in report.findings if f.rule == "frame-aliased"}
    frame = image.frames[FIRST_FOLIO][3]
    other = f"vmemmap page 3 of folio {FIRST_FOLIO:#x}"
    assert messages[pfns[1]] == f"frame {frame:#x} also backs {other} and 198 more"
    other = f"vmemmap page 3 of folio {pfns[1]:#x}"
    assert messages[pfns[0]] == f"frame {frame:#x} also backs {other} and 198 more"


@every_layout
def test_large_leaves_that_all_map_the_same_frames_are_each_named(release: str) -> None:
    pfns = [FIRST_FOLIO + 64 * 512 * number for number in range(4)]
    folios = tuple(Folio(pfn, remapped=False) for pfn in pfns)
    image = Image(Machine(line=LINES[release], folios=folios))
    leaf = image.entry(pfns[0], level="PMD")
    for pfn in pfns[1:]:
        image.write_entry(pfn, 0, leaf, level="PMD")
    assert aliased(verify(image.prog)) == Counter((pfn, 0) for pfn in pfns)


@every_layout
def test_entries_and_leaves_that_map_one_frame_are_all_named(release: str) -> None:
    by_pte, *by_leaf = (FIRST_FOLIO + 64 * 512 * number for number in range(3))
    folios = tuple(Folio(pfn, remapped=False) for pfn in (by_pte, *by_leaf))
    split = frozenset((pmd_of(by_pte),))
    image = Image(Machine(line=LINES[release], folios=folios, split=split))
    image.write_entry(by_leaf[1], 0, image.entry(by_leaf[0], level="PMD"), level="PMD")
    frame = image.frames[by_leaf[0]][0]
    assert frame is not None
    map_to(image, by_pte, 5, frame)
    found = aliased(verify(image.prog))
    assert found == Counter([(by_pte, 5), (by_leaf[0], 0), (by_leaf[1], 0)])


@every_layout
def test_a_frame_of_a_folio_that_vmemmap_of_no_folio_maps_is_named_for_both(release: str) -> None:
    """Vmemmap of no folio has no reason to share anything: it is an orphan of a remap."""
    stray, folio = FIRST_FOLIO, FIRST_FOLIO + 512 * 8
    split = frozenset((pmd_of(FIRST_FOLIO),))
    folios = (Folio(folio, remapped=False),)
    image = Image(Machine(line=LINES[release], folios=folios, split=split))
    frame = image.frames[folio][2]
    assert frame is not None
    map_to(image, stray, 1, frame)
    report = verify(image.prog)
    assert aliased(report) == Counter([(folio, 2)])
    (orphan,) = (f for f in report.findings if f.rule == "orphan-remap")
    assert orphan.address == image.machine.page_address(stray + 64)


def test_vmemmap_of_no_folio_that_maps_the_tails_of_a_zone_is_named_in_stretches() -> None:
    stray = FIRST_FOLIO + 512 * 8
    image = Image(Machine(line=LINES["7.2.0"], folios=(Folio(FIRST_FOLIO),)))
    (frame,) = image.tail_frames.values()
    for index in (0, 1, 3, 4):
        map_to(image, stray, index, frame)
    for index in (2, 6):
        image.write_entry(stray, index, image.entry(stray, index) & ~WRITABLE)
    orphans = (f.message for f in verify(image.prog).findings if f.rule == "orphan-remap")
    assert [*orphans] == [
        f"vmemmap of PFNs {stray:#x} to {stray + 5 * 64 - 1:#x} shares frames, "
        "but describes no HugeTLB folio",
        f"vmemmap of PFNs {stray + 6 * 64:#x} to {stray + 7 * 64 - 1:#x} is read-only, "
        "but describes no HugeTLB folio",
    ]


def test_large_leaves_of_no_folio_that_are_read_only_are_named_whole() -> None:
    folio = FIRST_FOLIO + 64 * 512
    pmds = range(pmd_of(folio) + 1, pmd_of(folio) + 3)
    machine = Machine(folios=(Folio(folio),), damage=dict.fromkeys(pmds, Damage.READ_ONLY))
    (finding,) = verify(Image(machine).prog).findings
    assert (finding.rule, finding.message) == (
        "orphan-remap",
        f"vmemmap of PFNs {pmds.start << 15:#x} to {(pmds.stop << 15) - 1:#x} is read-only, "
        "but describes no HugeTLB folio",
    )


@pytest.mark.parametrize("section", (Section.PLUGGED, Section.HOST, Section.PREPARED))
def test_only_a_devices_vmemmap_shares_frames_where_no_folio_is(section: Section) -> None:
    numbers = range(4, 7)
    sections = dict(zip(numbers, (section, Section.DEVICE, section)))
    image = Image(
        Machine(folios=(Folio(FIRST_FOLIO),), sections=sections, split=frozenset(numbers))
    )
    pfns = [number * SECTION_PAGES for number in numbers]
    for pfn in pfns:
        image.write_entry(pfn, 3, image.entry(pfn, 2))
    orphans = [f.message for f in verify(image.prog).findings if f.rule == "orphan-remap"]
    assert [message.partition(",")[0] for message in orphans] == [
        f"vmemmap of PFNs {pfn + 128:#x} to {pfn + 255:#x} shares frames" for pfn in pfns[::2]
    ]


def test_a_frame_that_a_zone_keeps_and_a_large_leaf_maps_is_named_as_the_zones() -> None:
    unsplit = FIRST_FOLIO + 64 * 512 * 2
    folios = (Folio(FIRST_FOLIO), Folio(unsplit, remapped=False))
    image = Image(Machine(line=LINES["7.2.0"], folios=folios))
    frame = image.memmap.boot_frame(image.memmap.number(unsplit) + 3)
    image.write(image.tail_slot(0, 3, 18), image.machine.page_address(frame))
    (finding,) = (f for f in verify(image.prog).findings if f.rule == "frame-aliased")
    assert (finding.folio, finding.index) == (unsplit, 3)
    assert finding.message == f"frame {frame:#x} also backs the tails of a zone"
