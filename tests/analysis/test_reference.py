# SPDX-License-Identifier: LGPL-2.1-or-later

"""The fast path and the slow one give the same report, folio by folio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import drgn
import pytest
from hypothesis import given, settings

from drgn_vmemmap.analysis import judging
from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.folio import Folio, State
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.oracles.report import reference_folios
from tests.support import VMCORES, open_vmcore
from tests.synthetic import model
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, GIB, REUSE_W, Machine
from tests.synthetic.strategies import machines

# All that the fast path may change is the time: twice as many examples.
often = settings(max_examples=2 * settings().max_examples)


def compare(prog: drgn.Program) -> None:
    kernel = discover(prog)
    report = analyse(Snapshot(kernel, ProgramMemory(prog)))
    may_be_in_flight = in_flight(report)
    expected = [
        each._replace(judgement=each.judgement._replace(verdict=Verdict.INCONSISTENT))
        if each.judgement.verdict is Verdict.PARTIAL and not may_be_in_flight(each.folio)
        else each
        for each in reference_folios(prog, kernel)
    ]
    assert list(report.folios) == expected


def in_flight(report: Report) -> Callable[[Folio], bool]:
    """Which folios may be in flight: on no list, and perhaps not counted."""
    found = Counter((folio.hstate, folio.node) for folio, _ in report.folios)
    counted = {hstate.hstate.name: hstate.hstate for hstate in report.hstates}
    complete = not any(f.rule == "unreadable" and f.folio is None for f in report.findings)

    def may_be(folio: Folio) -> bool:
        count = counted[folio.hstate].counters_of(folio.node).nr_huge_pages
        are_uncounted = count is not None and found[folio.hstate, folio.node] > count
        return folio.state is State.OFF_LIST and (are_uncounted or not complete)

    return may_be


@often
@given(machines())
def test_a_sound_machine_has_the_same_report(machine: Machine) -> None:
    compare(Image(machine).prog)


@often
@given(machines(broken=True))
def test_a_broken_machine_has_the_same_report(machine: Machine) -> None:
    compare(Image(machine).prog)


@pytest.mark.parametrize("page_size", (64, 128))
@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
def test_a_folio_that_its_kernel_protected_in_part_has_the_same_report(
    release: str, page_size: int
) -> None:
    edits = dict.fromkeys(range(64, 64 * page_size), REUSE_W)
    folio = model.Folio(GIB >> 12, order=18, edits=edits)
    machine = Machine(line=LINES[release], page_size=page_size, node_size=3 * GIB, folios=(folio,))
    compare(Image(machine).prog)
    (found,) = Image(machine).examine().folios
    assert found[1].verdict is Verdict.OPTIMIZED


def test_a_kernel_that_keeps_two_frames_protects_no_part_of_a_folio() -> None:
    folio = model.Folio(GIB >> 12, order=18, edits=dict.fromkeys(range(64, 4096), REUSE_W))
    image = Image(Machine(line=LINES["5.15.0"], node_size=3 * GIB, folios=(folio,)))
    compare(image.prog)
    report = image.examine()
    assert report.broken
    assert [judgement.verdict for _, judgement in report.folios] == [Verdict.INCONSISTENT]


@pytest.mark.parametrize("count", range(5))
def test_tables_that_lead_past_a_batch_of_folios_have_the_same_report(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_BATCH", 2)
    folios = (model.Folio(FIRST_FOLIO + 512 * number) for number in range(count))
    compare(Image(Machine(folios=tuple(folios))).prog)


@pytest.mark.parametrize("vmcore", VMCORES, ids=lambda path: path.stem)
def test_a_real_kernel_has_the_same_report(vmcore: Path) -> None:
    compare(open_vmcore(vmcore))
