# SPDX-License-Identifier: LGPL-2.1-or-later

"""Verification: besides each folio's entries, the entire vmemmap, its frames and their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import Folio
from drgn_vmemmap.hugetlb.head import read_head
from drgn_vmemmap.hvo.ownership import ZONE, Described, Ownership, survey
from drgn_vmemmap.hvo.tails import Tails
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.mapping import Run
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.rules import content as content_rules
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.frames import Owner
from drgn_vmemmap.vmemmap.frames import Free, PageReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from drgn_vmemmap.vmemmap.special import DEVICE, SELF_HOSTED, joined

# Folios whose reuse frames are read together.
_BATCH = 128


def check(snapshot: Snapshot, progress: Progress = SILENT) -> Report:
    """
    Analyse a kernel whose facts are known, and check all frames.

    :param snapshot: Fresh for this analysis.
    :raises MissingFacts: if the hstates are not in the dump.
    """
    report = analyse(snapshot, progress=progress)
    report.findings += _Check(snapshot, report, progress).findings()
    report.interrupted = progress.interrupted
    report.verified = True
    return report


class _Check:
    """Carries the checks from the survey to the findings."""

    def __init__(self, snapshot: Snapshot, report: Report, progress: Progress) -> None:
        self._report = report
        self._snapshot = snapshot
        self._kernel = report.kernel
        self._geometry = snapshot.geometry
        self._walker = snapshot.walker
        self._progress = progress
        self._pages = PageReader(snapshot)
        self._tail_reader = Tails(report.kernel)
        facts = report.kernel.sections
        self._offline = {
            section.pfns.start // facts.pages
            for section in report.sections
            if not section.flags & facts.online
        }

    def findings(self) -> Iterator[Finding]:
        yield from self._tails()
        report = self._report
        described = Described(report.sections, report.folios, report.others, report.tail_frames)
        ownership = survey(self._snapshot, described, self._progress)
        yield from self._aliases(ownership)
        yield from self._unused(ownership)
        yield from map(frame_rules.unreadable_vmemmap, self._not_told(ownership))
        if ownership.endless:
            yield frame_rules.endless_vmemmap()
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
        # A frame that a zone keeps is compared once.
        for rows in self._alike(Layout.SHARED_TAIL):
            first = {folios.reuse_frames[row]: row for row in reversed(rows)}
            yield from ([first[frame]] for frame in sorted(first.keys() - compared))
            compared.update(first)

    def _alike(self, *layouts: Layout) -> Iterator[Sequence[int]]:
        """Rows of folios of one class with the same judgement."""
        folios = self._report.folios
        groups: dict[tuple[int, int], list[int]] = {}
        chosen = {n for n, each in enumerate(folios.judgement_table) if each.layout in layouts}
        for row, key in enumerate(zip(folios.folios.classes, folios.judgements)):
            if key[1] in chosen:
                groups.setdefault(key, []).append(row)
        yield from groups.values()

    def _wrong_tails(self, rows: Sequence[int]) -> Iterator[Finding]:
        """Compare what is in reuse frames, of folios of one kind and layout, with what must be."""
        folios, kernel, tails = self._report.folios, self._kernel, self._tail_reader
        layout = folios.judgement_of(rows[0]).layout
        order = folios.folios.class_of(rows[0]).order
        memory, first = self._walker.memory, int(layout is Layout.HEAD_REUSE)
        infos = kernel.tail_infos([folios.folios.pfns[row] for row in rows], order)
        addresses = [folios.reuse_frames[row] << self._geometry.page_shift for row in rows]
        pieces = memory.read_together(addresses, self._geometry.page_size)
        if pieces is not None and tails.are_all_right(pieces, memoryview(infos), first):
            return
        contents = (
            pieces.each() if pieces else memory.read_each(addresses, self._geometry.page_size)
        )
        unreadable = 0
        for row, info, content in zip(rows, infos, contents):
            if content is None:
                unreadable += folios.reuse_frames[row] < kernel.paging.max_pfn
            elif not tails.are_right(content, info, first):
                yield self._wrong_tail(layout, row, content, info)
        if unreadable:
            yield frame_rules.unreadable_frames(unreadable)

    def _wrong_tail(self, layout: Layout, row: int, content: bytes, info: int) -> Finding:
        folios, kernel = self._report.folios, self._kernel
        pfn, frame = folios.folios.pfns[row], folios.reuse_frames[row]
        first = int(layout is Layout.HEAD_REUSE)
        page, found = self._tail_reader.first_wrong(content, info, first)
        belongs_to = None
        if not kernel.tails_hold_mask and self._tail_reader.are_right(content, found, first):
            other = self._geometry.pfn_of(found - 1)
            if other is not None and self._folio_at(other) == other:
                belongs_to = other
        index = 1 - first
        address = self._geometry.address(pfn) + index * self._geometry.page_size
        owner = Owner(pfn, index, self._walker.entry(address))
        wrong = address + page * kernel.page.size
        return content_rules.tail_content(owner, frame, page, wrong, belongs_to)

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
                yield frame_rules.frame_aliased(self._owner(page), frame, others)
        told = (page for page in sorted(orphans) if not self._may_be_folio(page))
        for stretch in joined(range(page, page + 1) for page in told):
            pfns = self._geometry.pfns_of(stretch)
            entry = self._owner(stretch.start).entry
            yield frame_rules.orphan_remap(entry, pfns, orphans[stretch.start])

    def _may_be_folio(self, page: int) -> bool:
        """Whether a vmemmap page may be of a folio whose head page is not in the dump."""
        pfn = self._geometry.pfns_of(range(page, page + 1)).start
        for hstate in self._report.hstates:
            head = pfn >> hstate.hstate.order << hstate.hstate.order
            try:
                read_head(self._snapshot, head)
            except MissingMemory:
                return True
        return False

    def _name(self, page: int) -> str:
        return "the tails of a zone" if page == ZONE else str(self._owner(page))

    def _owner(self, page: int) -> Owner:
        """Whose a vmemmap page is, by its number."""
        address = self._geometry.page_number_address(page)
        entry = self._walker.entry(address)
        folio = self._folio_at(self._geometry.pfns_of(range(page, page + 1)).start)
        if folio is None:
            return Owner(None, None, entry)
        index = (address - self._geometry.address(folio)) // self._geometry.page_size
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
            yield frame_rules.unreadable_frames(unknown)

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
            return frame_rules.tail_frame_freed(free, self._geometry.address(free.frame))
        return frame_rules.frame_freed(self._owner(page), free)

    def _first_tail(self, frame: int) -> int:
        """The first vmemmap page that shares a zone's frame; :data:`ZONE` if none does."""
        folios = self._report.folios
        if frame not in folios.reuse_frames:
            return ZONE
        pfn = folios.folios.pfns[folios.reuse_frames.index(frame)]
        return self._geometry.page_number(pfn) + 1

    def _not_told(self, ownership: Ownership) -> Iterator[Run]:
        """Page tables that are not in the dump, and that no folio's findings tell of."""
        told: set[int] = set()
        for run in ownership.unreadable:
            pfn, _ = self._geometry.pfn_at(run.start)
            table = run.raw_address & -self._geometry.page_size
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
                int.from_bytes(self._snapshot.read(address, 8), "little", signed=True)
                for address in counters
            )
        except MissingMemory:
            return
        found = ownership.distinct() - len(self._report.tail_frames)
        # Without a later fix, kernels count a device's vmemmap as if it shared nothing.
        of_devices = sum(other.freed for other in self._report.others if other.kind == DEVICE)
        if counted not in (found, found + of_devices):
            yield frame_rules.memmap_count_mismatch(counted, found)

    def _unoptimized(self) -> Iterator[Finding]:
        folios, kernel = self._report.folios, self._kernel
        unoptimized = {
            number
            for number, judgement in enumerate(folios.judgement_table)
            if judgement.verdict is Verdict.UNOPTIMIZED
        }
        for row, number in enumerate(folios.judgements):
            if number in unoptimized:
                folio = folios.folios[row]
                freed = kernel.freed_when_optimized(folio.order)
                address = self._geometry.address(folio.pfn)
                yield content_rules.unoptimized(folio, address, self._reason(folio), freed)

    def _reason(self, folio: Folio) -> str:
        """Why a folio was not optimized, as far as the dump shows it (``mm/hugetlb_vmemmap.c``)."""
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
        start = self._geometry.address(folio.pfn)
        end = start + self._geometry.pages_of_order(folio.order) * self._geometry.page_size
        expected = None
        for run in self._walker.walk(start, end):
            for number, frame in enumerate(self._walker.frames(run)):
                # A large leaf's frames, and a split one's, are consecutive.
                place = (run.start >> self._geometry.page_shift) + number - (frame or 0)
                if place != expected and expected is not None and run.is_last_level:
                    return (
                        run.start + number * self._geometry.page_size
                        & (self._kernel.architecture.table_span - 1)
                        != 0
                    )
                expected = place
        return False
