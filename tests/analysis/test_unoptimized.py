# SPDX-License-Identifier: LGPL-2.1-or-later

"""Why a folio is not optimized, as far as the dump shows it."""

from __future__ import annotations

import pytest

from drgn_vmemmap import verify
from tests.support import findings_of, open_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import (
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    SECTION_PAGES,
    Folio,
    Machine,
    Section,
    Vpage,
)
from tests.synthetic.physical import PAGE_SHIFT

GIGANTIC = GIB >> PAGE_SHIFT

RESTORED = "its vmemmap was optimized once, and restored"


def reason(
    order: int = 9,
    edits: dict[int, Vpage] | None = None,
    enabled: bool = True,
    sections: dict[int, Section] | None = None,
) -> str:
    """Why one folio of a kernel is not optimized, between two that are."""
    pfn = GIGANTIC if order == 18 else FIRST_FOLIO + 512
    folio = Folio(pfn, order, remapped=False, edits=edits or {})
    machine = Machine(
        line=LINES["6.12.0"],
        node_size=3 * GIB,
        folios=(Folio(FIRST_FOLIO), folio, Folio(FIRST_FOLIO + 1024)),
        enabled=enabled,
        sections=sections or {},
    )
    report = verify(Image(machine).prog)
    (found,) = (each for each in report.findings if each.rule == "unoptimized")
    assert found.folio == pfn
    return found.message.partition(";")[0].removeprefix("not optimized: ")


def test_a_folio_whose_vmemmap_has_the_frames_from_boot_was_never_optimized() -> None:
    assert reason() == "the dump shows no reason"
    assert reason(18) == "the dump shows no reason"
    assert reason(enabled=False) == "HVO is off now"


@pytest.mark.parametrize("page", (1, 3, 7))
def test_one_frame_that_is_not_from_boot_shows_a_restore_of_this_or_another_folio(
    page: int,
) -> None:
    assert reason(edits={page: FRESH_W}) == RESTORED
    assert reason(edits={page: FRESH_W}, enabled=False) == RESTORED


def test_single_frames_of_memory_that_was_hot_plugged_are_no_sign_of_a_restore() -> None:
    plugged = {FIRST_FOLIO // SECTION_PAGES: Section.PLUGGED}
    assert reason(edits={3: FRESH_W}, sections=plugged) == "the dump shows no reason"


@pytest.mark.parametrize("page", (1, 511, 513, 4095))
def test_a_restore_shows_in_any_page_table_of_a_gigantic_folio(page: int) -> None:
    assert reason(18, {page: FRESH_W}) == RESTORED


def test_folios_of_a_real_kernel_that_were_made_after_hvo_was_switched_off_say_so() -> None:
    report = verify(open_vmcore("head-reuse"))
    found = [each.message for each in report.findings if each.rule == "unoptimized"]
    assert len(found) == 8 and all("HVO is off now" in message for message in found)
    assert not [each for each in findings_of(report) if each.severity == "error"]
