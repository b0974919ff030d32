# SPDX-License-Identifier: LGPL-2.1-or-later

"""Tails of adjacent folios, which are compared together: each wrong one is found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedKernel, EditedMemory
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, FRESH_W, GIB, Folio, Machine, pmd_of
from tests.synthetic.physical import PAGE_SHIFT

OPTIMIZED = FIRST_FOLIO
FRESH = dict.fromkeys(range(1, 8), FRESH_W)
"""Vmemmap pages that a restore gave new frames."""


def neighbours(count: int, release: str = "6.12.0", **folio: Any) -> EditedKernel:
    """Adjacent folios."""
    pfns = (OPTIMIZED + 512 * number for number in range(count))
    folios = tuple(Folio(pfn, **folio) for pfn in pfns)
    machine = Machine(line=LINES[release], node_size=4 * GIB, folios=folios)
    return EditedKernel(Image(machine).prog)


FAILED = 1 << LINES["6.12.0"].flags["PG_hwpoison"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("member", "value"), (("compound_head", 0), ("mapping", 8), ("flags", FAILED))
)
def test_a_wrong_tail_is_found_wherever_its_folio_lies_among_others(
    member: str, value: int
) -> None:
    kernel = neighbours(800)
    wrong = range(OPTIMIZED, OPTIMIZED + 800 * 512, 7 * 512)
    for pfn in wrong:
        kernel.write_member(pfn + 40, member, value)
    found = kernel.check().findings
    assert [f.folio for f in found if f.rule == "tail-content"] == [*wrong]


def test_a_wrong_tail_is_found_wherever_it_is_the_only_one() -> None:
    kernel = neighbours(1024)
    for number in (0, 63, 64, 500, 1023):
        kernel.reset()
        kernel.write_member(OPTIMIZED + 512 * number + 40, "mapping", 8)
        (finding,) = kernel.check().findings
        assert (finding.rule, finding.folio) == ("tail-content", OPTIMIZED + 512 * number)


@pytest.mark.parametrize("release", ("5.15.0", "7.2.0"))
def test_a_wrong_tail_in_the_reuse_frame_is_found_where_folios_are_adjacent(release: str) -> None:
    kernel = neighbours(600, release)
    kernel.write_member(OPTIMIZED + 512 * 300 + 64 + 7, "mapping", 8)
    (finding,) = kernel.check().findings
    assert (finding.rule, finding.index) == ("tail-content", 1)


def test_a_wrong_tail_of_a_restored_page_is_found_where_folios_are_adjacent() -> None:
    kernel = neighbours(600, remapped=False, edits=FRESH)
    pfn = OPTIMIZED + 512 * 300
    kernel.write_member(pfn + 64 * 3 + 7, "mapping", 8)
    found = [(f.folio, f.index) for f in kernel.check().findings if f.rule == "tail-content"]
    assert found == [(pfn, 3)]


def test_a_frame_with_a_head_is_read_once_where_folios_are_adjacent() -> None:
    kernel = neighbours(1024)
    assert not kernel.before.findings
    geometry, read = kernel.kernel.geometry, set(kernel.memory.reads)
    pfns = kernel.before.folios.folios.pfns
    frames = [kernel.snapshot().walker.entry(geometry.address(pfn)).frame for pfn in pfns[512:768]]
    sizes = [size for frame in frames for at, size in read if at >> PAGE_SHIFT == frame]
    assert sizes == [geometry.page_size] * len(frames)


def test_frames_of_wrong_tails_are_read_twice_in_one_batch_only() -> None:
    kernel = neighbours(1024)
    geometry, walker = kernel.kernel.geometry, kernel.snapshot().walker
    pfns = kernel.before.folios.folios.pfns
    frames = [walker.entry(geometry.address(pfn)).frame for pfn in pfns]
    for pfn in pfns:
        kernel.write_member(pfn + 40, "mapping", 8)
    read = Counter[int]()

    class Counted(EditedMemory):
        def read(self, address: int, size: int) -> bytes:
            read[address >> PAGE_SHIFT] += size == geometry.page_size
            return kernel.memory.read(address, size)

    check(Snapshot(kernel.kernel, Counted(kernel.memory)))
    assert {read[frame] for frame in frames if frame is not None} <= {1, 2}
    assert 0 < sum(read[frame] == 2 for frame in frames if frame is not None) <= 256


@pytest.mark.parametrize("size", (56, 80))
@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
def test_struct_pages_that_lie_in_two_frames_are_not_compared(release: str, size: int) -> None:
    """HVO does not touch them, and tables that map them are none of its."""
    first = pmd_of(OPTIMIZED, size)
    folios = tuple(Folio(OPTIMIZED + 512 * number, remapped=False) for number in range(4))
    pmds = frozenset((first, first + 1))
    machine = Machine(line=LINES[release], folios=folios, split=pmds, page_size=size)
    assert {finding.rule for finding in verify(Image(machine).prog).findings} == {"unoptimized"}
