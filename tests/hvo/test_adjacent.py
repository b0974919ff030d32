# SPDX-License-Identifier: LGPL-2.1-or-later

"""The fast path: which of the folios that adjacent tables describe it answers for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.hvo.adjacent import NO_FRAME, Answer, FastPath
from drgn_vmemmap.hvo.diagnosis import judge
from drgn_vmemmap.hvo.verdict import Judgement, Ranges, Verdict
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import (
    ABSENT,
    BEYOND_W,
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    OWN_R,
    REUSE_R,
    REUSE_W,
    Damage,
    Folio,
    Machine,
    Vpage,
    pmd_of,
)
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE, PRESENT, USER
from tests.synthetic.physical import WRITABLE as RW

GIGANTIC = GIB >> PAGE_SHIFT

OPTIMIZED, RESTORED = "optimized", "restored"
WRITABLE = {f"page {page} is writable": {page: REUSE_W} for page in range(1, 8)}
READ_ONLY = {f"page {page} is read-only": {page: OWN_R} for page in range(8)}
WRONG = ("page 3 is writable", "page 0 is absent", "page 5 is read-only")
EDITS = {
    RESTORED: dict.fromkeys(range(1, 8), FRESH_W),
    "page 0 is absent": {0: ABSENT},
    **WRITABLE,
    **READ_ONLY,
}


def fast_path(image: Image) -> tuple[FastPath, Snapshot]:
    kernel = discover(image.prog)
    snapshot = Snapshot(kernel, ProgramMemory(image.prog))
    return FastPath(snapshot.walker, kernel.hvo.layout), snapshot


def runs_of(snapshot: Snapshot, pfn: int, count: int) -> list[Run]:
    """What maps the vmemmap from that of a PFN on, in pieces of 2 MiB."""
    start = snapshot.geometry.address(pfn)
    return [snapshot.walker.run_at(start + (2 << 20) * number) for number in range(count)]


def judgements(
    answers: Iterable[Answer], snapshot: Snapshot, pfn: int, pages: int
) -> dict[int, Judgement]:
    """
    The judgements on folios by their positions; the diagnosis comes to the same.

    :param pfn: Of the first folio.
    :param pages: How many vmemmap pages each has.
    """
    found: dict[int, Judgement] = {}
    walker, start = snapshot.walker, snapshot.geometry.address(pfn)
    for answer in answers:
        positions = [position for stretch in answer.stretches for position in stretch]
        assert len(positions) == len(answer.reuse_frames)
        assert found.keys().isdisjoint(positions)
        for position, frame in zip(positions, answer.reuse_frames):
            judgement = answer.judgement
            if frame != NO_FRAME:
                judgement = judgement._replace(reuse_frame=frame)
            first, last = (
                start + number * pages * PAGE_SIZE for number in (position, position + 1)
            )
            entries = [entry for run in walker.walk(first, last) for entry in walker.pages(run)]
            assert judgement == judge(entries, snapshot.kernel.hvo.layout, frozenset())
            found[position] = judgement
    return found


def answered(kinds: list[str], first: int = 0) -> dict[int, Verdict]:
    """
    What the fast path says of folios of some kinds, one after the other, by their positions.

    :param first: It is asked for the folios from this one on, and counts from it.
    """
    folios = (
        Folio(FIRST_FOLIO + 512 * number, remapped=kind != RESTORED, edits=EDITS.get(kind, {}))
        for number, kind in enumerate(kinds)
    )
    fast, snapshot = fast_path(Image(Machine(line=LINES["6.12.0"], folios=tuple(folios))))
    runs = runs_of(snapshot, FIRST_FOLIO, -(-len(kinds) // 64))
    answers = fast.in_tables(runs, range(8 * first, 8 * len(kinds), 8), 8, frozenset())
    found = judgements(answers, snapshot, FIRST_FOLIO + 512 * first, 8)
    return {position: judgement.verdict for position, judgement in found.items()}


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


def test_a_folio_with_a_wrong_page_has_no_answer_whichever_page_it_is() -> None:
    for wrong in (*WRITABLE, *READ_ONLY):
        kinds = [wrong, OPTIMIZED]
        assert answered(kinds) == expected(kinds)


def test_only_the_folios_that_are_asked_for_have_an_answer() -> None:
    kinds = [RESTORED, OPTIMIZED, "page 3 is writable", RESTORED, OPTIMIZED, OPTIMIZED]
    for first in range(len(kinds)):
        assert answered(kinds, first) == expected(kinds[first:])


def gigantic(folio: Folio, damage: Mapping[int, Damage]) -> list[Judgement]:
    """
    What the fast path says of a folio of 1 GiB.

    :param damage: By the number of the table.
    """
    first = pmd_of(GIGANTIC)
    machine = Machine(
        node_size=3 * GIB,
        folios=(folio,),
        split=frozenset(range(first, first + 8)),
        damage={first + table: each for table, each in damage.items()},
    )
    fast, snapshot = fast_path(Image(machine))
    answers = fast.gigantic(runs_of(snapshot, GIGANTIC, 8), frozenset())
    return [*judgements(answers, snapshot, GIGANTIC, 4096).values()]


def test_a_gigantic_folio_has_no_answer_where_one_of_its_tables_is_mapped_otherwise() -> None:
    folio = Folio(GIGANTIC, 18, remapped=False)
    assert [each.verdict for each in gigantic(folio, {})] == [Verdict.UNOPTIMIZED]
    for table in range(8):
        assert gigantic(folio, {table: Damage.READ_ONLY}) == []


@pytest.mark.parametrize(
    ("rest", "read_only"),
    ((REUSE_W, [((1, 63),)]), (REUSE_R, [((1, 4095),)]), (ABSENT, []), (BEYOND_W, [])),
)
def test_what_a_kernel_does_not_protect_of_a_gigantic_folio_maps_its_reuse_frame(
    rest: Vpage, read_only: list[Ranges]
) -> None:
    folio = Folio(GIGANTIC, 18, edits=dict.fromkeys(range(64, 4096), rest))
    answers = gigantic(folio, {})
    assert [each.read_only for each in answers] == read_only
    assert {each.verdict for each in answers} <= {Verdict.OPTIMIZED}


@pytest.mark.parametrize("change", (PRESENT | RW, USER, 1 << 30), ids=("absent", "user", "frame"))
def test_a_gigantic_folio_whose_rest_is_mapped_otherwise_has_no_answer(change: int) -> None:
    edits = dict.fromkeys(range(64, 4096), REUSE_W)
    image = Image(Machine(node_size=3 * GIB, folios=(Folio(GIGANTIC, 18, edits=edits),)))
    for page in range(64, 4096):
        image.write_entry(GIGANTIC, page, image.entry(GIGANTIC, page) ^ change)
    fast, snapshot = fast_path(image)
    assert [*fast.gigantic(runs_of(snapshot, GIGANTIC, 8), frozenset())] == []


def test_a_gigantic_folio_with_one_wrong_page_has_no_answer() -> None:
    for page in (0, 1, 2, 63, 64, 511, 512, 4095):
        assert gigantic(Folio(GIGANTIC, 18, edits={page: OWN_R}), {}) == []


def test_each_size_of_folios_and_each_way_to_map_them_has_a_judgement_of_its_own() -> None:
    restored, by_leaf = (Folio(FIRST_FOLIO + 512 * n, remapped=False) for n in (1, 64))
    folios = (Folio(FIRST_FOLIO), restored, by_leaf, Folio(GIGANTIC, 18))
    fast, snapshot = fast_path(Image(Machine(node_size=3 * GIB, folios=folios)))
    small = fast.in_tables(runs_of(snapshot, FIRST_FOLIO, 1), range(0, 16, 8), 8, frozenset())
    large = fast.gigantic(runs_of(snapshot, GIGANTIC, 8), frozenset())
    leaf = fast.in_leaves(runs_of(snapshot, by_leaf.pfn, 1), 1, 8, frozenset())
    found = [
        *judgements(small, snapshot, FIRST_FOLIO, 8).values(),
        *judgements(large, snapshot, GIGANTIC, 4096).values(),
        *judgements(leaf, snapshot, by_leaf.pfn, 8).values(),
    ]
    assert [(each.mapped_by, each.freed) for each in found] == [
        *(("pte", 7), ("pte", 0), ("pte", 4095), ("pmd", 0)),
    ]


def test_leaves_that_map_the_same_frames_or_a_zones_have_no_answer() -> None:
    folio = Folio(GIGANTIC, 18, remapped=False)
    image = Image(Machine(node_size=3 * GIB, folios=(folio,)))
    fast, snapshot = fast_path(image)
    runs, leaf = runs_of(snapshot, GIGANTIC, 8), image.entry(GIGANTIC, 0, "PMD")
    (answer,) = fast.in_leaves(runs, 1, 4096, frozenset({5}))
    assert judgements([answer], snapshot, GIGANTIC, 4096).keys() == {0}
    zone = frozenset({5, snapshot.walker.entry(snapshot.geometry.address(GIGANTIC)).frame or 0})
    assert [*fast.in_leaves(runs, 1, 4096, zone)] == []
    image.write_entry(GIGANTIC, 7 * 512, leaf, "PMD")
    fast, snapshot = fast_path(image)
    assert [*fast.in_leaves(runs_of(snapshot, GIGANTIC, 8), 1, 4096, frozenset())] == []
