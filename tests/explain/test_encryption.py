# SPDX-License-Identifier: LGPL-2.1-or-later

"""Entries in a log may have the bit of AMD's memory encryption, which is no part of a frame."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.dump.explained_log import explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import Explanation
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.explain.text_only.statements import Certainty
from drgn_vmemmap.paging.leaf import likely_encryption_mask
from tests.explain.reading import report_on
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

PFN = FIRST_FOLIO + 200
BITS = (0, 1 << 47, 1 << 51)
TABLES = (("PGD", 0x7FCB0067), ("PUD", 0x7FCAE067), ("PMD", 0x2420067))

every_bit = pytest.mark.parametrize("bit", BITS, ids=hex)


def bad_entries(bit: int) -> tuple[str, str]:
    """Lines that name an entry which maps the page."""
    entry = PFN << 12 | 0x8000000000000867 | bit
    return (
        f"BUG: Bad page map in process cat  pte:{entry:016x} pmd:{0x2420067 | bit:08x}",
        f"mm/memory.c:123: bad pmd ffff888012345678({entry:016x})",
    )


def walk(bit: int) -> str:
    entries = (*TABLES, ("PTE", PFN << 12 | 0x8000000000000121))
    return " ".join(f"{level} {raw | bit:x}" for level, raw in entries)


def explained(bit: int, log: str) -> list[Explanation]:
    of = Image(Machine(folios=(Folio(FIRST_FOLIO),), encryption_mask=bit))
    found = explain_log(Explainer.of_program(of.prog), read_text(log.encode()).lines, Boot())
    assert not found.others
    return found.explanations


def statements(log: str) -> list[tuple[Certainty, str]]:
    (account,) = report_on([log]).accounts
    return [(certainty, text) for certainty, text in account.statements]


@every_bit
def test_the_page_that_an_entry_maps_is_explained(bit: int) -> None:
    for line in bad_entries(bit):
        (explanation,) = explained(bit, line)
        assert explanation.query.text == f"pfn:{PFN:#x}"


@every_bit
def test_the_frame_that_a_walk_leads_to_is_explained(bit: int) -> None:
    (explanation,) = explained(bit, f"{walk(bit)}\nOops: Oops: 0003 [#1] SMP NOPTI")
    assert explanation.query.text == f"pfn:{PFN:#x}"


@every_bit
def test_a_text_alone_does_not_say_for_certain_which_page_an_entry_with_the_bit_maps(
    bit: int,
) -> None:
    for line in bad_entries(bit):
        first = statements(line)[0]
        assert first[0] is (Certainty.UNKNOWN if bit else Certainty.CERTAIN)
        assert f"PFN {PFN:#x}" in first[1] or f"{PFN << 12:#x}" in first[1]


@every_bit
def test_of_a_walk_a_text_alone_shows_which_bit_is_no_address(bit: int) -> None:
    fault = "BUG: unable to handle page fault for address: ffffea01c0203200"
    said = statements(f"{fault}\n#PF: error_code(0x0003) - x\n{walk(bit)}")
    assert (
        Certainty.CERTAIN,
        f"the page was mapped read-only by a PTE, to frame {PFN:#x}",
    ) in said


def test_the_bit_is_one_that_all_entries_of_a_walk_have() -> None:
    bit = 1 << 51
    entries = [(level, raw | bit) for level, raw in TABLES]
    assert likely_encryption_mask(entries) == bit
    assert likely_encryption_mask([*entries, ("PTE", 0)]) == bit
    assert likely_encryption_mask([*TABLES, ("PTE", 0x35F9B121 | bit)]) == 0
    assert likely_encryption_mask(entries[:1]) == 0
