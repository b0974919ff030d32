# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reuse frames: tails that share no frame, or one that they must not share, are found."""

from __future__ import annotations

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.kernel.layout import Layout
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
from tests.synthetic.model import FRESH_W, OWN_R, OWN_W, Vpage
from tests.synthetic.physical import PAGE_SHIFT, WRITABLE


@pytest.mark.long
@every_layout
@every_order
@pytest.mark.parametrize("vpage", (OWN_W, OWN_R, FRESH_W))
def test_a_tail_with_a_frame_of_its_own_is_found(release: str, order: int, vpage: Vpage) -> None:
    for page in some(release, order):
        image = Image(machine(release, order, {page: vpage}))
        assert found(image) == errors("reuse-mismatch", PFNS[order], [page])


@every_layout
def test_a_roll_back_that_was_not_finished_is_found(release: str) -> None:
    first = KEPT[LINES[release].layout]
    for end in range(first + 1, 8):
        pages = range(first, end)
        image = Image(machine(release, edits=dict.fromkeys(pages, FRESH_W)))
        assert found(image) == errors("reuse-mismatch", PFNS[9], pages)


@every_line
def test_a_read_only_page_of_an_unoptimized_folio_is_found(release: str) -> None:
    image = Image(machine(release, edits={6: OWN_R}, remapped=False))
    assert found(image) == errors("reuse-mismatch", PFNS[9], [6])


@every_layout
def test_tails_that_share_another_folios_frame_are_found(release: str) -> None:
    image = Image(machine(release))
    pages = range(KEPT[LINES[release].layout], 8)
    other = image.frames[FREE_AFTER][3]
    assert other is not None
    for page in pages:
        entry = image.entry(PFNS[9], page)
        image.write_entry(PFNS[9], page, entry & ~(0xFFFFFFFFFF << 12) | other << PAGE_SHIFT)
    assert found(image) == errors("reuse-invalid", PFNS[9], pages[:1])


@every_layout
def test_tails_that_share_a_frame_beyond_memory_are_found(release: str) -> None:
    image = Image(machine(release))
    pages = range(KEPT[LINES[release].layout], 8)
    for page in pages:
        entry = image.entry(PFNS[9], page)
        beyond = image.machine.max_pfn << PAGE_SHIFT
        image.write_entry(PFNS[9], page, entry & ~(0xFFFFFFFFFF << 12) | beyond)
    assert found(image) == errors("reuse-invalid", PFNS[9], pages[:1])
    (finding,) = image.examine().findings
    assert finding.expected == {
        Layout.TAIL_REUSE: "the folio's own second frame",
        Layout.HEAD_REUSE: "the folio's own head frame",
        Layout.SHARED_TAIL: "the frame that the zone keeps for this order",
    }.get(LINES[release].layout, finding.expected)
    assert not verify(image.prog).incomplete


def test_tails_that_share_a_frame_that_the_zone_does_not_keep_are_found() -> None:
    image = Image(machine("7.2.0", 18))
    (slot,) = (image.tail_slot(*key) for key in image.tail_frames if key[2] == 18)
    image.write(slot, 0)
    assert found(image) == errors("reuse-invalid", PFNS[18], [1])


def test_tails_that_share_the_frame_of_another_order_are_found() -> None:
    image = Image(machine("7.2.0", 18))
    (of_order_9,) = (frame for key, frame in image.tail_frames.items() if key[2] == 9)
    (slot,) = (image.tail_slot(*key) for key in image.tail_frames if key[2] == 18)
    image.write(slot, image.machine.page_address(of_order_9))
    assert found(image) == [
        *errors("reuse-invalid", PFNS[18], [1]),
        Found("reuse-invalid", "error", None),
    ]
    (shared,) = (f for f in image.examine().findings if f.folio is None)
    first, second = (f"zone {zone} of node {node}, order" for node, zone, _ in image.tail_frames)
    assert shared.message == f"tail frame {of_order_9:#x} is kept for {first} 9 and for {second} 18"
    assert shared.expected == "a frame for each zone and order"
    assert shared.address == image.machine.page_address(of_order_9)


