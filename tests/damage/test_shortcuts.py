# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Shortcuts change the time that a report takes, and nothing in it, whatever is damaged.

What is compared for many folios, entries or struct pages at once is compared one by one, too; and
what is done batch by batch, in batches of other sizes.
Seeded, so that a red run can be repeated: the seed is in the message.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from drgn_vmemmap.analysis import judging
from drgn_vmemmap.analysis.checks import content, frames, given_back
from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.errors import MissingFacts
from drgn_vmemmap.hugetlb import links, lists, scan
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hugetlb.scan import MemmapScan
from drgn_vmemmap.hugetlb.tails import Tails
from drgn_vmemmap.hvo.adjacent import FastPath
from drgn_vmemmap.hvo.survey import _Surveyor
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.rules.folio import check_folio
from drgn_vmemmap.target.memory import Memory, ProgramMemory
from drgn_vmemmap.vmemmap.owners import OwnerReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedKernel
from tests.damage.test_random import CountedKernel
from tests.support import examples
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import FIRST_FOLIO, GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT

CASES = examples(8)
"""For each layout."""

FOLIOS = 150
"""Three page tables describe so many."""

SHORTCUTS: tuple[tuple[object, str, object], ...] = (
    *((FastPath, name, lambda *_: ()) for name in ("in_tables", "gigantic", "in_leaves")),
    *((MemmapScan, name, lambda *_: False) for name in ("_add_compared", "_add_alike")),
    (_Surveyor, "_add_adjacent", lambda *_: False),
    (OwnerReader, "are_plain", lambda *_: False),
    (Walker, "is_usual", lambda *_: False),
    (Tails, "are_alike", lambda _, frames, infos, has_head: not infos),
    (Tails, "_wrong_in", Tails.first_wrong),
    (judging, "concerns_any", lambda *_: True),
    (judging, "check_concerned", check_folio),
    (given_back._Check, "_may_be_stale", lambda *_: True),
    (lists, "_TOGETHER", 1),
    (links, "_TOGETHER", 3),
    (scan, "_TABLES", 1),
    *((judging, name, size) for name, size in (("_BATCH", 3), ("_TABLES", 1), ("_FEW", 1))),
    *((content, name, size) for name, size in (("_BATCH", 2), ("_AT_ONCE", 3))),
    *((module, "_BATCH", 5) for module in (frames, given_back)),
)
"""Each shortcut, or size of a batch, and what takes its place."""


class ReadTogether(ProgramMemory):
    """Memory of which one read can fetch many pieces, as it can of a program's."""

    def __init__(self, memory: Memory) -> None:
        self._read = self._read_data = lambda address, size, physical: memory.read(address, size)


def kernel(release: str) -> CountedKernel:
    """A kernel with many folios side by side, of both sizes, of all states."""
    chosen = random.Random(release)
    states = (*(State.FREE, State.ACTIVE) * 9, State.OFF_LIST)
    folios = [
        Folio(FIRST_FOLIO + 512 * number, remapped=chosen.random() < 0.9, state=state)
        for number, state in enumerate(chosen.choices(states, k=FOLIOS))
    ]
    folios.append(Folio(GIB >> PAGE_SHIFT, 18))
    machine = Machine(line=LINES[release], node_size=3 * GIB, folios=tuple(folios))
    return CountedKernel(EditedKernel(Image(machine).prog))


def damage_column(damaged: EditedKernel, source: random.Random) -> None:
    """Change one bit of the same vmemmap page of folios side by side."""
    bit, page, first = source.randrange(64), source.randrange(8), source.randrange(FOLIOS)
    for number in range(first, min(first + source.choice((2, 20, 64, 100)), FOLIOS)):
        pfn = FIRST_FOLIO + 512 * number
        damaged.write_entry(pfn, page, damaged.entry(pfn, page) ^ 1 << bit)


def answer(damaged: EditedKernel, memory: Memory) -> dict[str, Any] | str:
    """All that is said of a kernel; findings in any order."""
    try:
        report = check(Snapshot(damaged.kernel, memory))
    except MissingFacts as error:
        return str(error)
    said = document(report, folios=True)
    return {**said, "findings": sorted(map(str, said["findings"]))}


@pytest.mark.long
@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_a_damaged_kernel_has_the_same_report_without_shortcuts(
    release: str,
) -> None:
    damaged = kernel(release)
    for number in range(CASES):
        seed = f"shortcuts {release} {number}"
        source = random.Random(seed)
        damaged.reset()
        if number:
            source.choice((damaged.damage, lambda each: damage_column(damaged, each)))(source)
        quick = answer(damaged, ReadTogether(damaged.memory))
        with pytest.MonkeyPatch.context() as patch:
            for owner, name, instead in SHORTCUTS:
                patch.setattr(owner, name, instead)
            slow = answer(damaged, damaged.memory)
        assert quick == slow, seed
