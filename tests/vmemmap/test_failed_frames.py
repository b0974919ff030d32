# SPDX-License-Identifier: LGPL-2.1-or-later

"""Frames behind the vmemmap, and its page tables, whose memory failed."""

from __future__ import annotations

from drgn_vmemmap import verify
from tests.synthetic.image import Image
from tests.synthetic.physical import PAGE_SHIFT
from tests.vmemmap.test_owners import (
    ANONYMOUS,
    OPTIMIZED,
    RESTORED,
    UNSPLIT,
    errors,
    every_line,
    image,
)


def failed(image: Image, frame: int) -> None:
    image.write_page(frame, flags=image.memmap.flags(frame, "PG_hwpoison"), _refcount=1)


@every_line
def test_a_frame_whose_memory_failed_is_found_however_it_is_mapped(release: str) -> None:
    broken = image(release)
    unsplit = broken.memmap.boot_frame(broken.memmap.number(UNSPLIT) + 9)
    restored = broken.frames[RESTORED][3]
    assert restored is not None
    for frame in (restored, unsplit):
        failed(broken, frame)
    assert [(rule, folio, message) for rule, folio, _, message in errors(broken)] == [
        ("frame-failed", RESTORED, f"the memory of frame {restored:#x} failed (PG_hwpoison)"),
        ("frame-failed", None, f"the memory of frame {unsplit:#x} failed (PG_hwpoison)"),
    ]


def test_a_zones_tail_frame_whose_memory_failed_is_found_once() -> None:
    broken = image("7.2.0")
    (frame,) = broken.tail_frames.values()
    failed(broken, frame)
    (found,) = errors(broken)
    assert found[:3] == ("frame-failed", OPTIMIZED, 1)


def test_a_frame_that_a_zone_keeps_for_no_folio_and_whose_memory_failed_is_found() -> None:
    broken = image("7.2.0")
    ((key, _),) = broken.tail_frames.items()
    frame = UNSPLIT + 9
    broken.write(broken.tail_slot(*key[:2], 18), broken.machine.page_address(frame))
    failed(broken, frame)
    (finding,) = (each for each in verify(broken.prog).findings if each.rule == "frame-failed")
    assert (finding.folio, finding.address) == (None, broken.machine.page_address(frame))
    assert finding.message.endswith("no folio uses it now")


@every_line
def test_a_page_table_whose_memory_failed_is_found(release: str) -> None:
    broken = image(release)
    failed(broken, broken.entry_address(RESTORED) >> PAGE_SHIFT)
    (found,) = errors(broken)
    assert found[0] == "frame-failed"
    assert "the page table over the vmemmap" in found[3]


@every_line
def test_somebody_elses_memory_that_failed_is_still_somebody_elses(release: str) -> None:
    broken = image(release)
    frame = broken.frames[RESTORED][3]
    assert frame is not None
    flags = broken.memmap.flags(frame, "PG_hwpoison")
    broken.write_page(frame, flags=flags, mapping=ANONYMOUS, page_type=0, _refcount=2)
    (found,) = errors(broken)
    assert found[0] == "frame-foreign"
