# SPDX-License-Identifier: LGPL-2.1-or-later

"""What verify says beyond the catalogue: what it does not accuse, and the unoptimized folios."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import drgn
import pytest
from hypothesis import given

from drgn_vmemmap import discover, verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.vmemmap.special import SpecialVmemmap
from tests.damage.edited import EditedKernel
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import (
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    OWN_W,
    SECTION_PAGES,
    Damage,
    Folio,
    Machine,
    Section,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE
from tests.synthetic.strategies import machines

OPTIMIZED, UNOPTIMIZED = FIRST_FOLIO, FIRST_FOLIO + 512
PLUGGED = 5 * SECTION_PAGES
UNUSED = 72 << 20 >> PAGE_SHIFT
"""A frame that the image's kernel has not allocated."""
UNSPLIT = FIRST_FOLIO + 64 * 512 * 2
"""Its vmemmap is far from the others', in a block that HVO did not split."""

every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)


def edited(release: str, *more: Folio) -> EditedKernel:
    folios = (Folio(OPTIMIZED), Folio(UNOPTIMIZED, remapped=False), *more)
    return EditedKernel(Image(Machine(line=LINES[release], folios=folios)).prog)


def errors(report: Report) -> list[tuple[str, int | None, int | None]]:
    found = (f for f in report.findings if f.severity.value == "error")
    return [(finding.rule, finding.folio, finding.index) for finding in found]


def reasons(machine: Machine) -> dict[int | None, str]:
    findings = (f for f in verify(Image(machine).prog).findings if f.rule == "unoptimized")
    return {finding.folio: finding.message for finding in findings}


# Random machines.


@given(machines())
def test_a_sound_machine_is_not_accused(machine: Machine) -> None:
    findings = verify(Image(machine).prog).findings
    assert [f.message for f in findings if f.severity is not Severity.INFO] == []


@given(machines(broken=True))
def test_a_broken_machine_is_accused_of_what_is_broken_and_of_nothing_else(
    machine: Machine,
) -> None:
    image = Image(machine)
    by_entries = Counter(image.examine().findings)
    found = Counter(verify(image.prog).findings)
    assert by_entries <= found
    more = {f.rule for f in found - by_entries if f.severity is Severity.ERROR}
    # A table that is read-only, or not there, describes more than folios.
    follows = {
        Damage.READ_ONLY: "orphan-remap",
        Damage.ABSENT: "not-present",
        Damage.BEYOND: "not-present",
    }
    assert more <= {follows.get(damage, "") for damage in machine.damage.values()}


# Frames.


@every_layout
def test_a_block_that_was_allocated_at_once_has_one_reference_for_all_its_frames(
    release: str,
) -> None:
    folio = Folio(UNOPTIMIZED, remapped=False)
    split = frozenset((pmd_of(UNOPTIMIZED),))
    machine = Machine(line=LINES[release], folios=(folio,), split=split)
    kernel = EditedKernel(Image(machine).prog)
    assert kernel.unoptimized == [UNOPTIMIZED]
    first = kernel.frame(UNOPTIMIZED, 0) >> 9 << 9
    for frame in range(first, first + 512):
        kernel.write_member(frame, "refcount", int(frame == first))
    assert errors(kernel.check()) == []
    kernel.write_member(first + 1, "refcount", 1)
    assert ("frame-freed", UNOPTIMIZED, 5) in errors(kernel.check())


@pytest.mark.parametrize("lost", (0, 128, 448), ids=("first", "middle", "last"))
@every_layout
def test_a_block_of_which_struct_pages_are_missing_may_have_one_reference_for_all(
    release: str, lost: int
) -> None:
    folio = Folio(UNOPTIMIZED, remapped=False)
    split = frozenset((pmd_of(UNOPTIMIZED),))
    machine = Machine(line=LINES[release], folios=(folio,), split=split)
    kernel = EditedKernel(Image(machine).prog)
    first = kernel.frame(UNOPTIMIZED, 0) >> 9 << 9
    for frame in range(first, first + 512):
        kernel.write_member(frame, "refcount", int(frame == first))
    kernel.memory.missing.add(kernel.frame(first + lost, 0))
    report = kernel.check()
    assert errors(report) == []
    assert report.incomplete
    # A frame that is referenced by itself shows that the block was split.
    kernel.write_member(first + 200, "refcount", 1)
    assert {rule for rule, _, _ in errors(kernel.check())} == {"frame-freed"}


