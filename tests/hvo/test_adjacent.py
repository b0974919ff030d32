# SPDX-License-Identifier: LGPL-2.1-or-later

"""The fast path: which of the folios that adjacent tables describe it answers for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.hvo.adjacent import FastPath
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import ABSENT, FIRST_FOLIO, FRESH_W, REUSE_W, Folio, Machine

OPTIMIZED, RESTORED = "optimized", "restored"
WRONG = ("a writable tail", "an absent page")
EDITS = {
    RESTORED: dict.fromkeys(range(1, 8), FRESH_W),
    "a writable tail": {3: REUSE_W},
    "an absent page": {0: ABSENT},
}


def answered(kinds: list[str], first: int = 0) -> dict[int, Verdict]:
    """
    What the fast path says of folios of some kinds, one after the other, by their positions.

    :param first: It is asked for the folios from this one on, and counts from it.
    """
    folios = (
        Folio(FIRST_FOLIO + 512 * number, remapped=kind != RESTORED, edits=EDITS.get(kind, {}))
        for number, kind in enumerate(kinds)
    )
    prog = Image(Machine(line=LINES["6.12.0"], folios=tuple(folios))).prog
    kernel = discover(prog)
    snapshot = Snapshot(kernel, ProgramMemory(prog))
    start = kernel.geometry.address(FIRST_FOLIO)
    runs = [snapshot.walker.run_at(start + (2 << 20) * n) for n in range(-(-len(kinds) // 64))]
    fast = FastPath(snapshot.walker, kernel.hvo.layout)
    found: dict[int, Verdict] = {}
    for answer in fast.in_tables(runs, range(8 * first, 8 * len(kinds), 8), 8, frozenset()):
        positions = [position for stretch in answer.stretches for position in stretch]
        assert len(positions) == len(answer.reuse_frames)
        assert found.keys().isdisjoint(positions)
        found.update(dict.fromkeys(positions, answer.judgement.verdict))
    return found


def expected(kinds: list[str]) -> dict[int, Verdict]:
    verdicts = {OPTIMIZED: Verdict.OPTIMIZED, RESTORED: Verdict.UNOPTIMIZED}
    return {position: verdicts[kind] for position, kind in enumerate(kinds) if kind in verdicts}


@given(st.lists(st.sampled_from((OPTIMIZED, OPTIMIZED, RESTORED, *WRONG)), min_size=1, max_size=20))
def test_each_folio_that_is_mapped_as_a_layout_requires_has_an_answer(kinds: list[str]) -> None:
    assert answered(kinds) == expected(kinds)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_folio_does_not_keep_its_neighbours_from_an_answer(wrong: str) -> None:
    kinds = [OPTIMIZED] * 200
    kinds[70] = wrong
    assert answered(kinds) == expected(kinds)


def test_only_the_folios_that_are_asked_for_have_an_answer() -> None:
    kinds = [RESTORED, OPTIMIZED, "a writable tail", RESTORED, OPTIMIZED, OPTIMIZED]
    for first in range(len(kinds)):
        assert answered(kinds, first) == expected(kinds[first:])
