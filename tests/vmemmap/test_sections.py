# SPDX-License-Identifier: LGPL-2.1-or-later

"""Sections of which only a part has a memmap: memory of a device that is less than a section."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.places import Place
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.sections import (
    MissingSections,
    SectionIndex,
    SectionRange,
    present_sections,
)
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import (
    FIRST_FOLIO,
    SECTION_PAGES,
    SUBSECTION_ORDER,
    Damage,
    Folio,
    Machine,
    Section,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SIZE, WRITABLE

NUMBER = 5
FIRST = NUMBER * SECTION_PAGES
SIZE = 1 << SUBSECTION_ORDER
ENDS = 1 << 63 | 1
"""The first and the last 2 MiB of a section."""

every_line = pytest.mark.parametrize(
    "release", [name for name, line in LINES.items() if line.layout is not Layout.NONE]
)


def image(release: str, section: Section, parts: int, **machine: Any) -> Image:
    return Image(
        Machine(
            line=LINES[release],
            folios=(Folio(FIRST_FOLIO),),
            sections={NUMBER: section},
            parts={NUMBER: parts},
            **machine,
        )
    )


def not_present(report: Report) -> list[str]:
    return [f.message for f in report.findings if f.rule == "not-present"]


def accusations(report: Report) -> list[str]:
    return [f"{f.rule}: {f.message}" for f in report.findings if f.severity.value != "info"]


@every_line
@pytest.mark.parametrize("parts", (1, ENDS, 0xFF00, (1 << 64) - 1), ids=hex)
def test_parts_of_a_devices_section_need_no_memmap(release: str, parts: int) -> None:
    report = verify(image(release, Section.DEVICE, parts).prog)
    assert accusations(report) == []
    described = [pfn for special in report.special for pfn in special.pfns[::SIZE]]
    assert described == [FIRST + part * SIZE for part in range(64) if parts >> part & 1]
    # Each compound page of 2 MiB shares its tails, and is counted once.
    per_page = 7 if "coming" in release else 6
    assert sum(special.freed for special in report.special) == per_page * len(described)


@every_line
def test_offline_memory_has_all_of_the_memmap_that_its_section_says(release: str) -> None:
    sound = image(release, Section.OFFLINE, ENDS)
    assert accusations(verify(sound.prog)) == []
    address = sound.tables.entry_address(sound.machine.page_address(FIRST + 63 * SIZE), "PTE")
    sound.memory.write_u64(address, 0)
    first, last = FIRST + 63 * SIZE, FIRST + 63 * SIZE + 63
    assert not_present(verify(sound.prog)) == [
        f"vmemmap of PFNs {first:#x} to {last:#x}: PTE entry: not present"
    ]


def test_what_lies_in_a_part_without_a_memmap_names_no_device() -> None:
    """A page that is unmapped in part is filled with a pattern (``vmemmap_use_sub_pmd()``)."""
    sound = image("6.12.0", Section.DEVICE, (1 << 64) - 1)
    frames = [sound.memmap.boot_frame(sound.memmap.number(FIRST + n * SIZE)) for n in range(64)]
    for frame in frames[1:]:
        sound.memory.fill([frame], b"\xfd" * 4096)
    report = verify(sound.prog)
    assert [special.kind for special in report.special] == ["device-dax"]


def test_plugged_memory_that_is_online_is_no_devices_whatever_the_dump_lacks() -> None:
    sound = Image(Machine(folios=(Folio(FIRST_FOLIO),), sections={NUMBER: Section.PLUGGED}))
    first = sound.memmap.number(FIRST)
    for number in range(first, first + SECTION_PAGES * 64 // 4096):
        sound.drop_frame(sound.memmap.boot_frame(number))
    report = verify(sound.prog)
    assert report.incomplete
    assert not any("a device's memory" in finding.message for finding in report.findings)


@pytest.mark.parametrize("unknown", ((), (2,), (5,), (2, 5)), ids=str)
def test_the_memmap_of_plugged_memory_is_required_unless_it_may_be_a_devices(
    unknown: tuple[int, ...],
) -> None:
    """A part of a device's is marked before its memmap is there (``section_activate()``)."""
    numbers = (2, 5)
    kinds = {4: Section.DEVICE, **dict.fromkeys(numbers, Section.OFFLINE)}
    machine = Machine(folios=(Folio(FIRST_FOLIO),), sections=kinds, split=frozenset(kinds))
    broken = Image(machine)
    for number in kinds:
        pfn = number * SECTION_PAGES
        broken.write_entry(pfn, 0, broken.entry(pfn) & ~1)
    for number in unknown:
        first = broken.memmap.number(number * SECTION_PAGES)
        for page in range(first, first + SECTION_PAGES * 64 // PAGE_SIZE):
            broken.drop_frame(broken.memmap.boot_frame(page))
    report = verify(broken.prog)
    assert [message.split()[3] for message in not_present(report)] == [
        hex(number * SECTION_PAGES) for number in numbers if number not in unknown
    ]


def test_a_section_whose_parts_are_not_in_the_dump_is_named_and_not_accused() -> None:
    sound = image("6.12.0", Section.DEVICE, ENDS)
    usage = sound.section_usages[NUMBER]
    sound.drop_frame(sound.physical(usage) >> 12)
    report = verify(sound.prog)
    assert report.incomplete
    (accusation,) = accusations(report)
    assert accusation == (
        f"unreadable: the dump does not show whether PFNs {FIRST:#x} to "
        f"{FIRST + SECTION_PAGES - 1:#x} all have a memmap"
    )


def test_read_only_vmemmap_is_not_accused_where_it_is_not_known_to_be_needed() -> None:
    numbers = (2, 5, 6)
    machine = Machine(
        folios=(Folio(FIRST_FOLIO),),
        sections=dict.fromkeys(numbers, Section.OFFLINE),
        parts=dict.fromkeys(numbers, ENDS),
    )
    sound = Image(machine)
    pfn = 2 * SECTION_PAGES
    sound.write_entry(pfn, 3, sound.entry(pfn, 3) & ~WRITABLE)
    assert [finding.rule for finding in verify(sound.prog).findings] == ["orphan-remap"]
    for frame in {sound.physical(usage) >> 12 for usage in sound.section_usages.values()}:
        sound.drop_frame(frame)
    rules = [finding.rule for finding in verify(sound.prog).findings]
    assert rules == ["unreadable"] * len(numbers)


def test_damage_to_offline_vmemmap_is_found_and_to_a_part_that_is_gone_is_none() -> None:
    damage = {pmd_of(FIRST): Damage.ABSENT}
    machine = Machine(
        folios=(Folio(FIRST_FOLIO),), sections={NUMBER: Section.OFFLINE}, damage=damage
    )
    assert not_present(verify(Image(machine).prog)) == [
        f"vmemmap of PFNs {FIRST:#x} to {FIRST + SECTION_PAGES - 1:#x}: PMD entry: not present"
    ]
    none = image("6.12.0", Section.OFFLINE, 0)
    assert accusations(verify(none.prog)) == []


def test_a_pfn_in_a_part_without_a_memmap_is_explained_as_such() -> None:
    explained = Explainer.of_program(image("6.12.0", Section.DEVICE, ENDS).prog)
    places = {}
    for part in (0, 1, 63):
        page = explained.explain(parse(f"pfn:{FIRST + part * SIZE:#x}")).of_page
        assert page is not None
        assert page.page is not None
        places[part] = page.page.place
    assert places == {0: Place.DEVICE, 1: Place.NO_PART, 63: Place.DEVICE}


def test_pages_of_sections_that_are_not_in_the_dump_are_named_with_what_they_describe() -> None:
    sound = Image(Machine(folios=(Folio(FIRST_FOLIO),)))
    roots = sound.physical(sound.memory.read_u64(sound.physical(sound.variables["mem_section"][1])))
    first, nowhere = sound.memory.read_u64(roots), sound.machine.page_offset + (1 << 45)
    each = PAGE_SIZE // sound.types.structs["mem_section"].size * SECTION_PAGES
    memory = range(sound.machine.max_pfn)

    def found(*pointers: int) -> list[range]:
        for number, pointer in enumerate(pointers):
            sound.memory.write_u64(roots + 8 * number, pointer)
        snapshot = Snapshot(discover(sound.prog), ProgramMemory(sound.prog))
        return [section.pfns for section in present_sections(snapshot)]

    assert found(first, nowhere, nowhere + PAGE_SIZE, 0, nowhere + 2 * PAGE_SIZE) == [
        memory,
        range(each, 3 * each),
        range(4 * each, 5 * each),
    ]
    # No two pointers lead to the same page.
    assert found(first, first, 0, 0, 0) == [memory, range(each, 2 * each)]
    # Of sections that may not exist, those of memory are named.
    assert found(nowhere, 0, first, 0, 0) == [memory, range(2 * each, 2 * each + len(memory))]


def test_sections_whose_pointers_are_not_in_the_dump_describe_memory_alone() -> None:
    sound = Image(Machine())
    roots = sound.memory.read_u64(sound.physical(sound.variables["mem_section"][1]))
    kernel = discover(sound.prog)
    sound.drop_frame(sound.physical(roots) >> 12)
    (missing,) = present_sections(Snapshot(kernel, ProgramMemory(sound.prog)))
    each = PAGE_SIZE // sound.types.structs["mem_section"].size * SECTION_PAGES
    assert missing == MissingSections(range(sound.machine.max_pfn), range(each))


PRESENT, HAS_MAP, ONLINE, EARLY, TAINTED = (1 << bit for bit in range(5))
BOOT = PRESENT | HAS_MAP | ONLINE | EARLY


def sections_with(flags: int, parts: int = (1 << 64) - 1) -> list[SectionRange]:
    """The sections of a kernel of which one has some flags; the others are from boot."""
    machine = Machine(sections={NUMBER: Section.OFFLINE}, parts={NUMBER: parts})
    changed = Image(machine)
    roots = changed.physical(
        changed.memory.read_u64(changed.physical(changed.variables["mem_section"][1]))
    )
    root = changed.physical(changed.memory.read_u64(roots))
    address = root + NUMBER * changed.types.structs["mem_section"].size
    changed.memory.write_u64(address, changed.machine.vmemmap | flags)
    snapshot = Snapshot(discover(changed.prog), ProgramMemory(changed.prog))
    return [each for each in present_sections(snapshot) if isinstance(each, SectionRange)]


BEFORE, SECTION = range(FIRST), range(FIRST, FIRST + SECTION_PAGES)
AFTER = range(SECTION.stop, 8 * SECTION_PAGES)


@pytest.mark.parametrize("flags", (0, BOOT & ~PRESENT, BOOT & ~HAS_MAP), ids=bin)
def test_a_section_that_is_not_present_or_has_no_memmap_describes_nothing(flags: int) -> None:
    assert [section.pfns for section in sections_with(flags)] == [BEFORE, AFTER]


def test_sections_from_boot_that_are_alike_are_one_range() -> None:
    (section,) = sections_with(BOOT)
    assert section.pfns == range(AFTER.stop)
    assert section.parts == (section.pfns,)
    others = sections_with(BOOT | 1 << 5)
    assert [section.pfns for section in others] == [BEFORE, SECTION, AFTER]


@pytest.mark.parametrize(
    ("flags", "has_all"),
    (
        (PRESENT | HAS_MAP, False),
        (PRESENT | HAS_MAP | TAINTED, False),
        (PRESENT | HAS_MAP | ONLINE, True),
        (PRESENT | HAS_MAP | EARLY, True),
        (BOOT | TAINTED, True),
    ),
    ids=lambda each: bin(each) if not isinstance(each, bool) else "",
)
def test_memory_from_boot_and_online_memory_have_all_of_their_memmap(
    flags: int, has_all: bool
) -> None:
    """``pfn_section_valid()``, and a section at a time for what is plugged and gets online."""
    before, section, after = sections_with(flags, parts=ENDS)
    assert (before.pfns, section.pfns, after.pfns) == (BEFORE, SECTION, AFTER)
    ends = (SECTION[:SIZE], SECTION[-SIZE:])
    assert section.parts == ((SECTION,) if has_all else ends)


def test_a_kernel_without_parts_of_sections_has_all_of_each() -> None:
    """Before v5.3, there is no ``struct mem_section_usage``."""
    prog = image("6.12.0", Section.OFFLINE, ENDS).prog
    kernel = discover(prog)
    older = replace(kernel, sections=kernel.sections._replace(usage=None))
    found = present_sections(Snapshot(older, ProgramMemory(prog)))
    assert SectionRange(SECTION, PRESENT | HAS_MAP | kernel.vmemmap, (SECTION,)) in found


def test_parts_of_a_section_that_touch_are_one() -> None:
    _, section, _ = sections_with(PRESENT | HAS_MAP, parts=0b110101)
    assert section.parts == (
        SECTION[:SIZE],
        SECTION[2 * SIZE : 3 * SIZE],
        SECTION[4 * SIZE : 6 * SIZE],
    )


def test_a_pfn_is_found_in_its_section_and_in_no_other() -> None:
    before, after = sections_with(0)
    index = SectionIndex((before, after))
    pfns = (0, BEFORE[-1], FIRST, SECTION[-1], AFTER[0], AFTER[-1], AFTER.stop)
    assert [index.at(pfn) for pfn in pfns] == [before, before, None, None, after, after, None]
    assert [SectionIndex((after,)).at(pfn) for pfn in (FIRST, AFTER[0])] == [None, after]
    assert SectionIndex(()).at(0) is None