@every_layout
def test_a_free_frame_that_a_large_leaf_maps_is_found(release: str) -> None:
    kernel = edited(release, Folio(UNSPLIT, remapped=False))
    mark = kernel.kernel.buddy_test
    assert mark is not None
    assert errors(kernel.before) == []
    frame = kernel.frame(UNSPLIT, 3)
    kernel.write_page(frame, mark.offset, mark.value, mark.size)
    kernel.write_member(frame, "private", 0)
    assert errors(kernel.check()) == [("frame-freed", UNSPLIT, 3)]


@every_layout
def test_a_frame_without_references_that_a_large_leaf_maps_says_nothing(release: str) -> None:
    kernel = edited(release, Folio(UNSPLIT, remapped=False))
    kernel.write_member(kernel.frame(UNSPLIT, 3), "refcount", 0)
    assert errors(kernel.check()) == []


def test_a_free_block_is_recognised_by_its_first_page_wherever_the_frame_lies_in_it() -> None:
    kernel = edited("6.12.0")
    mark = kernel.kernel.buddy_test
    assert mark is not None
    frame = kernel.frame(OPTIMIZED, 0)
    first = frame & -8
    kernel.write_page(first, mark.offset, mark.value, mark.size)
    kernel.write_member(first, "private", 3)
    for each in range(first, first + 8):
        kernel.write_member(each, "refcount", 0)
    report = kernel.check()
    (message,) = (f.message for f in report.findings if f.folio == OPTIMIZED)
    assert message.endswith(f"block of order 3 at PFN {first:#x}")


def test_struct_pages_of_frames_that_are_not_in_the_dump_are_counted() -> None:
    kernel = edited("6.12.0")
    frame = kernel.frame(OPTIMIZED, 0)
    address = kernel.kernel.geometry.address(frame)
    entry = kernel.walker().entry(address)
    assert entry.frame is not None
    kernel.memory.missing.add(entry.frame)
    report = kernel.check()
    assert errors(report) == []
    assert report.incomplete


@pytest.mark.parametrize("used", (True, False), ids=("used", "unused"))
def test_a_zones_tail_frame_without_a_reference_is_reported_where_it_is_used_or_kept(
    used: bool,
) -> None:
    folios = (Folio(OPTIMIZED), Folio(OPTIMIZED + 512))
    image = Image(Machine(line=LINES["7.2.0"], folios=folios))
    ((key, frame),) = image.tail_frames.items()
    if not used:
        # Another frame, which no folio shares, kept for folios of 1 GiB.
        frame = UNUSED
        image.write(image.tail_slot(*key[:2], 18), image.machine.page_address(frame))
    image.write_page(frame, _refcount=0)
    (finding,) = (f for f in verify(image.prog).findings if f.rule == "frame-freed")
    assert finding.message.startswith(f"frame {frame:#x} has no reference")
    if used:
        first_tail = image.machine.page_address(OPTIMIZED) + PAGE_SIZE
        assert (finding.folio, finding.index, finding.address) == (OPTIMIZED, 1, first_tail)
    else:
        assert (finding.folio, finding.index, finding.entry) == (None, None, None)
        assert finding.address == image.machine.page_address(frame)
        assert "a zone keeps it for shared tails" in finding.message


# Vmemmap that is not mapped.


def not_present(report: Report) -> list[str]:
    return [f.message for f in report.findings if f.rule == "not-present" and f.folio is None]


@pytest.mark.parametrize("damage", (Damage.ABSENT, Damage.BEYOND), ids=lambda d: d.name)
@every_layout
def test_vmemmap_of_no_folio_that_a_large_entry_does_not_map_is_found(
    release: str, damage: Damage
) -> None:
    # Two neighbouring entries are one stretch.
    machine = Machine(
        line=LINES[release], folios=(Folio(OPTIMIZED),), damage={3: damage, 4: damage}
    )
    (message,) = not_present(verify(Image(machine).prog))
    assert message.startswith("vmemmap of PFNs 0x18000 to 0x27fff: PMD entry: ")


@every_layout
def test_vmemmap_of_no_folio_that_is_not_mapped_in_a_split_table_is_found(release: str) -> None:
    kernel = edited(release)
    pfn = OPTIMIZED + 512 * 20
    for index in (0, 1, 3, 4):
        kernel.write_entry(pfn, index, kernel.entry(pfn, index) & ~1)
    assert not_present(kernel.check()) == [
        f"vmemmap of PFNs {pfn:#x} to {pfn + 127:#x}: PTE entry: not present",
        f"vmemmap of PFNs {pfn + 192:#x} to {pfn + 319:#x}: PTE entry: not present",
    ]


