# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is recorded of folios: of each its own judgement, and its own reuse frame."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from drgn_vmemmap.hugetlb.folio import FolioClass, Folios
from drgn_vmemmap.hvo.adjacent import NO_FRAME, Answer
from drgn_vmemmap.hvo.folios import NOT_JUDGED, FolioReport, FolioReports
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.model import FIRST_FOLIO, hstate_name

OPTIMIZED = Judgement(Verdict.OPTIMIZED, Layout.HEAD_REUSE, "pte", None, ((1, 7),), ((1, 7),), 7)
UNOPTIMIZED = Judgement(Verdict.UNOPTIMIZED, Layout.NONE, "pte", None, (), (), 0)


def reports(count: int) -> FolioReports:
    folios = Folios()
    number = folios.class_number(FolioClass(9, hstate_name(9), 0, 1, None))
    pfns = range(FIRST_FOLIO, FIRST_FOLIO + 512 * count, 512)
    folios.extend(pfns, array("I", [number]) * count, 0)
    return FolioReports(folios)


@pytest.mark.parametrize("rows", (range(2, 9), [0, 2, 3, 4, 6, 8, 9]), ids=("adjacent", "apart"))
def test_an_answer_for_several_folios_is_recorded_for_each_of_them(rows: Sequence[int]) -> None:
    found = reports(10)
    found.set_all(rows, Answer([range(1), range(2, 5)], OPTIMIZED, array("q", (70, 71, 72, 73))))
    found.set_all(rows, Answer([range(6, 7)], UNOPTIMIZED, array("q", (NO_FRAME,))))
    of_rows = {rows[0]: 70, rows[2]: 71, rows[3]: 72, rows[4]: 73, rows[6]: None}
    for row, frame in of_rows.items():
        expected = UNOPTIMIZED if frame is None else OPTIMIZED._replace(reuse_frame=frame)
        assert found[row] == FolioReport(found.folios[row], expected)
    others = set(range(10)).difference(of_rows)
    assert {found.judgements[row] for row in others} == {NOT_JUDGED}
    assert {found.reuse_frames[row] for row in others} == {NO_FRAME}


def test_folios_that_differ_in_their_reuse_frames_have_one_judgement() -> None:
    found, judged = reports(3), [OPTIMIZED._replace(reuse_frame=frame) for frame in (0, 5)]
    for row, judgement in enumerate((*judged, UNOPTIMIZED)):
        found.set(row, judgement)
    assert found.judgement_table == [OPTIMIZED, UNOPTIMIZED]
    assert [each.judgement for each in found[:2]] == judged
    found.cut(2)
    assert [each.folio.pfn for each in found] == [FIRST_FOLIO, FIRST_FOLIO + 512]