def test_tails_that_share_the_frame_of_another_zone_are_found() -> None:
    image = Image(machine("7.2.0"))
    ((key, frame),) = image.tail_frames.items()
    image.write(image.tail_slot(*key), 0)
    node, zone, order = key
    image.write(image.tail_slot(node, zone + 1, order), image.machine.page_address(frame))
    optimized = (FREE_BEFORE, PFNS[9], ACTIVE)
    assert found(image) == [e for pfn in optimized for e in errors("reuse-invalid", pfn, [1])]


def test_a_zone_that_keeps_the_head_frame_of_a_folio_is_found_with_that_folio() -> None:
    image = Image(machine("7.2.0"))
    ((key, _),) = image.tail_frames.items()
    head = image.frames[FREE_AFTER][0]
    assert head is not None
    image.write(image.tail_slot(*key), image.machine.page_address(head))
    messages = {f.folio: (f.rule, f.index, f.message) for f in image.examine().findings}
    assert messages[FREE_AFTER] == (*("reuse-mismatch", 0, "is mapped to the zone's tail frame"),)
    assert messages[PFNS[9]][:2] == ("reuse-invalid", 1)


def test_tails_that_share_the_head_frame_of_their_folio_are_found_where_a_zone_keeps_one() -> None:
    image = Image(machine("7.2.0"))
    for page in range(1, 8):
        image.write_entry(PFNS[9], page, image.entry(PFNS[9], 0) & ~WRITABLE)
    assert found(image) == errors("reuse-invalid", PFNS[9], [1])


@pytest.mark.parametrize("release", ("5.15.0", "7.2.0"))
def test_a_kept_page_that_shares_its_frame_with_a_tail_is_found(release: str) -> None:
    image = Image(machine(release))
    image.write_entry(PFNS[9], 4, image.entry(PFNS[9], 0))
    report = image.examine()
    mismatches = [each for each in findings_of(report) if each.rule == "reuse-mismatch"]
    assert mismatches == errors("reuse-mismatch", PFNS[9], [0, 4])
    (judgement,) = (each.judgement for each in report.folios if each.folio.pfn == PFNS[9])
    assert judgement.reuse_frame == image.entry(PFNS[9], 7) >> PAGE_SHIFT & (1 << 40) - 1


@pytest.mark.parametrize("release", ("7.2.0", "coming"))
def test_a_slot_for_tails_that_leads_to_no_struct_page_is_found_though_no_folio_uses_it(
    release: str,
) -> None:
    image = Image(machine(release))
    (zone,) = {key[1] for key in image.tail_frames}
    inside = image.machine.page_address(0x100)
    for pointer in (0xDEAD000000000100, inside + 8, image.machine.page_address(1 << 30)):
        image.write(image.tail_slot(0, zone + 1, 9), pointer)
        (finding,) = (f for f in image.examine().findings if f.rule == "reuse-invalid")
        assert finding.message == (
            f"vmemmap_tails of zone {zone + 1} of node 0, order 9, is {pointer:#x}, "
            "which is no struct page"
        )
        assert finding.expected == "the struct page of a frame, or null"
        assert finding.address == image.tail_slot(0, zone + 1, 9)


def test_tails_that_share_the_reuse_frame_of_another_folio_are_found_with_that_folio() -> None:
    image = Image(machine("5.15.0"))
    for page in range(1, 8):
        image.write_entry(PFNS[9], page, image.entry(FREE_BEFORE, page))
    frame = image.entry(FREE_BEFORE, 7) >> PAGE_SHIFT & (1 << 40) - 1
    said = f"reuse frame {frame:#x} is that of the folio at PFN {FREE_BEFORE:#x}"
    assert said in [f.message for f in verify(image.prog).findings if f.folio == PFNS[9]]
    # What leads to that folio, and is no tail of it, is no frame of its.
    image.memory.write((frame << PAGE_SHIFT) + 9 * 64 + 8, bytes(8))
    assert said not in [f.message for f in verify(image.prog).findings if f.folio == PFNS[9]]
