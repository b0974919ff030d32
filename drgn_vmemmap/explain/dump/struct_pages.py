# SPDX-License-Identifier: LGPL-2.1-or-later

"""The struct page of a PFN: its role in a HugeTLB folio, and the state of its frame."""

from __future__ import annotations

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.explain.dump.contents import ContentsReader, PageContents, usage
from drgn_vmemmap.explain.dump.explanation import StructPage
from drgn_vmemmap.explain.dump.places import NOT_IN_USE, Places
from drgn_vmemmap.hugetlb.head import may_be_of_folio
from drgn_vmemmap.hugetlb.poison import FailedPages, failed_pages
from drgn_vmemmap.hvo.folios import FolioReport
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.page_names import PageNames
from drgn_vmemmap.vmemmap.frames import FrameReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class StructPages:
    """Looks up struct pages by their PFNs."""

    def __init__(
        self, snapshot: Snapshot, names: PageNames, report: Report, places: Places
    ) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._geometry = snapshot.geometry
        self._walker = snapshot.walker
        self._names = names
        self._report = report
        self._orders = [hstate.hstate.order for hstate in report.hstates]
        self._pages = FrameReader(snapshot)
        self._contents = ContentsReader(snapshot, names)
        self._places = places

    def of(self, pfn: int, offset: int) -> StructPage:
        """
        What the struct page of a PFN is, and what it holds.

        :param offset: Offset in it of the byte that is asked for.
        """
        folios = self._report.folios
        row = folios.folios.row_at(pfn)
        folio, index, role, members = None, None, "", self._names.at(offset)
        address = self._geometry.address(pfn)
        if row is not None:
            folio = folios[row]
            role = self._role(folio, pfn)
            start = address - self._geometry.address(folio.folio.pfn) + offset
            index = start >> self._geometry.page_shift
            if role != "head":
                members = _links_or_all(self._names.in_folio(start) or members)
        return StructPage(
            pfn,
            address,
            offset,
            members,
            folio,
            index,
            role,
            known=row is not None or not may_be_of_folio(self._snapshot, pfn, self._orders),
            special=next((o.kind for o in self._report.special if pfn in o.pfns), None),
            place=self._places.of(pfn),
            contents=self._read_contents(pfn),
            failed=self._failed(folio),
        )

    def frame_state(self, frame: int) -> str | None:
        """The use of a frame by its own struct page, in words."""
        place = self._places.of(frame)
        if place in NOT_IN_USE:
            return place.value
        block = self._pages.free_block(frame)
        if block is not None:
            return f"free, in the buddy allocator's block of order {block.order} at {block.pfn:#x}"
        contents = self._read_contents(frame)
        if contents is None:
            return None
        head = contents.head if contents.is_tail else self._head_of_fake(frame)
        if contents.is_poisoned or head in (None, frame):
            return usage(contents)
        of = self._read_contents(head)
        whose = "its head is not in the dump" if of is None else usage(of)
        return f"a tail of the compound page at {head:#x}: {whose}"

    def _head_of_fake(self, pfn: int) -> int | None:
        """Head PFN of the folio in which a struct page is a fake head, if it is one."""
        row = self._report.folios.folios.row_at(pfn)
        if row is None:
            return None
        folio = self._report.folios[row]
        return folio.folio.pfn if self._role(folio, pfn) == "fake head" else None

    def _failed(self, folio: FolioReport | None) -> FailedPages | None:
        if folio is None or not folio.folio.poisoned:
            return None
        return failed_pages(self._snapshot, folio.folio)

    def _read_contents(self, pfn: int) -> PageContents | None:
        try:
            page = self._walker.read(self._geometry.address(pfn), self._kernel.page.size)
        except MissingMemory:
            return None
        row = self._report.folios.folios.row_at(pfn)
        in_head_page = row is not None and self._is_in_head_page(self._report.folios[row], pfn)
        return self._contents.parse(page, pfn, in_head_page)

    def _role(self, folio: FolioReport, pfn: int) -> str:
        if pfn == folio.folio.pfn:
            return "head"
        address, layout = self._geometry.address(pfn), folio.judgement.layout
        may_be_fake = layout is Layout.HEAD_REUSE and address % self._geometry.page_size == 0
        # The frame's first struct page is the head, whatever vmemmap page it is seen through.
        return "fake head" if may_be_fake and self._is_in_head_page(folio, pfn) else "tail"

    def _is_in_head_page(self, folio: FolioReport, pfn: int) -> bool:
        """Whether the frame that a struct page is read from is that of its folio's head."""
        head, own = (
            self._walker.entry(self._geometry.address(page)).frame
            for page in (folio.folio.pfn, pfn)
        )
        return head is not None and head == own


def _links_or_all(members: list[str]) -> list[str]:
    """The members of a tail that a byte belongs to; if one links to its head, only that one."""
    return [name for name in members if name.startswith("compound")] or members
