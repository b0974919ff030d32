# SPDX-License-Identifier: LGPL-2.1-or-later

"""Entries of single pages: what is not present, writable or read-only is found where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.rules.context import FolioContext
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.oracles.view import Found
from tests.rules.machines import (
    ACTIVE,
    FREE_AFTER,
    FREE_BEFORE,
    PFNS,
    errors,
    every_layout,
    every_line,
    every_order,
    found,
    machine,
    some,
)
from tests.support import findings_of
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import (
    ABSENT,
    BEYOND_R,
    FRESH_W,
    OWN_R,
    OWN_W,
    REUSE_R,
    REUSE_W,
    Damage,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SIZE, WRITABLE


@pytest.mark.parametrize("levels", (4, 5))
@every_order
@every_line
def test_a_sound_kernel_has_no_findings(release: str, order: int, levels: int) -> None:
    assert found(Image(replace(machine(release, order), levels=levels))) == []


@every_layout
def test_a_folio_whose_vmemmap_was_restored_is_sound(release: str) -> None:
    fresh = dict.fromkeys(range(1, 8), FRESH_W)
    assert found(Image(machine(release, edits=fresh, flag=False))) == []


@pytest.mark.long
@every_layout
@every_order
def test_a_page_that_is_not_present_is_found(release: str, order: int) -> None:
    for page in some(release, order):
        image = Image(machine(release, order, {page: ABSENT}))
        assert found(image) == errors("not-present", PFNS[order], [page])


def test_a_kept_page_that_is_not_present_is_found() -> None:
    assert found(Image(machine("5.15.0", edits={1: ABSENT}))) == errors("not-present", PFNS[9], [1])


@every_layout
def test_a_page_of_an_unoptimized_folio_that_is_not_present_is_found(release: str) -> None:
    image = Image(machine(release, edits={3: ABSENT}, remapped=False))
    assert found(image) == errors("not-present", PFNS[9], [3])


@every_layout
@pytest.mark.parametrize("damage", (Damage.ABSENT, Damage.BEYOND))
def test_an_entry_above_is_reported_once(release: str, damage: Damage) -> None:
    sound = machine(release, 18)
    pmd = pmd_of(PFNS[18]) + 2
    image = Image(replace(sound, damage={pmd: damage}))
    (finding,) = image.examine().findings
    assert (finding.rule, finding.folio, finding.index) == ("not-present", PFNS[18], 1024)
    assert finding.entry_address == image.entry_address(PFNS[18], 1024, "PMD")
    words = {Damage.ABSENT: "not present", Damage.BEYOND: "beyond physical memory"}
    assert finding.message == f"PMD entry: {words[damage]}"


@every_layout
def test_a_frame_beyond_memory_is_found(release: str) -> None:
    image = Image(machine(release, edits={4: BEYOND_R}))
    # It is not the reuse frame, either.
    assert found(image) == [
        *errors("not-present", PFNS[9], [4]),
        *errors("reuse-mismatch", PFNS[9], [4]),
    ]


@every_layout
def test_a_head_that_is_not_present_ends_a_list_that_is_then_followed_from_its_end(
    release: str,
) -> None:
    image = Image(machine(release, edits={0: ABSENT}))
    assert sorted(found(image), key=lambda f: (f.rule, f.folio or 0)) == [
        *errors("not-present", PFNS[9], [0]),
        Found("unreadable", "warning"),
    ]


def test_a_head_that_is_not_present_is_not_said_to_be_missing_from_the_dump() -> None:
    messages = [f.message for f in Image(machine("6.12.0", edits={0: ABSENT})).examine().findings]
    assert any(f"head page of PFN {PFNS[9]:#x} is mapped to no memory" in each for each in messages)
    assert not any("not in the dump" in each or "is on no" in each for each in messages)


@every_layout
@every_order
def test_a_tail_that_is_writable_is_found(release: str, order: int) -> None:
    for page in some(release, order):
        image = Image(machine(release, order, {page: REUSE_W}))
        assert found(image) == errors("tail-writable", PFNS[order], [page])


@every_layout
def test_a_finding_shows_the_entry_and_where_it_lies(release: str) -> None:
    image = Image(machine(release, edits={5: REUSE_W}))
    (finding,) = image.examine().findings
    assert finding.address == image.machine.page_address(PFNS[9]) + 5 * PAGE_SIZE
    assert finding.entry_address == image.entry_address(PFNS[9], 5)
    assert finding.entry == image.entry(PFNS[9], 5)
    assert finding.expected == f"frame {image.frames[PFNS[9]][7]:#x}, read-only"


@every_layout
@every_order
def test_a_kept_page_that_is_read_only_is_found(release: str, order: int) -> None:
    for page in range(KEPT[LINES[release].layout]):
        image = Image(machine(release, order, {page: OWN_R}))
        assert found(image) == errors("head-read-only", PFNS[order], [page])


@every_layout
def test_a_table_that_is_read_only_takes_the_heads_with_it(release: str) -> None:
    image = Image(machine(release, 18))
    entry = image.entry(PFNS[18], 0, "PMD")
    image.write_entry(PFNS[18], 0, entry & ~WRITABLE, "PMD")
    kept = range(KEPT[LINES[release].layout])
    assert found(image) == errors("head-read-only", PFNS[18], kept)


@every_layout
@pytest.mark.parametrize("level", ("PGD", "PUD"))
def test_a_level_above_that_is_read_only_takes_all_heads_with_it(release: str, level: str) -> None:
    image = Image(machine(release))
    entry = image.entry(PFNS[9], 0, level)
    image.write_entry(PFNS[9], 0, entry & ~WRITABLE, level)
    kept = range(KEPT[LINES[release].layout])
    assert [f for f in found(image) if f.rule == "head-read-only"] == [
        *errors("head-read-only", FREE_BEFORE, kept),
        *errors("head-read-only", PFNS[9], kept),
        *errors("head-read-only", FREE_AFTER, [0]),
        *errors("head-read-only", ACTIVE, kept),
    ]


BOOT_FOLIO = dict.fromkeys(range(64, 4096), REUSE_W)
"""Edits: as kernels v6.15 to v7.1 leave a folio of 1 GiB from boot, protected in part."""
boot_lines = pytest.mark.parametrize("release", ("6.18.0", "7.2.0"))


@boot_lines
def test_a_folio_that_the_kernel_protected_in_part_is_a_warning(release: str) -> None:
    report = Image(machine(release, 18, BOOT_FOLIO)).examine()
    assert findings_of(report) == [Found("tail-writable", "warning", PFNS[18], 64)]
    assert report.totals.counts[Verdict.INCONSISTENT] == 0


@boot_lines
def test_read_only_pages_of_a_folio_that_is_not_optimized_are_not_the_kernels_doing(
    release: str,
) -> None:
    edits = dict.fromkeys(range(1, 64), OWN_R)
    image = Image(machine(release, 18, edits, remapped=False))
    assert found(image) == errors("reuse-mismatch", PFNS[18], range(1, 64))


@boot_lines
def test_a_folio_that_was_protected_in_part_may_be_missing_in_part(release: str) -> None:
    boot = machine(release, 18, BOOT_FOLIO)
    image = Image(replace(boot, damage={pmd_of(PFNS[18]) + 3: Damage.MISSING}))
    assert found(image) == [
        Found("tail-writable", "warning", PFNS[18], 64),
        Found("unreadable", "warning", PFNS[18], 3 * 512),
    ]


@every_layout
def test_what_is_known_of_a_folio_is_judged_where_a_table_is_not_in_the_dump(release: str) -> None:
    wrong = machine(release, 18, {700: OWN_W})
    image = Image(replace(wrong, damage={pmd_of(PFNS[18]) + 3: Damage.MISSING}))
    assert found(image) == [
        *errors("reuse-mismatch", PFNS[18], [700]),
        Found("unreadable", "warning", PFNS[18], 3 * 512),
    ]


@every_layout
def test_each_table_that_is_not_in_the_dump_is_named_once(release: str) -> None:
    pmd = pmd_of(PFNS[18])
    missing = {pmd + number: Damage.MISSING for number in (1, 2, 4, 6)}
    assert found(Image(replace(machine(release, 18), damage=missing))) == [
        Found("unreadable", "warning", PFNS[18], number * 512) for number in (1, 2, 4, 6)
    ]


@every_layout
def test_the_flag_of_a_folio_most_of_whose_tables_are_missing_says_nothing(release: str) -> None:
    restored = machine(release, 18, dict.fromkeys(range(1, 512), OWN_W), flag=True)
    pmd = pmd_of(PFNS[18])
    missing = {pmd + number: Damage.MISSING for number in range(1, 8)}
    assert found(Image(replace(restored, damage=missing))) == [
        Found("unreadable", "warning", PFNS[18], number * 512) for number in range(1, 8)
    ]


@boot_lines
@pytest.mark.parametrize("page", (0, 63, 64))
def test_one_page_more_or_less_is_not_the_kernels_doing(release: str, page: int) -> None:
    other = {0: OWN_R, 63: REUSE_W, 64: REUSE_R}[page]
    image = Image(machine(release, 18, {**BOOT_FOLIO, page: other}))
    assert image.examine().totals.counts[Verdict.INCONSISTENT] == 1
    assert "error" in {finding.severity for finding in found(image)}


def test_a_check_may_ask_for_the_entries_of_a_folio_that_is_plainly_right() -> None:
    image = Image(machine("6.12.0"))
    (report,) = (each for each in image.examine().folios if each.folio.pfn == PFNS[9])
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    context = FolioContext(snapshot, report.folio, report.judgement, frozenset())
    assert [context.entry(index) for index in range(8)] == context.entries
    assert [entry.raw for entry in context.entries] == [image.entry(PFNS[9], n) for n in range(8)]