# Memory that is not plain memory from boot.


def special(release: str, section: Section, *folios: Folio, **machine: Any) -> Image:
    sections = {PLUGGED // SECTION_PAGES: section}
    folios = (Folio(OPTIMIZED), Folio(UNOPTIMIZED, remapped=False), *folios)
    return Image(Machine(line=LINES[release], folios=folios, sections=sections, **machine))


@pytest.mark.parametrize("section", (Section.OFFLINE, Section.OFFLINE_HOST), ids=lambda s: s.name)
@pytest.mark.parametrize("stale", ("zeros", "poison", "a folio's head", "free blocks"))
@pytest.mark.parametrize("split", (True, False), ids=("by-pte", "by-pmd"))
@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_what_lies_where_nobody_has_written_struct_pages_yet_accuses_nobody(
    release: str, section: Section, stale: str, split: bool
) -> None:
    pmds = frozenset((pmd_of(PLUGGED),) if split else ())
    image = special(release, section, split=pmds)
    line, page = LINES[release], image.types.structs["page"]
    free = page.pack(page_type=line.page_type("buddy"), private=0)
    head = image.frames[OPTIMIZED][0]
    assert head is not None
    image.memmap.forget(
        range(PLUGGED, PLUGGED + SECTION_PAGES),
        {
            "zeros": bytes(PAGE_SIZE),
            "poison": b"\xff" * PAGE_SIZE,
            "a folio's head": bytes(image.memory.frames[head]),
            "free blocks": free * (PAGE_SIZE // len(free)),
        }[stale],
    )
    report = verify(image.prog)
    assert [f.message for f in report.findings if f.rule != "unoptimized"] == []
    assert [folio.pfn for folio, _ in report.folios] == [OPTIMIZED, UNOPTIMIZED]


@pytest.mark.parametrize(
    ("section", "kind", "freed"),
    (
        (Section.HOST, "self-hosted", 0),
        # Each of its 64 compound pages keeps two vmemmap pages of eight.
        (Section.DEVICE, "device-dax", 64 * 6),
    ),
    ids=lambda value: value.name if isinstance(value, Section) else "",
)
@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_vmemmap_that_is_special_is_named_and_not_accused(
    release: str, section: Section, kind: str, freed: int
) -> None:
    report = verify(special(release, section).prog)
    assert [f.message for f in report.findings if f.rule != "unoptimized"] == []
    assert report.special == [SpecialVmemmap(kind, range(PLUGGED, PLUGGED + SECTION_PAGES), freed)]
    assert report.totals.counts.freed == 7


@pytest.mark.parametrize("release", ("6.18.0", "7.2.0", "coming"))
def test_folios_from_boot_are_named_with_what_boot_saved_for_them(release: str) -> None:
    pfn = GIB >> PAGE_SHIFT
    numbers = range(pfn // SECTION_PAGES, 2 * pfn // SECTION_PAGES)
    sections = dict.fromkeys(numbers, Section.PREPARED)
    machine = Machine(
        line=LINES[release], node_size=3 * GIB, folios=(Folio(pfn, 18),), sections=sections
    )
    report = verify(Image(machine).prog)
    assert report.findings == []
    assert report.special == [SpecialVmemmap("boot-optimized", range(pfn, 2 * pfn), 4095)]


@pytest.mark.parametrize("release", ("6.18.0", "7.2.0", "coming"))
@pytest.mark.parametrize("optimized", (0, 3, 512))
def test_memory_from_boot_that_was_demoted_or_freed_saves_what_its_folios_do_now(
    release: str, optimized: int
) -> None:
    pfn = GIB >> PAGE_SHIFT
    numbers = range(pfn // SECTION_PAGES, 2 * pfn // SECTION_PAGES)
    folios = tuple(Folio(pfn + 512 * number) for number in range(optimized))
    machine = Machine(
        line=LINES[release],
        node_size=3 * GIB,
        folios=folios,
        sections=dict.fromkeys(numbers, Section.PREPARED),
    )
    report = verify(Image(machine).prog)
    assert [f.message for f in report.findings] == []
    assert report.special == []
    assert report.totals.counts.freed == 7 * optimized
    tables = -(-optimized // 64)
    frames = 7 * optimized - tables - report.totals.shared_tail_frames
    assert report.totals.net_saved_bytes == frames * PAGE_SIZE


@every_layout
def test_a_folio_on_its_way_through_a_demotion_is_in_flight(release: str) -> None:
    """One of 1 GiB was split; of those of 2 MiB, some are optimized, and none is counted."""
    pfn, layout = GIB >> PAGE_SHIFT, LINES[release].layout
    half = dict.fromkeys(range(KEPT[layout] + 2, 8), OWN_W)
    folios = [
        Folio(
            pfn + 512 * number,
            state=State.OFF_LIST,
            remapped=number < 5,
            edits=half if number == 4 else {},
            flag=number < 6,
            counted=False,
        )
        for number in range(512)
    ]
    machine = Machine(line=LINES[release], node_size=3 * GIB, folios=tuple(folios))
    report = verify(Image(machine).prog)
    assert [f.message for f in report.findings if f.severity is not Severity.INFO] == []
    assert len([f for f in report.findings if f.rule == "in-flight"]) == 512


def add_constant(prog: drgn.Program, name: str, value: int) -> None:
    """Give a kernel an enumerator that it did not have."""

    def find(
        prog: drgn.Program, wanted: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        is_wanted = wanted == name and flags & drgn.FindObjectFlags.CONSTANT
        return drgn.Object(prog, "unsigned int", value) if is_wanted else None

    prog.register_object_finder("constant", find, enable_index=0)


@pytest.mark.parametrize("is_flagged", (True, False))
@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_a_remap_that_failed_may_leave_a_folio_partly_optimized_on_the_coming_kernel(
    state: State, is_flagged: bool
) -> None:
    half = dict.fromkeys(range(3, 8), OWN_W)
    folio = Folio(OPTIMIZED + 1024, state=state, edits=half, flag=is_flagged)
    kernel = edited("coming", folio)
    assert ("reuse-mismatch", folio.pfn, 3) in errors(kernel.before)
    add_constant(kernel.prog, "VMEMMAP_REMAP_INCOMPLETE", 0)
    kernel.kernel = discover(kernel.prog)
    report = kernel.check()
    if is_flagged:
        assert errors(report) == []
        (message,) = (f.message for f in report.findings if f.rule == "in-flight")
        assert "a remap and its roll-back, or a restore, failed" in message
        verdicts = {each.pfn: judgement.verdict for each, judgement in report.folios}
        assert verdicts[folio.pfn] is Verdict.PARTIAL
    else:
        assert ("reuse-mismatch", folio.pfn, 3) in errors(report)


def test_a_kernel_that_injects_faults_there_may_leave_a_folio_partly_optimized() -> None:
    folio = Folio(OPTIMIZED + 1024, edits=dict.fromkeys(range(3, 8), OWN_W))
    image = Image(Machine(line=LINES["coming"], folios=(Folio(OPTIMIZED), folio)))
    image.variables["fail_hugetlb_vmemmap_pte"] = ("int", image.hstates[9])
    report = verify(image.prog)
    assert errors(report) == []
    assert [f.folio for f in report.findings if f.rule == "in-flight"] == [folio.pfn]


def test_a_folio_in_memory_that_hosts_its_own_vmemmap_is_unoptimized_for_that_reason() -> None:
    folio = Folio(PLUGGED + 512, remapped=False)
    report = verify(special("6.12.0", Section.HOST, folio).prog)
    messages = {f.folio: f.message for f in report.findings}
    assert "hosted by the hot-plugged memory" in messages[folio.pfn]
    assert "hosted" not in messages[UNOPTIMIZED]


@pytest.mark.parametrize("section", Section, ids=lambda section: section.name)
@pytest.mark.parametrize("release", ("6.18.0", "7.2.0", "coming"))
def test_a_wrong_count_of_the_frames_that_back_the_vmemmap_is_reported(
    release: str, section: Section
) -> None:
    image = special(release, section)
    address = image.variables["nr_memmap_pages"][1]
    count = image.memory.read_u64(image.physical(address))
    image.write(address, count + 1)
    (message,) = (f.message for f in verify(image.prog).findings if f.rule == "count-mismatch")
    of_boot, found = image.variables["nr_memmap_boot_pages"][1], re.findall(r"\d+", message)
    counted = image.memory.read_u64(image.physical(of_boot)) + count + 1
    assert message.startswith("nr_memmap_boot_pages and nr_memmap_pages add up to ")
    assert found[0] == str(counted) and (found[1] == str(counted - 1) or section is Section.DEVICE)
    # Only the sum is right: each may be below zero.
    image.write(address, (-3) % (1 << 64))
    image.write(of_boot, counted - 1 + 3)
    assert "count-mismatch" not in {f.rule for f in verify(image.prog).findings}


@pytest.mark.parametrize("release", ("6.18.0", "7.2.0"))
def test_what_boot_saved_for_its_folios_is_not_counted(release: str) -> None:
    """A device's vmemmap may be, as if it shared nothing."""
    pfn = GIB >> PAGE_SHIFT
    numbers = range(pfn // SECTION_PAGES, 2 * pfn // SECTION_PAGES)
    sections = dict.fromkeys(numbers, Section.PREPARED)
    folios = (Folio(pfn, 18),)
    machine = Machine(line=LINES[release], node_size=3 * GIB, folios=folios, sections=sections)
    image = Image(machine)
    address = image.variables["nr_memmap_pages"][1]
    image.write(address, image.memory.read_u64(image.physical(address)) + 4095)
    assert [f.rule for f in verify(image.prog).findings] == ["count-mismatch"]


@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_a_device_in_part_of_a_section_from_boot_saves_nothing_of_its_folios(release: str) -> None:
    folios = (*map(Folio, (OPTIMIZED, OPTIMIZED + 512)), Folio(OPTIMIZED + 1024, remapped=False))
    image = Image(Machine(line=LINES[release], folios=folios))
    give_a_part_to_a_device(image, OPTIMIZED)
    report = verify(image.prog)
    (finding,) = report.findings
    assert finding.message.startswith("not optimized: the dump shows no reason")
    assert [(each.kind, each.freed) for each in report.special] == [("device-dax", 0)]
    assert report.totals.counts.freed == 2 * freed_of_folio(release)


@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_a_device_in_part_of_a_section_from_boot_changes_nothing_of_the_others(
    release: str,
) -> None:
    """All of a section from boot has a memmap."""
    image, pfn = Image(Machine(line=LINES[release], folios=(Folio(OPTIMIZED),))), OPTIMIZED + 8192
    give_a_part_to_a_device(image, OPTIMIZED)
    image.write_entry(pfn, 0, image.entry(pfn) & ~1)
    assert not_present(verify(image.prog)) == [
        f"vmemmap of PFNs {pfn:#x} to {pfn + 63:#x}: PTE entry: not present"
    ]


def give_a_part_to_a_device(image: Image, pfn: int) -> None:
    """Mark the section of a PFN from boot as one in which a device has memory, too."""
    number, size = pfn // SECTION_PAGES, image.types.structs["mem_section"].size
    array = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    section = image.memory.read_u64(image.physical(array)) + number * size
    # SECTION_TAINT_ZONE_DEVICE
    image.write(section, image.memory.read_u64(image.physical(section)) | 1 << 4)


def freed_of_folio(release: str) -> int:
    return 8 - KEPT[LINES[release].layout]


@pytest.mark.parametrize("release", ("6.12.0", "6.18.0"))
@pytest.mark.parametrize("removed", (1, 2))
@pytest.mark.parametrize("reserved", (0, 32, SECTION_PAGES))
def test_memory_from_boot_that_was_removed_may_still_be_counted(
    release: str, removed: int, reserved: int
) -> None:
    """
    Kernels of v6.11 to v6.16 do not take its frames from ``nr_memmap_boot_pages``. Mostly, memory
    ends within a section: the firmware keeps the last pages.
    """
    image = Image(Machine(line=LINES[release], folios=(Folio(OPTIMIZED),)))
    image.write(image.variables["max_pfn"][1], image.machine.max_pfn - reserved)
    array = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    sections = image.memory.read_u64(image.physical(array))
    for number in range(5, 5 + removed):
        address = image.machine.page_address(number * SECTION_PAGES)
        image.memory.write_u64(image.tables.entry_address(address, "PMD"), 0)
        image.write(sections + number * image.types.structs["mem_section"].size, 0)
    counter = image.variables["nr_memmap_boot_pages"][1]
    count = image.memory.read_u64(image.physical(counter))
    for still_counted in range(removed + 1):
        image.write(counter, count - 512 * still_counted)
        assert verify(image.prog).findings == []
    for wrong in (count + 1, count + 512, count - 512 * removed + 1, count - 512 * removed - 1):
        image.write(counter, wrong)
        assert [f.rule for f in verify(image.prog).findings] == ["count-mismatch"]


def test_a_pool_that_shrank_to_nothing_leaves_tables_that_are_subtracted() -> None:
    machine = Machine(line=LINES["6.12.0"], split=frozenset((1, 2, 3, 4)))
    report = verify(Image(machine).prog)
    assert report.findings == []
    assert report.totals.net_saved_bytes == -4 * PAGE_SIZE


def test_a_kernel_without_any_hstate_has_nothing_wrong() -> None:
    report = verify(Image(Machine(line=LINES["6.12.0"], orders=())).prog)
    assert (report.findings, report.totals.net_saved_bytes) == ([], 0)


# Folios.


@pytest.mark.parametrize("order", (9, 18))
@every_layout
def test_what_only_shows_the_head_of_another_folio_is_no_folio(release: str, order: int) -> None:
    gigantic = (Folio(GIB >> PAGE_SHIFT, 18), Folio(2 * GIB >> PAGE_SHIFT, 18))
    folios = gigantic if order == 18 else (Folio(OPTIMIZED), Folio(UNOPTIMIZED))
    echo = folios[-1].pfn + (1 << order)
    split = frozenset((pmd_of(echo),))
    machine = Machine(line=LINES[release], node_size=4 * GIB, folios=folios, split=split)
    kernel = EditedKernel(Image(machine).prog)
    kernel.write_entry(echo, 0, kernel.entry(folios[0].pfn, 0))
    report = kernel.check()
    assert [folio.pfn for folio, _ in report.folios] == [folio.pfn for folio in folios]
    assert {f.rule for f in report.findings} >= {"orphan-remap", "frame-aliased"}
    assert "off-list" not in {f.rule for f in report.findings}


def test_what_may_be_a_folio_whose_head_is_not_in_the_dump_is_no_orphan() -> None:
    # Without the first one's head, no list leads to the second.
    folios = (Folio(OPTIMIZED, head_in_dump=False), Folio(OPTIMIZED + 512, head_in_dump=False))
    report = verify(Image(Machine(line=LINES["7.2.0"], folios=folios)).prog)
    assert [folio.pfn for folio, _ in report.folios] == [OPTIMIZED]
    assert errors(report) == []
    assert report.incomplete


# Content.


def test_a_frame_with_the_tails_of_another_folio_is_said_to_be_that_ones() -> None:
    kernel = edited("6.12.0", Folio(UNOPTIMIZED + 512))
    other = UNOPTIMIZED + 512
    for index in range(8):
        kernel.write_entry(OPTIMIZED, index, kernel.entry(other, index))
    found = errors(kernel.check())
    assert ("reuse-invalid", OPTIMIZED, 0) in found
    assert ("frame-aliased", OPTIMIZED, 0) in found
    assert ("frame-aliased", other, 0) in found


# Why folios are not optimized.

UNOPTIMIZED_ONE = Machine(line=LINES["6.12.0"], folios=(Folio(UNOPTIMIZED, remapped=False),))


@pytest.mark.parametrize(
    ("machine", "reason"),
    (
        (replace(UNOPTIMIZED_ONE, enabled=False), "HVO is off now"),
        (UNOPTIMIZED_ONE, "the dump shows no reason"),
        (replace(UNOPTIMIZED_ONE, line=LINES["5.10.0"]), "this kernel has no HVO"),
        (replace(UNOPTIMIZED_ONE, page_size=80), "struct page has 80 bytes"),
        (
            replace(
                UNOPTIMIZED_ONE,
                folios=(
                    Folio(UNOPTIMIZED, remapped=False, edits=dict.fromkeys(range(1, 8), FRESH_W)),
                ),
            ),
            "its vmemmap was optimized once, and restored",
        ),
    ),
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "machine",
)
def test_a_folio_is_unoptimized_for_a_reason(machine: Machine, reason: str) -> None:
    (message,) = reasons(machine).values()
    assert reason in message


def test_what_optimizing_a_folio_would_free_is_reported_where_it_could_be() -> None:
    (message,) = reasons(UNOPTIMIZED_ONE).values()
    assert message.endswith("optimizing it would free 7 frames")
    (message,) = reasons(replace(UNOPTIMIZED_ONE, page_size=80)).values()
    assert "would free" not in message
