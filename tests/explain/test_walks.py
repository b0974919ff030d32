# SPDX-License-Identifier: LGPL-2.1-or-later

"""The walk to an address is shown as far as it goes, and decides what an access does."""

from __future__ import annotations

import pytest

from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.output.explanation import text
from drgn_vmemmap.paging.x86_64 import flag_names
from drgn_vmemmap.paging.x86_64 import levels as levels_of
from tests.explain.images import OPTIMIZED, UNOPTIMIZED, at, backs, explained, image
from tests.synthetic.image import Image
from tests.synthetic.model import ABSENT, BEYOND_W, FIRST_FOLIO, Damage, Folio, Machine, Vpage
from tests.synthetic.physical import LARGE, PAGE_SIZE, WRITABLE


@pytest.mark.parametrize("levels", (4, 5))
def test_the_walk_is_shown_level_by_level(levels: int) -> None:
    of = Image(Machine(levels=levels, folios=(Folio(OPTIMIZED),)))
    explanation = at(of, OPTIMIZED + 64)
    names = [step.level.name for step in explanation.steps]
    assert names == [*(["PGD", "P4D"] if levels == 5 else ["PGD"]), "PUD", "PMD", "PTE"]
    last = explanation.steps[-1]
    assert (last.raw, last.raw_address) == (of.entry(OPTIMIZED, 1), of.entry_address(OPTIMIZED, 1))
    assert not last.access.writable
    assert f"{last.raw:016x}" in text(explanation)


@pytest.mark.parametrize("levels", (4, 5))
@pytest.mark.parametrize("pfn", (False, True))
def test_the_table_of_a_walk_fits_80_columns_whatever_its_flags(levels: int, pfn: bool) -> None:
    of = Image(Machine(levels=levels, folios=(Folio(OPTIMIZED),)))
    raw = of.entry(OPTIMIZED, 1) | 0xFFF0_0000_0000_0E7F
    of.write_entry(OPTIMIZED, 1, raw)
    what = f"pfn:{OPTIMIZED + 64:#x}" if pfn else f"{of.machine.page_address(OPTIMIZED + 64):#x}"
    lines = text(explained(of, what)).splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:2] == ["level", "physical"])
    last = next(i for i, line in enumerate(lines) if f"{raw:016x}" in line)
    assert all(len(line) <= 80 for line in lines[first : last + 3])
    shown = "".join(line.split()[-1] for line in lines[last : last + 3])
    assert flag_names(raw, levels_of(4)[-1]) in shown


def test_a_walk_that_ends_early_is_shown_to_its_end() -> None:
    of = image("6.12.0")
    of.write_entry(OPTIMIZED, 0, 0, level="PMD")
    explanation = at(of, OPTIMIZED + 64)
    assert [step.level.name for step in explanation.steps][-1] == "PMD"
    assert "mapped to no memory: PMD: not present" in text(explanation)
    assert not explanation.incomplete


@pytest.mark.parametrize(
    ("edit", "level", "read", "write"),
    (
        (0, "PTE", "error code 0x0000, not-present page", "error code 0x0002, not-present page"),
        (0, "PMD", "error code 0x0000, not-present page", "error code 0x0002, not-present page"),
        (~WRITABLE, "PTE", "gets this struct page", "error code 0x0003, permissions violation"),
        (~WRITABLE, "PMD", "gets this struct page", "error code 0x0003, permissions violation"),
        (~0, "PTE", "gets this struct page", "changes this struct page"),
    ),
)
def test_what_an_access_does_depends_on_all_levels(
    edit: int, level: str, read: str, write: str
) -> None:
    of = image("6.12.0")
    of.write_entry(UNOPTIMIZED, 3, of.entry(UNOPTIMIZED, 3, level) & edit, level)
    explanation = at(of, UNOPTIMIZED + 3 * 64)
    assert read in explanation.read
    assert write in explanation.write


