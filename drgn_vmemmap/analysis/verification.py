# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Verification: beyond each folio's entries, the whole vmemmap, its frames and their content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drgn_vmemmap.analysis.report import Report, analyse
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.columns import stretches
from drgn_vmemmap.hugetlb.folios import Folio, read_head
from drgn_vmemmap.hvo.judgement import Verdict
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.walker import Run, Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PMD, PTE
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.rules import folio as rules
from drgn_vmemmap.rules.folio import Finding, Owner
from drgn_vmemmap.vmemmap.frames import Free, PageReader, Tails
from drgn_vmemmap.vmemmap.reverse_map import ZONE, Ownership, survey
from drgn_vmemmap.vmemmap.special import DEVICE, SELF_HOSTED, joined

# Folios whose reuse frames are read together.
_BATCH = 128


def check(kernel: Kernel, walker: Walker, progress: Progress = SILENT) -> Report:
    """
    Check a kernel whose facts are known.

    :param walker: Fresh for this look; its memory is the kernel's.
    :raises MissingFacts: if the hstates are not in the dump.
    """
    report = analyse(kernel, walker, progress=progress)
    report.findings += _Check(report, walker, progress).findings()
    report.interrupted = progress.interrupted
    report.verified = True
    return report


class _Check:
    """Carries the checks from the survey to the findings."""

    def __init__(self, report: Report, walker: Walker, progress: Progress) -> None:
        self._report = report
        self._kernel = report.kernel
        self._walker = walker
        self._progress = progress
        self._pages = PageReader(report.kernel, walker)
        self._tail_reader = Tails(report.kernel)
        facts = report.kernel.sections
        self._offline = {
            section.pfns.start // facts.pages
            for section in report.sections
            if not section.flags & facts.online
        }

    def findings(self) -> Iterator[Finding]:
        yield from self._tails()
        ownership = survey(self._report, self._walker, self._progress)
        yield from self._aliases(ownership)
        yield from self._unused(ownership)
        yield from map(rules.unreadable_vmemmap, self._not_told(ownership))
        if ownership.endless:
            yield rules.endless_vmemmap()
        if not self._report.incomplete and not self._progress.interrupted:
            yield from self._memmap_counters(ownership)
        yield from self._unoptimized()

    # What is in the reuse frames.

    def _tails(self) -> Iterator[Finding]:
        for rows in self._progress.track(list(self._tails_to_compare()), "tails"):
            yield from self._wrong_tails(rows)

    def _tails_to_compare(self) -> Iterator[Sequence[int]]:
        """Rows of folios of one kind and layout, a few at a time."""
        folios = self._report.folios
        compared: set[int] = set()
        for rows in self._alike(Layout.HEAD_REUSE, Layout.TAIL_REUSE):
            yield from (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
        # One look at a frame that a zone keeps is enough.
        for rows in self._alike(Layout.SHARED_TAIL):
            frames = folios.reuse_frames[rows.start : rows.stop]
            for frame in sorted(set(frames) - compared):
                yield [rows.start + frames.index(frame)]
            compared.update(frames)

    def _alike(self, *layouts: Layout) -> Iterator[range]:
        """Rows side by side of folios of one kind that are judged alike."""
        folios = self._report.folios
        for rows in stretches(folios.folios.kinds, folios.judgements):
            if folios.judgement_table[folios.judgements[rows.start]].layout in layouts:
                yield rows

    def _wrong_tails(self, rows: Sequence[int]) -> Iterator[Finding]:
        """Compare what is in reuse frames, of folios of one kind and layout, with what must be."""
        folios, kernel, tails = self._report.folios, self._kernel, self._tail_reader
        layout = folios.judgement_table[folios.judgements[rows[0]]].layout
        kind = folios.folios.class_table[folios.folios.kinds[rows[0]]]
        memory, first = self._walker.memory, int(layout is Layout.HEAD_REUSE)
        infos = kernel.tail_infos([folios.folios.pfns[row] for row in rows], kind.order)
        addresses = [folios.reuse_frames[row] << PAGE_SHIFT for row in rows]
        pieces = memory.read_together(addresses, PAGE_SIZE)
        if pieces is not None and tails.are_all_right(pieces, memoryview(infos), first):
            return
        contents = pieces.each() if pieces else memory.read_each(addresses, PAGE_SIZE)
        unreadable = 0
        for row, info, content in zip(rows, infos, contents):
            if content is None:
                unreadable += folios.reuse_frames[row] < kernel.paging.max_pfn
            elif not tails.are_right(content, info, first):
                yield self._wrong_tail(layout, row, content, info)
        if unreadable:
            yield rules.unreadable_frames(unreadable)

    def _wrong_tail(self, layout: Layout, row: int, content: bytes, info: int) -> Finding:
        folios, kernel = self._report.folios, self._kernel
        pfn, frame = folios.folios.pfns[row], folios.reuse_frames[row]
        first = int(layout is Layout.HEAD_REUSE)
        page, found = self._tail_reader.first_wrong(content, info, first)
        belongs_to = None
        if not kernel.tails_hold_mask and self._tail_reader.are_right(content, found, first):
            other, misaligned = divmod(found - 1 - kernel.vmemmap, kernel.page.size)
            if not misaligned and self._folio_at(other) == other:
                belongs_to = other
        index = 1 - first
        address = kernel.page_address(pfn) + index * PAGE_SIZE
        owner = Owner(pfn, index, self._walker.entry(address))
        wrong = address + page * kernel.page.size
        return rules.tail_content(owner, frame, page, wrong, belongs_to)

    # Who owns which frame.

    def _aliases(self, ownership: Ownership) -> Iterator[Finding]:
        orphans = dict.fromkeys(ownership.read_only, "is read-only")
        for frame, pages in ownership.shared().items():
            for page in pages:
                if page == ZONE:
                    continue
                if ownership.is_of_no_folio(page):
                    orphans[page] = "shares frames"
                    continue
                others = [self._name(other) for other in pages if other != page]
                yield rules.frame_aliased(self._owner(page), frame, others)
        told = (page for page in sorted(orphans) if not self._may_be_folio(page))
        for stretch in joined(range(page, page + 1) for page in told):
            per_page = PAGE_SIZE / self._kernel.page.size
            pfns = range(int(stretch.start * per_page), int(stretch.stop * per_page))
            entry = self._owner(stretch.start).entry
            yield rules.orphan_remap(entry, pfns, orphans[stretch.start])

    def _may_be_folio(self, page: int) -> bool:
        """Whether a vmemmap page may be of a folio whose head page is not in the dump."""
        pfn = page * PAGE_SIZE // self._kernel.page.size
        for hstate in self._report.hstates:
            head = pfn >> hstate.hstate.order << hstate.hstate.order
            try:
                read_head(self._kernel, self._walker, head)
            except MissingMemory:
                return True
        return False

    def _name(self, page: int) -> str:
        return "the tails of a zone" if page == ZONE else str(self._owner(page))

    def _owner(self, page: int) -> Owner:
        """Whose a vmemmap page is, by its number."""
        address = self._kernel.vmemmap + page * PAGE_SIZE
        entry = self._walker.entry(address)
        folio = self._folio_at(page * PAGE_SIZE // self._kernel.page.size)
        if folio is None:
            return Owner(None, None, entry)
        index = (address - self._kernel.page_address(folio)) // PAGE_SIZE
        return Owner(folio, index, entry)

    def _folio_at(self, pfn: int) -> int | None:
        """Head PFN of the folio that contains a PFN."""
        folios = self._report.folios.folios
        row = folios.row_at(pfn)
        return None if row is None else folios.pfns[row]

    # Whether the frames are in use.

    def _unused(self, ownership: Ownership) -> Iterator[Finding]:
        frames = sorted(set(ownership.frames))
        if self._offline:
            frames = [frame for frame in frames if self._is_online(frame)]
        unknown = 0
        found: dict[int, Free] = {}
        batches = [frames[start : start + 4096] for start in range(0, len(frames), 4096)]
        for batch in self._progress.track(batches, "frames"):
            for answer in self._pages.unused(batch):
                if isinstance(answer, Free):
                    found[answer.frame] = answer
                else:
                    unknown += 1
        for frame, page in zip(ownership.frames, ownership.pages) if found else ():
            if frame in found:
                yield self._freed(found[frame], self._first_tail(frame) if page == ZONE else page)
        leaves = [leaf for leaf in ownership.leaves if self._is_online(leaf.frame)]
        for leaf in self._progress.track(leaves, "frames"):
            for answer in self._pages.free_under_leaf(leaf.frame, leaf.pages):
                if isinstance(answer, Free):
                    yield self._freed(answer, leaf.page + answer.frame - leaf.frame)
                else:
                    unknown += 1
        if unknown:
            yield rules.unreadable_frames(unknown)

    def _is_online(self, pfn: int) -> bool:
        """
        Whether a struct page tells anything: nobody may have written that of memory which is not
        online, such as plugged memory that hosts its own vmemmap (``pfn_to_online_page()``).
        """
        return pfn // self._kernel.sections.pages not in self._offline

    def _freed(self, free: Free, page: int) -> Finding:
        """
        :param page: The vmemmap page that the frame is behind; :data:`ZONE` if there is none.
        """
        if page == ZONE:
            return rules.tail_frame_freed(free, self._kernel.page_address(free.frame))
        return rules.frame_freed(self._owner(page), free)

    def _first_tail(self, frame: int) -> int:
        """The first vmemmap page that shares a zone's frame; :data:`ZONE` if none does."""
        folios = self._report.folios
        if frame not in folios.reuse_frames:
            return ZONE
        pfn = folios.folios.pfns[folios.reuse_frames.index(frame)]
        return pfn * self._kernel.page.size // PAGE_SIZE + 1

    def _not_told(self, ownership: Ownership) -> Iterator[Run]:
        """Page tables that are not in the dump, and that no folio's findings tell of."""
        told: set[int] = set()
        for run in ownership.unreadable:
            pfn = (run.start - self._kernel.vmemmap) // self._kernel.page.size
            table = run.raw_address & -PAGE_SIZE
            if table not in told and self._folio_at(pfn) is None:
                told.add(table)
                yield run

    # What the kernel counts, and why folios are whole.

    def _memmap_counters(self, ownership: Ownership) -> Iterator[Finding]:
        counters = self._kernel.memmap_counters
        if counters is None:
            return
        try:
            counted = sum(
                int.from_bytes(self._walker.read(address, 8), "little", signed=True)
                for address in counters
            )
        except MissingMemory:
            return
        found = ownership.distinct() - len(self._report.tail_frames)
        # Without a later fix, kernels count a device's vmemmap as if it shared nothing.
        of_devices = sum(other.freed for other in self._report.others if other.kind == DEVICE)
        if counted not in (found, found + of_devices):
            yield rules.memmap_count_mismatch(counted, found)

    def _unoptimized(self) -> Iterator[Finding]:
        folios, kernel = self._report.folios, self._kernel
        for rows in stretches(folios.judgements):
            judgement = folios.judgement_table[folios.judgements[rows.start]]
            if judgement.verdict is Verdict.UNOPTIMIZED:
                for row in rows:
                    folio = folios.folios[row]
                    freed = kernel.freed_when_optimized(folio.order)
                    address = kernel.page_address(folio.pfn)
                    yield rules.unoptimized(folio, address, self._reason(folio), freed)

    def _reason(self, folio: Folio) -> str:
        """Why a folio was left whole, as far as the dump shows it (``mm/hugetlb_vmemmap.c``)."""
        kernel = self._kernel
        if not kernel.hvo.built_in:
            return "this kernel has no HVO"
        if kernel.page.size & (kernel.page.size - 1):
            return f"struct page has {kernel.page.size} bytes, no power of two"
        hosts = (other for other in self._report.others if other.kind == SELF_HOSTED)
        if any(folio.pfn in other.pfns for other in hosts):
            return "its vmemmap is hosted by the hot-plugged memory that it describes"
        if self._was_restored(folio):
            return "it was optimized once, and restored"
        if kernel.hvo.enabled is False:
            return "HVO is off now"
        return "the dump shows no reason"

    def _was_restored(self, folio: Folio) -> bool:
        """Whether its frames are not those that its vmemmap was made of."""
        start = self._kernel.page_address(folio.pfn)
        end = start + self._kernel.vmemmap_pages(folio.order) * PAGE_SIZE
        expected = None
        for run in self._walker.walk(start, end):
            for number, frame in enumerate(self._walker.frames(run)):
                # A large leaf's frames, and a split one's, are consecutive.
                place = (run.start >> PAGE_SHIFT) + number - (frame or 0)
                if place != expected and expected is not None and run.level is PTE:
                    return run.start + number * PAGE_SIZE & (PMD.entry_span - 1) != 0
                expected = place
        return False
