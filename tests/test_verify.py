# SPDX-License-Identifier: LGPL-2.1-or-later

"""What verify says beyond the catalogue: what it does not accuse, and why folios are whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.report import Report
from tests.edited import EditedKernel
from tests.image import Image
from tests.kernels import LINES
from tests.model import FIRST_FOLIO, FRESH_W, Folio, Machine

OPTIMIZED, WHOLE = FIRST_FOLIO, FIRST_FOLIO + 512
UNSPLIT = FIRST_FOLIO + 64 * 512 * 2
"""Its vmemmap is far from the others', in a block that HVO did not split."""

every_layout = pytest.mark.parametrize("release", ("5.15.0", "6.12.0", "7.2.0"))


def edited(release: str, *more: Folio) -> EditedKernel:
    folios = (Folio(OPTIMIZED), Folio(WHOLE, remapped=False), *more)
    return EditedKernel(Image(Machine(line=LINES[release], folios=folios)).prog)


def errors(report: Report) -> list[tuple[str, int | None, int | None]]:
    found = (f for f in report.findings if f.severity.value == "error")
    return [(finding.rule, finding.folio, finding.index) for finding in found]


def reasons(machine: Machine) -> dict[int | None, str]:
    findings = (f for f in verify(Image(machine).prog).findings if f.rule == "unoptimized")
    return {finding.folio: finding.message for finding in findings}


# Frames.


@every_layout
def test_a_block_that_was_allocated_whole_has_one_reference_for_all_its_frames(
    release: str,
) -> None:
    folio = Folio(WHOLE, remapped=False)
    split = frozenset((WHOLE >> 15,))
    machine = Machine(line=LINES[release], folios=(folio,), split=split)
    kernel = EditedKernel(Image(machine).prog)
    assert kernel.whole == [WHOLE]
    first = kernel.frame(WHOLE, 0) >> 9 << 9
    for frame in range(first, first + 512):
        kernel.write_member(frame, "refcount", int(frame == first))
    assert errors(kernel.check()) == []
    kernel.write_member(first + 1, "refcount", 1)
    assert ("frame-freed", WHOLE, 5) in errors(kernel.check())


@every_layout
def test_a_free_frame_behind_a_large_leaf_is_found(release: str) -> None:
    kernel = edited(release, Folio(UNSPLIT, remapped=False))
    mark = kernel.kernel.buddy_mark
    assert mark is not None
    assert errors(kernel.before) == []
    frame = kernel.frame(UNSPLIT, 3)
    kernel.write_page(frame, mark.offset, mark.value, mark.size)
    kernel.write_member(frame, "private", 0)
    assert errors(kernel.check()) == [("frame-freed", UNSPLIT, 3)]


@every_layout
def test_a_frame_without_references_behind_a_large_leaf_says_nothing(release: str) -> None:
    kernel = edited(release, Folio(UNSPLIT, remapped=False))
    kernel.write_member(kernel.frame(UNSPLIT, 3), "refcount", 0)
    assert errors(kernel.check()) == []


def test_a_free_block_is_told_by_its_first_page_wherever_the_frame_lies_in_it() -> None:
    kernel = edited("6.12.0")
    mark = kernel.kernel.buddy_mark
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
    address = kernel.kernel.page_address(frame)
    entry = kernel.walker().entry(address)
    assert entry.frame is not None
    kernel.memory.missing.add(entry.frame)
    report = kernel.check()
    assert errors(report) == []
    assert report.incomplete


# Content.


def test_a_frame_with_the_tails_of_another_folio_is_told_to_be_that_ones() -> None:
    kernel = edited("6.12.0", Folio(WHOLE + 512))
    other = WHOLE + 512
    for index in range(8):
        kernel.write_entry(OPTIMIZED, index, kernel.entry(other, index))
    found = errors(kernel.check())
    assert ("reuse-invalid", OPTIMIZED, 0) in found
    assert ("frame-aliased", OPTIMIZED, 0) in found
    assert ("frame-aliased", other, 0) in found


# Why folios are whole.

WHOLE_ONE = Machine(line=LINES["6.12.0"], folios=(Folio(WHOLE, remapped=False),))


@pytest.mark.parametrize(
    ("machine", "reason"),
    (
        (replace(WHOLE_ONE, enabled=False), "HVO is off now"),
        (WHOLE_ONE, "the dump shows no reason"),
        (replace(WHOLE_ONE, line=LINES["5.10.0"]), "this kernel has no HVO"),
        (replace(WHOLE_ONE, page_size=80), "struct page has 80 bytes"),
        (
            replace(
                WHOLE_ONE,
                folios=(Folio(WHOLE, remapped=False, edits=dict.fromkeys(range(1, 8), FRESH_W)),),
            ),
            "it was optimized once, and restored",
        ),
    ),
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "machine",
)
def test_a_folio_is_whole_for_a_reason(machine: Machine, reason: str) -> None:
    (message,) = reasons(machine).values()
    assert reason in message


def test_what_optimizing_a_folio_would_free_is_told_where_it_could_be() -> None:
    (message,) = reasons(WHOLE_ONE).values()
    assert message.endswith("optimizing it would free 7 frames")
    (message,) = reasons(replace(WHOLE_ONE, page_size=80)).values()
    assert "would free" not in message