def test_a_reserved_bit_faults() -> None:
    of = Image(Machine(levels=5, folios=(Folio(OPTIMIZED),)))
    address = of.tables.entry_address(of.machine.page_address(OPTIMIZED), "P4D")
    of.memory.write_u64(address, of.memory.read_u64(address) | LARGE)
    explanation = at(of, OPTIMIZED)
    assert "0x0009, reserved bit violation" in explanation.read
    assert "0x000b, reserved bit violation" in explanation.write


@pytest.mark.parametrize("edit", (ABSENT, BEYOND_W))
def test_a_page_without_memory_is_not_called_a_struct_page(edit: Vpage) -> None:
    explanation = at(image("6.12.0", {3: edit}), OPTIMIZED + 3 * 64)
    assert "struct page" not in explanation.read + explanation.write
    assert explanation.frame_state is None


def test_an_entry_that_is_not_in_the_dump_is_not_guessed() -> None:
    of = image("6.12.0")
    of.drop_frame(of.entry_address(OPTIMIZED, 0) >> 12)
    explanation = at(of, OPTIMIZED + 64)
    assert explanation.steps[-1].raw is None
    assert explanation.write.startswith("has an unknown effect")
    assert explanation.incomplete
    assert "not in the dump" in text(explanation)


def test_a_table_that_is_not_in_the_dump_may_hide_who_else_sees_a_frame() -> None:
    far = FIRST_FOLIO + 64 * 512
    folios = (Folio(OPTIMIZED), Folio(far))
    damage = {far * 64 >> 21: Damage.MISSING}
    explanation = at(Image(Machine(folios=folios, damage=damage)), OPTIMIZED + 64)
    assert backs(explanation) == [(OPTIMIZED, "0-7")]
    assert explanation.incomplete
    assert "it may back more vmemmap" in text(explanation)


def test_a_folio_whose_verdict_is_not_known_makes_an_explanation_incomplete() -> None:
    """Its own entries are in the dump; the zone, which says where its tails belong, is not."""
    of = image("7.2.0")
    zone = of.machine.zone(OPTIMIZED)
    explanation = at(of, OPTIMIZED)
    assert not explanation.incomplete
    of.drop_frame(of.physical(of.tail_slot(0, zone, 9)) >> 12)
    explanation = at(of, OPTIMIZED)
    assert explanation.page is not None and explanation.page.folio is not None
    assert explanation.page.folio.judgement.verdict is Verdict.UNREADABLE
    assert explanation.incomplete


def test_whose_page_it_is_is_not_guessed_without_the_head_page() -> None:
    of = Image(Machine(folios=(Folio(OPTIMIZED), Folio(UNOPTIMIZED, remapped=False))))
    of.drop_frame(of.frames[OPTIMIZED][0] or 0)
    # Nor does a list show it.
    of.write(of.list_head(9, 0), of.list_head(9, 0))
    explanation = at(of, OPTIMIZED + 100)
    assert explanation.page is not None
    assert (explanation.page.folio, explanation.page.known) == (None, False)
    assert explanation.incomplete
    assert "perhaps of a HugeTLB folio" in text(explanation)


def test_a_struct_page_that_is_not_in_the_dump_is_not_passed_over() -> None:
    of = Image(Machine(folios=(Folio(OPTIMIZED), Folio(UNOPTIMIZED, remapped=False))))
    of.drop_frame(of.frames[UNOPTIMIZED][2] or 0)
    explanation = at(of, UNOPTIMIZED + 2 * 64)
    assert explanation.page is not None and explanation.page.contents is None
    assert explanation.incomplete
    assert "the content of this struct page is not in the dump" in text(explanation)


def test_tables_in_a_circle_end() -> None:
    of = image("6.12.0")
    address = of.tables.entry_address(of.machine.page_address(OPTIMIZED), "PUD")
    raw = of.memory.read_u64(address)
    of.memory.write_u64(address, raw & 0xFFF | address & -PAGE_SIZE)
    explanation = at(of, OPTIMIZED)
    assert explanation.steps[-1].level.name in ("PMD", "PTE")
