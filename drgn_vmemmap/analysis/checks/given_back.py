# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Checks on memory that folios gave back: struct pages that a restore left as they were.

Only vmemmap that last-level tables map is read: HVO never touched the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.head import may_be_of_folio, parse_head
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.rules import content as content_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.vmemmap.frames import MAX_PAGE_ORDER, FrameReader
from drgn_vmemmap.vmemmap.owners import NO_TAIL, POISON, TAIL, OwnerReader, head_of_tail

# Vmemmap pages that are read together.
_BATCH = 128

_ADDRESS_BITS = 64


def check_given_back(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find struct pages of no folio that are still those of a head or a tail."""
    if context.geometry.is_aligned:
        yield from _Check(context, ownership).findings()


class _Check:
    """Checks the struct pages of no HugeTLB folio."""

    def __init__(self, context: VmemmapContext, ownership: Ownership) -> None:
        self._context = context
        self._ownership = ownership
        self._size = context.kernel.page.size
        kernel = context.kernel
        # A mark of the head itself, rather than of the struct page after it.
        self._marked_by_type = kernel.hugetlb_test.offset < kernel.page.size
        self._mark = kernel.hugetlb_test if self._marked_by_type else kernel.head_test
        self._link_byte = kernel.page.offset("compound_head")
        self._not_compared = 0
        self._ends: dict[int, int | None] = {}
        """
        First PFN after a compound page, by the PFN to which its tails lead: as far as tails in the
        vmemmap page that is being checked do.
        """
        self._made: set[int] = set()
        """PFNs where a gigantic folio may be being made."""
        self._owners = OwnerReader(context.snapshot)
        self._frames = FrameReader(context.snapshot)

    def findings(self) -> Iterator[Finding]:
        context = self._context
        for pages in context.progress.track(self._ownership.of_no_folio(), "memory given back"):
            run = context.walker.run_at(context.geometry.page_number_address(pages.start))
            pfn = context.geometry.first_pfn_of(pages.start)
            if run.is_last_level and context.has_section(pfn) and context.is_online(pfn):
                yield from self._of_table(pages)
        if self._not_compared:
            yield content_rules.not_compared(
                self._not_compared, "memory of no folio", self._context.kernel.report_only
            )
        for pfn in sorted(self._made):
            yield content_rules.being_made(pfn, context.geometry.address(pfn))

    def _of_table(self, pages: range) -> Iterator[Finding]:
        """
        :param pages: Numbers of consecutive vmemmap pages, of one table.
        """
        context = self._context
        shift = context.geometry.page_shift
        address = context.geometry.page_number_address(pages.start)
        run = context.walker.run_at(address)
        first = (address - run.start) >> shift
        frames = context.walker.frames(run)[first : first + len(pages)]
        mapped = [(page, frame << shift) for page, frame in zip(pages, frames) if frame is not None]
        for start in range(0, len(mapped), _BATCH):
            batch = mapped[start : start + _BATCH]
            addresses = [address for _, address in batch]
            together = context.walker.memory.read_together(addresses, 1 << shift)
            # Fast path: mostly, no struct page of the batch may be stale.
            if together is not None and not self._may_be_stale(together.block):
                continue
            contents: Sequence[bytes | None] = (
                together.each()
                if together is not None
                else context.walker.memory.read_each(addresses, 1 << shift)
            )
            self._not_compared += contents.count(None)
            for (page, _), content in zip(batch, contents):
                if content is not None and self._may_be_stale(content):
                    yield from self._stale(page, content)

    def _may_be_stale(self, content: bytes) -> bool:
        """
        Whether a struct page is a tail, or may say that it is a HugeTLB folio's head.

        :param content: Any number of vmemmap pages, and any bytes between them.
        """
        size = self._size
        if content[self._link_byte :: size].translate(None, NO_TAIL):
            return True
        return self._mark.matches_any(content, size)

    def _stale(self, number: int, content: bytes) -> Iterator[Finding]:
        """
        :param number: Of the vmemmap page.
        """
        context, geometry = self._context, self._context.geometry
        first = geometry.first_pfn_of(number)
        found = list(self._stale_pages(first, content))
        # They may be copies of the head, or tails, of a folio whose head is not in the dump.
        if not found or may_be_of_folio(context.snapshot, first, context.orders):
            return
        entry = context.walker.entry(geometry.page_number_address(number))
        for (head, is_tail), group in groupby(found, key=lambda each: each[1:]):
            pfns = [pfn for pfn, *_ in group]
            if is_tail:
                yield content_rules.stale_tails(entry, pfns, head, geometry.address(pfns[0]))
            else:
                for pfn in pfns:
                    yield content_rules.stale_head(entry, pfn, geometry.address(pfn))

    def _stale_pages(self, first: int, content: bytes) -> Iterator[tuple[int, int | None, bool]]:
        """
        The stale struct pages in a vmemmap page.

        :param first: PFN of its first struct page.
        :return: PFN of each, the PFN to which it leads if it is a tail, and whether it is one.
        """
        page, size = self._context.kernel.page, self._size
        self._ends.clear()
        columns = page.column(content, "flags"), page.column(content, "compound_head")
        for index, (flags, link) in enumerate(zip(*columns)):
            pfn = first + index
            if flags == POISON:
                continue  # not in use, whatever its other words are
            if link & TAIL:
                head = head_of_tail(self._context.snapshot, pfn, link)
                if not self._may_be_tail(pfn, head):
                    yield pfn, head, True
            elif self._looks_like_head(content[index * size : (index + 2) * size], pfn):
                yield pfn, None, False

    def _looks_like_head(self, pages: bytes, pfn: int) -> bool:
        """Whether a struct page that is no folio's says that it is the head of one."""
        kernel = self._context.kernel
        if self._marked_by_type:
            return kernel.hugetlb_test.matches(pages)
        head = parse_head(kernel, pages) if len(pages) == 2 * self._size else None
        # A head where a folio may begin is that of one on its way into or out of a pool.
        return head is not None and pfn % (1 << head.order) != 0

    def _may_be_tail(self, pfn: int, head: int | None) -> bool:
        """Whether a tail leads to the head of its compound page; true where that is not known."""
        if head is None:
            return False
        if head not in self._ends:
            self._ends[head] = self._end(head)
        end = self._ends[head]
        return end is None or head < pfn < end

    def _end(self, pfn: int) -> int | None:
        """First PFN after the compound page of a PFN; ``None`` if that is not in the dump."""
        kernel = self._context.kernel
        # A folio's tails are not here: this is memory of no folio, or will be of one.
        if self._context.folio_at(pfn) is not None:
            return self._end_before_demotion(pfn)
        try:
            pages = self._context.snapshot.struct_pages(pfn, 2)
        except MissingMemory:
            return None
        if kernel.page.value(pages, "flags") & kernel.head_test.value:
            # prep_compound_page() notes the order after it has made all tails.
            return pfn + (1 << (pages[kernel.order.offset] or _ADDRESS_BITS))
        order = self._order_in_the_making(pfn)
        if order:
            self._made.add(pfn)
        return pfn + (1 << order)

    def _end_before_demotion(self, pfn: int) -> int:
        """
        First PFN after the larger folio that a folio may have been a moment ago; the PFN itself if
        it was none.

        ``demote_free_hugetlb_folios()`` makes a folio's memory smaller ones from its beginning on:
        the head is that of the first of them while tails further on still lead to it.
        """
        folios = self._context.report.folios.folios
        row = folios.row_at(pfn)
        if row is None or not self._context.may_be_in_flight(row):
            return pfn
        order = self._largest_order(pfn, above=folios.class_of(row).order)
        return pfn if order is None else pfn + (1 << order)

    def _order_in_the_making(self, pfn: int) -> int:
        """
        Order of a gigantic folio that may be being made at a PFN; 0 if none can be.

        ``__prep_compound_gigantic_folio()`` of v6.5 to v6.11 makes a page the head, and notes its
        order, after it has made all tails; the vmemmap is remapped later.
        """
        # Linux commit e98337d11bbd ("mm/contig_alloc: support __GFP_COMP") (in v6.12) took that
        # away, and page types were numbers from v6.12 on.
        if not self._context.kernel.page_marks.type_base:
            return 0
        order = self._largest_order(pfn, above=MAX_PAGE_ORDER)
        if order is None or self._owners.owner(pfn) or self._frames.free_block(pfn):
            return 0
        last = self._context.walker.entry(self._context.geometry.address(pfn + (1 << order)) - 1)
        return order if last.access.writable else 0

    def _largest_order(self, pfn: int, above: int) -> int | None:
        """The largest order above another one that a folio at a PFN can have; ``None`` for none."""
        orders = (each for each in self._context.orders if each > above and not pfn % (1 << each))
        return max(orders, default=None)
