# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What an address is to the vmemmap: its walk, its struct page, its folio, its frame,
and the vmemmap pages that the frame backs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import drgn

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.explain.dump.contents import ContentsReader, PageContents
from drgn_vmemmap.explain.dump.effects import direct_map_write, read_effect, write_effect
from drgn_vmemmap.explain.dump.explanation import AddressKind, Explanation
from drgn_vmemmap.explain.dump.mappers import Mappers, ReverseMap
from drgn_vmemmap.explain.dump.places import Places
from drgn_vmemmap.explain.dump.query import Query
from drgn_vmemmap.explain.dump.struct_pages import StructPages
from drgn_vmemmap.explain.struct_page import STRUCT_PAGE_SIZE
from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.page_names import PageNames, page_names
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.mapping import Entry, Problem
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# CPU_ENTRY_AREA_BASE of arch/x86: KASLR puts no region of memory there or above.
_VMEMMAP_LIMIT = 0xFFFFFE0000000000


class Explainer:
    """Explains addresses of one kernel; what it read is kept for the next one."""

    def __init__(self, snapshot: Snapshot, names: PageNames, progress: Progress = SILENT) -> None:
        """
        :raises MissingFacts: if the hstates are not in the dump.
        """
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._geometry = snapshot.geometry
        self._walker = snapshot.walker
        report = analyse(snapshot, progress=progress)
        self._mappers = Mappers(snapshot, report.folios.folios, report.sections)
        self._contents = ContentsReader(snapshot, names)
        self._places = Places(snapshot)
        self._struct_pages = StructPages(snapshot, names, report, self._places)
        self._interrupted = progress.interrupted

    @classmethod
    def of_program(
        cls, prog: drgn.Program, system_map: str | None = None, progress: Progress = SILENT
    ) -> Explainer:
        """
        Make the explainer of a program's kernel.

        :param prog: Any target of drgn that is an x86-64 Linux kernel.
        :param system_map: See :func:`discover()`.
        :param progress: Shows the user how far the analysis is, and may end it early.
        :raises CannotAnalyse: if this target cannot be analysed; the message says why.
        """
        snapshot = Snapshot(discover(prog, system_map), ProgramMemory(prog))
        return cls(snapshot, page_names(prog), progress)

    def explain(self, query: Query) -> Explanation:
        """Say all that is known of an address or a frame."""
        if query.address is not None:
            return self._virtual(query, query.address)
        return self._physical(Explanation(query, AddressKind.MEMORY), query.physical or 0)

    def find_frames(self, queries: Iterable[Query]) -> None:
        """Find the mappers of all frames that queries will need in one pass."""
        self._mappers.find({frame for query in queries for frame in self._frames_of(query)})

    def mapping_of(self, frame: int) -> ReverseMap:
        """The vmemmap that a frame backs."""
        return self._mappers.of(frame)

    def is_reuse_frame(self, frame: int, folio: Folio) -> bool:
        """Whether a frame is the one that a folio's remapped vmemmap pages share, or should."""
        return self._mappers.is_reuse_frame(frame, folio)

    def contents(self, words: Sequence[int], pfn: int) -> PageContents | None:
        """
        Parse a struct page that a log dumped.

        :param words: Its words of 8 bytes.
        :param pfn: PFN that it describes.
        :return: ``None`` if they are not one struct page.
        """
        page = b"".join(word.to_bytes(8, "little") for word in words)
        if len(page) != self._kernel.page.size:
            return None
        return self._contents.parse(page, pfn)

    def is_in_vmemmap(self, address: int) -> bool:
        """Whether an address is where a PFN's struct page would be, if it has one."""
        end = min(self._geometry.address(self._places.end), _VMEMMAP_LIMIT)
        return self._kernel.vmemmap <= address < end

    def is_struct_page(self, address: int) -> bool:
        """Whether an address is in the struct page of a PFN below the end of memory."""
        return self._geometry.contains(address)

    @property
    def vmemmap(self) -> int | None:
        """
        Virtual address of PFN 0's struct page; ``None`` if struct pages have another size than that
        by which :class:`drgn_vmemmap.explain.log.boot.Boot` finds it in a log.
        """
        kernel = self._kernel
        return kernel.vmemmap if kernel.page.size == STRUCT_PAGE_SIZE else None

    @property
    def encryption_mask(self) -> int:
        """See :class:`drgn_vmemmap.paging.mapping.Paging`."""
        return self._kernel.paging.encryption_mask

    def _frames_of(self, query: Query) -> Iterator[int]:
        """The frame that a query names, and the frame that backs its struct page."""
        address = query.address
        if query.physical is not None:
            pfn = query.physical >> self._geometry.page_shift
            if pfn >= self._kernel.paging.max_pfn:
                return
            yield pfn
            address = self._geometry.address(pfn)
        if address is not None and self.is_in_vmemmap(address):
            frame = self._walker.entry(address).frame
            if frame is not None:
                yield frame

    # Virtual addresses.

    def _virtual(self, query: Query, address: int) -> Explanation:
        kernel = self._kernel
        if not x86_64.is_canonical(address, kernel.paging.levels):
            return Explanation(query, AddressKind.NOT_CANONICAL)
        if not address >> 63:
            return Explanation(query, AddressKind.USER)
        explanation = Explanation(query, AddressKind.KERNEL)
        explanation.steps = list(self._walker.steps(address))
        entry = explanation.entry = self._walker.entry(address)
        if entry.frame is not None:
            explanation.frame = entry.frame
            explanation.physical = self._physical_address(entry.frame, address)
        if self.is_in_vmemmap(address):
            return self._in_vmemmap(explanation, address, entry)
        pfn = self._direct_map_pfn(address)
        if pfn is not None and entry.frame in (pfn, None):
            physical = self._physical_address(pfn, address)
            return self._in_direct_map(explanation, physical, entry)
        if entry.frame is not None and entry.problem is None:
            self._add_frame(explanation, entry.frame)
            explanation.page = self._struct_pages.of(entry.frame, 0)
        return explanation

    def _physical_address(self, frame: int, address: int) -> int:
        """The physical address of a virtual one that is mapped to a frame."""
        return (frame << self._geometry.page_shift) + address % self._geometry.page_size

    def _direct_map_pfn(self, address: int) -> int | None:
        """PFN of the frame that the direct map has at an address."""
        if self._kernel.direct_map is None:
            return None
        pfn = address - self._kernel.direct_map >> self._geometry.page_shift
        return pfn if 0 <= pfn < self._kernel.paging.max_pfn else None

    def _in_vmemmap(self, explanation: Explanation, address: int, entry: Entry) -> Explanation:
        explanation.kind = AddressKind.VMEMMAP
        pfn, offset = self._geometry.pfn_at(address)
        page = explanation.page = self._struct_pages.of(pfn, offset)
        if entry.frame is not None and entry.problem is None:
            self._add_frame(explanation, entry.frame)
        explanation.read = read_effect(entry, page, explanation.mapping)
        explanation.write = write_effect(entry, page, explanation.mapping)
        return explanation

    def _in_direct_map(self, explanation: Explanation, physical: int, entry: Entry) -> Explanation:
        explanation.kind = AddressKind.DIRECT_MAP
        self._physical(explanation, physical)
        if entry.access.writable:
            explanation.write = direct_map_write(explanation.mapping)
        elif entry.problem is Problem.UNREADABLE and direct_map_write(explanation.mapping):
            effect = direct_map_write(explanation.mapping)
            explanation.write = f"{effect}, unless the entry that is not in the dump forbids it"
        return explanation

    # Physical memory.

    def _physical(self, explanation: Explanation, physical: int) -> Explanation:
        kernel = self._kernel
        pfn = physical >> self._geometry.page_shift
        explanation.frame, explanation.physical = pfn, physical
        if pfn >= kernel.paging.max_pfn:
            explanation.kind = AddressKind.BEYOND_MEMORY
            return explanation
        self._add_frame(explanation, pfn)
        explanation.page = self._struct_pages.of(pfn, 0)
        address = self._geometry.address(pfn)
        explanation.of_page = self._virtual(Query.of_address(address), address)
        return explanation

    def _add_frame(self, explanation: Explanation, frame: int) -> None:
        explanation.frame_state = self._struct_pages.frame_state(frame)
        explanation.mapping = self._mappers.of(frame)
        explanation.complete = self._mappers.complete and not self._interrupted
