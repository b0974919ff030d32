# SPDX-License-Identifier: LGPL-2.1-or-later

"""The context in which all of the vmemmap is checked: the analysis, and each vmemmap page."""

from __future__ import annotations

from bisect import bisect_right

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.accounting import Accounting
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.ranges import joined
from drgn_vmemmap.rules.frames import VmemmapPage
from drgn_vmemmap.vmemmap.sections import SectionIndex
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class VmemmapContext:
    """An analysed kernel whose vmemmap is checked."""

    def __init__(self, snapshot: Snapshot, report: Report, progress: Progress = SILENT) -> None:
        """
        :param snapshot: The one that *report* is of; page tables are not read again.
        """
        self.snapshot = snapshot
        self.report = report
        self.progress = progress
        self.kernel = snapshot.kernel
        self.geometry = snapshot.geometry
        self.walker = snapshot.walker
        facts = snapshot.kernel.sections
        self._sections = SectionIndex(report.sections)
        self._has_offline = not all(each.flags & facts.online for each in report.sections)
        self._unknown = joined(report.unknown)
        self._unknown_starts = [pfns.start for pfns in self._unknown]

    def folio_at(self, pfn: int) -> int | None:
        """Head PFN of the folio that contains a PFN; ``None`` if none does."""
        folios = self.report.folios.folios
        row = folios.row_at(pfn)
        return None if row is None else folios.pfns[row]

    def may_be_in_flight(self, row: int) -> bool:
        """Whether the folio of a row may be on its way into or out of its pool."""
        folio = self.report.folios.folios[row]
        return self.report.accounts.of(folio) is not Accounting.COUNTED

    @property
    def orders(self) -> list[int]:
        """The orders that folios of this kernel can have."""
        return [each.hstate.order for each in self.report.hstates]

    def has_section(self, pfn: int) -> bool:
        """Whether a PFN is of a section that has a memmap."""
        return self._sections.at(pfn) is not None

    def is_from_boot(self, pfn: int) -> bool:
        """Whether a PFN is of memory from boot, not hot-plugged."""
        section = self._sections.at(pfn)
        return section is not None and bool(section.flags & self.kernel.sections.early)

    def page(self, number: int) -> VmemmapPage:
        """
        A vmemmap page: the folio that it describes, and how it is mapped.

        :param number: Number of the vmemmap page.
        """
        address = self.geometry.page_number_address(number)
        entry = self.walker.entry(address)
        folio = self.folio_at(self.geometry.first_pfn_of(number))
        if folio is None:
            return VmemmapPage(None, None, entry)
        index = (address - self.geometry.address(folio)) // self.geometry.page_size
        return VmemmapPage(folio, index, entry)

    @property
    def has_offline(self) -> bool:
        """Whether some memory that has a memmap is not online."""
        return self._has_offline or bool(self.report.unknown)

    def is_online(self, pfn: int) -> bool:
        """
        Whether the kernel has written the struct page of a PFN.

        It may not have where memory is not online, such as plugged memory that hosts its own
        vmemmap (``pfn_to_online_page()``). The result is false where the dump does not show it.
        """
        section = self._sections.at(pfn)
        is_offline = section is not None and not section.flags & self.kernel.sections.online
        return not is_offline and not self.is_unknown(pfn)

    def is_unknown(self, pfn: int) -> bool:
        """Whether the dump does not show what memory a PFN is."""
        index = bisect_right(self._unknown_starts, pfn) - 1
        return index >= 0 and pfn in self._unknown[index]
