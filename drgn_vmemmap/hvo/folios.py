# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios and what their entries amount to."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple, overload

from drgn_vmemmap.hugetlb.folio import Folio, Folios
from drgn_vmemmap.hvo.adjacent import NO_FRAME, Answer
from drgn_vmemmap.hvo.verdict import Judgement

NOT_JUDGED = -1
"""In place of the index of a judgement: there is none yet."""


class FolioReport(NamedTuple):
    """One folio and what its entries amount to."""

    folio: Folio
    judgement: Judgement


class FolioReports(Sequence[FolioReport]):
    """
    Folios and what their entries amount to, in ascending order of PFN.

    A column for each fact; the objects are made when they are asked for.
    """

    def __init__(self, folios: Folios) -> None:
        self.folios = folios
        self.judgements = array("i", [NOT_JUDGED]) * len(folios)
        """Of each folio, the index of its judgement in :attr:`judgement_table`."""
        self.reuse_frames = array("q", [NO_FRAME]) * len(folios)
        """Of each folio, the PFN of its reuse frame; :data:`NO_FRAME` if there is none."""
        self.judgement_table: list[Judgement] = []
        """Judgements without their reuse frames."""
        self._numbers: dict[Judgement, int] = {}

    def set(self, row: int, judgement: Judgement) -> None:
        """Record the judgement on the folio of a row."""
        if judgement.reuse_frame is not None:
            self.reuse_frames[row] = judgement.reuse_frame
        self.judgements[row] = self._number(judgement._replace(reuse_frame=None))

    def set_all(self, rows: Sequence[int], answer: Answer) -> None:
        """
        Record the judgement on several folios.

        :param rows: Those of the folios that were asked for.
        """
        number, done = self._number(answer.judgement), 0
        for stretch in answer.stretches:
            of_stretch = rows[stretch.start : stretch.stop]
            own_frames = answer.reuse_frames[done : done + len(stretch)]
            done += len(stretch)
            if isinstance(of_stretch, range):
                at = slice(of_stretch.start, of_stretch.stop)
                self.judgements[at] = array("i", [number]) * len(of_stretch)
                self.reuse_frames[at] = own_frames
                continue
            for row, frame in zip(of_stretch, own_frames):
                self.judgements[row] = number
                self.reuse_frames[row] = frame

    def _number(self, judgement: Judgement) -> int:
        """Index in :attr:`judgement_table` of a judgement without its reuse frame."""
        number = self._numbers.setdefault(judgement, len(self.judgement_table))
        if number == len(self.judgement_table):
            self.judgement_table.append(judgement)
        return number

    def cut(self, count: int) -> None:
        """Keep only the first folios."""
        self.folios.pick(range(count))
        del self.judgements[count:], self.reuse_frames[count:]

    def judgement_of(self, row: int) -> Judgement:
        """The judgement on the folio of a row, without its reuse frame."""
        return self.judgement_table[self.judgements[row]]

    def __len__(self) -> int:
        return len(self.judgements)

    @overload
    def __getitem__(self, index: int) -> FolioReport: ...
    @overload
    def __getitem__(self, index: slice) -> list[FolioReport]: ...
    def __getitem__(self, index: int | slice) -> FolioReport | list[FolioReport]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        judgement, frame = self.judgement_of(index), self.reuse_frames[index]
        if frame != NO_FRAME:
            judgement = judgement._replace(reuse_frame=frame)
        return FolioReport(self.folios[index], judgement)
