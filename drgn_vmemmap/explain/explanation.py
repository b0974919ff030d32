# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What an address is to the vmemmap: its walk, its struct page, its folio, its frame,
who else sees that frame, and what a read and a write there would do.

What the kernel does with a fault follows ``do_kern_addr_fault()`` of
``arch/x86/mm/fault.c``; fake heads, ``page_fixed_fake_head()`` as v5.18 to v7.0
have it in ``include/linux/page-flags.h``.
"""

from __future__ import annotations

import enum
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from drgn_vmemmap.analysis.report import FolioReport, analyse
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.explain.log import Mention, mentions
from drgn_vmemmap.hugetlb.folios import Folio, TailFrames, read_head
from drgn_vmemmap.hvo.judgement import Ranges, ranges
from drgn_vmemmap.kernel.facts import Kernel, PageNames
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.walker import Entry, Problem, Run, Step, Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PTE
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.vmemmap.frames import PageReader

# The vmemmap of 32 TiB of memory; more is tables in a circle.
_RUNS_LIMIT = 1 << 18

# So many of those who see a frame are named; a zone's tail frame has all folios of the zone.
_MAPPERS_LIMIT = 8

_UNKNOWN = "is not known: the page table is not in the dump"

_WHAT = re.compile(r"(?:(pfn|phys):)?(0x)?([0-9a-f]{1,16})", re.IGNORECASE)


class AddressKind(enum.Enum):
    """What an address is, in words."""

    VMEMMAP = "in the vmemmap"
    DIRECT_MAP = "in the direct map"
    KERNEL = "a kernel address, not in the vmemmap"
    USER = "in user space: whose memory it is depends on the process"
    NOT_CANONICAL = "no address at all: it is not canonical, and any use of it faults"
    MEMORY = "physical memory"
    BEYOND_MEMORY = "behind the end of physical memory"


class Query(NamedTuple):
    """What is to be explained."""

    text: str
    """As it was given."""
    address: int | None
    """A virtual address in bytes."""
    physical: int | None
    """A physical address in bytes."""


def parse(text: str) -> Query:
    """
    :param text: ``pfn:0x2c00``, ``phys:0x2c00000``, or a virtual address with or without ``0x``.
    :raises ValueError: if it is none of them, or can be read in two ways; the message says so.
    """
    match = _WHAT.fullmatch(text)
    if match is None:
        raise ValueError(_no_address(text))
    kind, is_hex, digits = match[1], match[2], match[3]
    value = int(digits, 16)
    if kind is None:
        # An oops has all digits of an address; fewer may be anything.
        if not is_hex and len(digits) < 12:
            raise ValueError(_no_address(text))
        return Query(text, value, None)
    # The kernel's log has PFNs in hex without 0x, and reports for machines have them in decimal.
    if not is_hex and digits.isdecimal() and digits[0] != "0" and int(digits) != value:
        raise ValueError(
            f"{text!r} can be meant in hex or in decimal: "
            f"give {kind}:{value:#x} or {kind}:{int(digits):#x}"
        )
    physical = value << PAGE_SHIFT if kind.lower() == "pfn" else value
    if physical >> x86_64.PHYSICAL_BITS:
        raise ValueError(f"{text!r} is beyond the {x86_64.PHYSICAL_BITS} bits of physical memory")
    return Query(text, None, physical)


def _no_address(text: str) -> str:
    return f"{text!r} is no address: give pfn:0x..., phys:0x..., or a virtual address in hex"


class StructPage(NamedTuple):
    """A struct page, and what it is to a HugeTLB folio."""

    pfn: int
    """PFN that it describes."""
    address: int
    """Its virtual address in bytes."""
    offset: int
    """Of the byte that was asked for, in it."""
    members: list[str]
    """The kernel's names of the members that this byte belongs to."""
    folio: FolioReport | None
    """The HugeTLB folio that the PFN is in."""
    vmemmap_page: int | None
    """Index in that folio of the vmemmap page with this byte."""
    role: str
    """``head``, ``tail`` or ``fake head`` of the folio; ``""`` without one."""
    known: bool
    """Whether the dump tells if it is of a folio."""
    other: str | None
    """What special vmemmap describes it: see :mod:`drgn_vmemmap.vmemmap.special`."""

    @property
    def is_shared_tail(self) -> bool:
        """Whether its vmemmap page has the folio's reuse frame in place of one of its own."""
        if self.folio is None or self.vmemmap_page is None:
            return False
        shared = self.folio.judgement.shared
        return any(first <= self.vmemmap_page <= last for first, last in shared)


class Mapper(NamedTuple):
    """Vmemmap that a frame is behind: pages of one folio, or a stretch that is of none."""

    address: int
    """Virtual address in bytes of the first page."""
    pfns: tuple[int, int]
    """First and last PFN that the pages describe, a part of them at least."""
    folio: int | None
    """Head PFN."""
    pages: Ranges
    """Indices in the folio; empty without one."""


@dataclass
class ReverseMap:
    """All the vmemmap that a frame is behind."""

    mappers: list[Mapper] = field(default_factory=list)
    """The first ones, in ascending order."""
    count: int = 0
    """How many there are in all."""
    pages: int = 0
    """How many vmemmap pages they have."""
    keeper: str = ""
    """The zone that keeps the frame for shared tails, in words."""
    last: int | None = None
    """Head PFN of the last one, among the first ones or not."""
    end: int = 0
    """Number of the vmemmap page behind it."""


@dataclass
class Explanation:
    """What is known of one address or frame."""

    what: Query
    place: AddressKind
    steps: list[Step] = field(default_factory=list)
    """The walk to the address, level by level."""
    entry: Entry | None = None
    """How its page is mapped."""
    page: StructPage | None = None
    """The struct page that is there, or that of the frame that is meant."""
    frame: int | None = None
    """PFN of the frame behind the address, or the one that was asked for."""
    frame_state: str | None = None
    """What the frame's own struct page says of it; ``None`` if that is not in the dump."""
    mapping: ReverseMap = field(default_factory=ReverseMap)
    """The vmemmap that this frame is behind."""
    complete: bool = True
    """Whether all page tables were there to look through for it."""
    read: str = ""
    """What a read there does to a running kernel."""
    write: str = ""
    """What a write there does."""
    of_page: Explanation | None = None
    """Of a frame: the explanation of its struct page's address."""
    mention: Mention | None = None
    """Where a log names it."""

    @property
    def is_special(self) -> bool:
        """Whether its vmemmap page is one that HVO, or a fault in it, may have made."""
        return self.entry is not None and (
            self.entry.frame is None or not self.entry.access.writable or self.mapping.pages > 1
        )

    @property
    def concerns_hugetlb(self) -> bool:
        """Whether it touches the vmemmap or a HugeTLB folio."""
        return (
            self.place is AddressKind.VMEMMAP
            or (self.page is not None and self.page.folio is not None)
            or self.mapping.count > 0
            or (self.of_page is not None and self.of_page.is_special)
        )

    @property
    def incomplete(self) -> bool:
        """Whether memory that was needed is not in the dump."""
        return (
            not self.complete
            or (self.entry is not None and self.entry.problem is Problem.UNREADABLE)
            or (self.page is not None and not self.page.known)
            or (self.of_page is not None and self.of_page.incomplete)
        )

    @property
    def allowed_now(self) -> bool | None:
        """
        Whether the page tables allow what a log tells to have faulted.

        ``None`` if the log does not tell, or the dump.
        """
        access = None if self.mention is None else self.mention.access
        if access is None or self.entry is None or self.entry.problem is Problem.UNREADABLE:
            return None
        if self.entry.frame is None:
            return False
        allows = self.entry.access
        return {"write": allows.writable, "instruction fetch": allows.executable}.get(access, True)


class Explainer:
    """Explains addresses of one kernel; what it looked through is kept for the next one."""

    def __init__(
        self, kernel: Kernel, walker: Walker, names: PageNames, progress: Progress = SILENT
    ) -> None:
        """
        :raises MissingFacts: if the hstates are not in the dump.
        """
        self._kernel = kernel
        self._walker = walker
        self._names = names
        self._report = analyse(kernel, walker, progress=progress)
        self._tail_frames = TailFrames(kernel, walker)
        self._pages = PageReader(kernel, walker)
        self._mappings: dict[int, ReverseMap] = {}
        self._saw_all = not progress.interrupted

    def explain(self, what: Query) -> Explanation:
        """Say all that is known of an address or a frame."""
        if what.address is not None:
            return self._virtual(what, what.address)
        return self._physical(Explanation(what, AddressKind.MEMORY), what.physical or 0)

    def explain_log(self, log: Iterable[str]) -> tuple[list[Explanation], int]:
        """
        Explain what a log names, as far as it concerns the vmemmap or a HugeTLB folio.

        :param log: Printable lines.
        :return: Explanations, and how many other addresses and PFNs the log names.
        """
        found = [
            mention
            for mention in mentions(log)
            if mention.is_fault or mention.is_pfn or self._is_in_vmemmap(mention.value)
        ]
        # All their frames at once: to look for one costs as much.
        self._find({frame for mention in found for frame in self._frames_of(mention)})
        explanations: list[Explanation] = []
        pages: set[int] = set()
        others = 0
        for mention in found:
            explanation = self.explain(_what(mention))
            if not explanation.concerns_hugetlb:
                others += 1
                continue
            if explanation.page is not None and not mention.is_pfn:
                # Registers at a fault point all over the same struct page.
                if not mention.is_fault and explanation.page.pfn in pages:
                    continue
                pages.add(explanation.page.pfn)
            explanation.mention = mention
            explanations.append(explanation)
        return explanations, others

    def _frames_of(self, mention: Mention) -> Iterator[int]:
        """The frame that is meant, and the one that its struct page is in."""
        if mention.is_pfn and mention.value < self._kernel.paging.max_pfn:
            yield mention.value
        address = self._kernel.page_address(mention.value) if mention.is_pfn else mention.value
        if self._is_in_vmemmap(address):
            frame = self._walker.entry(address).frame
            if frame is not None:
                yield frame

    def _is_in_vmemmap(self, address: int) -> bool:
        end = self._kernel.page_address(self._kernel.paging.max_pfn)
        return self._kernel.vmemmap <= address < end

    # Virtual addresses.

    def _virtual(self, what: Query, address: int) -> Explanation:
        kernel = self._kernel
        if not x86_64.is_canonical(address, kernel.paging.levels):
            return Explanation(what, AddressKind.NOT_CANONICAL)
        if not address >> 63:
            return Explanation(what, AddressKind.USER)
        explanation = Explanation(what, AddressKind.KERNEL)
        explanation.steps = list(self._walker.steps(address))
        entry = explanation.entry = self._walker.entry(address)
        explanation.frame = entry.frame
        if self._is_in_vmemmap(address):
            return self._in_vmemmap(explanation, address, entry)
        pfn = self._direct_map_pfn(address)
        if pfn is not None and entry.frame in (pfn, None):
            explanation.place = AddressKind.DIRECT_MAP
            return self._physical(explanation, pfn << PAGE_SHIFT)
        if entry.frame is not None and entry.problem is None:
            self._add_frame(explanation, entry.frame)
            explanation.page = self._struct_page(entry.frame, 0)
        return explanation

    def _direct_map_pfn(self, address: int) -> int | None:
        """PFN of the frame that the direct map has at an address."""
        if self._kernel.direct_map is None:
            return None
        pfn = address - self._kernel.direct_map >> PAGE_SHIFT
        return pfn if 0 <= pfn < self._kernel.paging.max_pfn else None

    def _in_vmemmap(self, explanation: Explanation, address: int, entry: Entry) -> Explanation:
        kernel = self._kernel
        explanation.place = AddressKind.VMEMMAP
        pfn, offset = divmod(address - kernel.vmemmap, kernel.page.size)
        page = explanation.page = self._struct_page(pfn, offset)
        if entry.frame is not None and entry.problem is None:
            self._add_frame(explanation, entry.frame)
        explanation.read = _read(entry, page, explanation.mapping)
        explanation.write = _write(entry, page, explanation.mapping)
        return explanation

    def _struct_page(self, pfn: int, offset: int) -> StructPage:
        kernel, folios = self._kernel, self._report.folios
        address = kernel.page_address(pfn)
        row = folios.folios.row_at(pfn)
        folio, index, role, members = None, None, "", self._names.at(offset)
        if row is not None:
            folio = folios[row]
            start = address - kernel.page_address(folio.folio.pfn) + offset
            index = start >> PAGE_SHIFT
            role = self._role(folio, pfn, index)
            if role != "head":
                members = self._names.in_folio(start) or members
                members = [name for name in members if name.startswith("compound")] or members
        return StructPage(
            pfn,
            address,
            offset,
            members,
            folio,
            index,
            role,
            known=row is not None or self._is_of_no_folio(pfn),
            other=next((o.kind for o in self._report.others if pfn in o.pfns), None),
        )

    def _role(self, folio: FolioReport, pfn: int, index: int) -> str:
        if pfn == folio.folio.pfn:
            return "head"
        first, layout = self._kernel.page_address(pfn), folio.judgement.layout
        # The frame's first struct page is the head, whatever vmemmap page it is seen through.
        if first % PAGE_SIZE == 0 and layout is Layout.HEAD_REUSE:
            head = self._walker.entry(self._kernel.page_address(folio.folio.pfn)).frame
            if head is not None and head == self._walker.entry(first).frame:
                return "fake head"
        return "tail"

    def _is_of_no_folio(self, pfn: int) -> bool:
        """Whether all places of heads that could have it are in the dump, so that none has it."""
        for hstate in self._report.hstates:
            head = pfn & -(1 << hstate.hstate.order)
            try:
                read_head(self._kernel, self._walker, head)
            except MissingMemory:
                entry = self._walker.entry(self._kernel.page_address(head))
                if entry.problem in (None, Problem.UNREADABLE):
                    return False
        return True

    # Physical memory.

    def _physical(self, explanation: Explanation, physical: int) -> Explanation:
        kernel = self._kernel
        pfn = physical >> PAGE_SHIFT
        explanation.frame = pfn
        if pfn >= kernel.paging.max_pfn:
            explanation.place = AddressKind.BEYOND_MEMORY
            return explanation
        self._add_frame(explanation, pfn)
        explanation.page = self._struct_page(pfn, 0)
        address = kernel.page_address(pfn)
        explanation.of_page = self._virtual(Query(hex(address), address, None), address)
        return explanation

    def _add_frame(self, explanation: Explanation, frame: int) -> None:
        explanation.frame_state = self._state(frame)
        if frame not in self._mappings:
            self._find({frame})
        explanation.mapping = self._mappings[frame]
        explanation.complete = self._saw_all

    def _state(self, frame: int) -> str | None:
        """What a frame's own struct page says."""
        kernel = self._kernel
        block = self._pages.free_block(frame)
        if block is not None:
            return f"free, in the buddy allocator's block of order {block.order} at {block.pfn:#x}"
        try:
            page = self._walker.read(kernel.page_address(frame), kernel.page.size)
        except MissingMemory:
            return None
        count = kernel.page.value(page, "refcount")
        return f"in use, reference count {count}" if count else "without a reference"

    # Who sees a frame.

    def _find(self, frames: set[int]) -> None:
        """Look through the vmemmap's tables for all pages that are mapped to some frames."""
        self._mappings.update({frame: ReverseMap() for frame in frames})
        kernel = self._kernel
        end = kernel.page_address(kernel.paging.max_pfn) + PAGE_SIZE - 1 & -PAGE_SIZE
        runs = self._walker.walk(kernel.vmemmap, end)
        for run in islice(runs, _RUNS_LIMIT):
            self._saw_all &= bool(run.raw)
            mapped = self._frames(run)
            first = (run.start - kernel.vmemmap) >> PAGE_SHIFT
            for frame in sorted(frames.intersection(mapped) if run.level is PTE else frames):
                if frame in mapped:
                    self._add_pages(self._mappings[frame], frame, first, mapped)
        self._saw_all &= next(runs, None) is None

    def _frames(self, run: Run) -> Sequence[int | None]:
        """Frames behind the pages of a run; none for a hole, however large."""
        if run.level is PTE:
            return self._walker.frames(run)
        entry = self._walker.entry(run.start)
        if entry.frame is None:
            return ()
        return range(entry.frame, entry.frame + run.pages)

    def _add_pages(
        self, mapping: ReverseMap, frame: int, first: int, mapped: Sequence[int | None]
    ) -> None:
        """
        :param first: Number of the vmemmap page that the first frame is behind.
        """
        if isinstance(mapped, range):
            found: Ranges = ((mapped.index(frame),) * 2,)
        else:
            found = ranges(index for index, other in enumerate(mapped) if other == frame)
        for start, last in found:
            stretch = range(first + start, first + last + 1)
            while stretch:
                folio, end = self._described(stretch.start)
                part = range(stretch.start, min(end, stretch.stop))
                self._add_mapper(mapping, frame, folio, part)
                stretch = range(part.stop, stretch.stop)

    def _described(self, page: int) -> tuple[Folio | None, int]:
        """
        :param page: Number of a vmemmap page.
        :return: The folio that it describes, and the first page behind it, or before the next one.
        """
        kernel, folios = self._kernel, self._report.folios.folios
        pfn = page * PAGE_SIZE // kernel.page.size
        row = folios.row_at(pfn)
        if row is not None:
            folio = folios[row]
            pages = kernel.vmemmap_pages(folio.order)
            return folio, max(page + 1, self._page_number(folio.pfn) + pages)
        row = bisect_right(folios.pfns, pfn)
        end = folios.pfns[row] if row < len(folios) else kernel.paging.max_pfn
        return None, max(page + 1, self._page_number(end))

    def _page_number(self, pfn: int) -> int:
        """Number of the vmemmap page in which a struct page begins."""
        return pfn * self._kernel.page.size >> PAGE_SHIFT

    def _add_mapper(
        self, mapping: ReverseMap, frame: int, folio: Folio | None, pages: range
    ) -> None:
        kernel = self._kernel
        size = kernel.page.size
        pfns = pages.start * PAGE_SIZE // size, (pages.stop * PAGE_SIZE - 1) // size
        indices: Ranges = ()
        if folio is not None:
            start = self._page_number(folio.pfn)
            indices = ((pages.start - start, pages.stop - 1 - start),)
        head = None if folio is None else folio.pfn
        goes_on = head == mapping.last and (folio is not None or pages.start == mapping.end)
        mapping.pages += len(pages)
        mapping.last, mapping.end = head, pages.stop
        if mapping.count and goes_on:
            if mapping.count == len(mapping.mappers):
                known = mapping.mappers[-1]
                mapping.mappers[-1] = known._replace(
                    pfns=(known.pfns[0], pfns[1]), pages=known.pages + indices
                )
            return
        mapping.count += 1
        if len(mapping.mappers) < _MAPPERS_LIMIT:
            address = kernel.vmemmap + pages.start * PAGE_SIZE
            mapping.mappers.append(Mapper(address, pfns, head, indices))
        if folio is not None and not mapping.keeper and frame in self._kept_for(folio):
            mapping.keeper = (
                f"zone {folio.zone} of node {folio.node}, for the tails of folios of order "
                f"{folio.order}"
            )

    def _kept_for(self, folio: Folio) -> frozenset[int]:
        return self._tail_frames.acceptable(folio) or frozenset()


def _what(mention: Mention) -> Query:
    if mention.is_pfn:
        return Query(f"pfn:{mention.value:#x}", None, mention.value << PAGE_SHIFT)
    return Query(f"{mention.value:#x}", mention.value, None)


def _read(entry: Entry, page: StructPage, mapping: ReverseMap) -> str:
    if entry.problem is Problem.UNREADABLE:
        return _UNKNOWN
    if entry.problem is Problem.BEYOND_MEMORY:
        return "gets what is beyond memory: all ones, or a machine check"
    if entry.frame is None:
        return _fault(entry, write=False)
    if page.role == "fake head":
        return "gets the head page's bytes; page_fixed_fake_head() leads from here to the head"
    if page.role == "tail" and page.is_shared_tail:
        return "gets a tail page that many share; compound_head() leads from here to the head"
    if mapping.pages > 1 and not _is_kept(page):
        return f"gets a struct page that {mapping.pages - 1} other vmemmap pages show, too"
    return "gets this struct page"


def _write(entry: Entry, page: StructPage, mapping: ReverseMap) -> str:
    if entry.problem is Problem.UNREADABLE:
        return _UNKNOWN
    if entry.problem is Problem.BEYOND_MEMORY:
        return "goes beyond memory, and is lost"
    if not entry.access.writable:
        return _fault(entry, write=True)
    if mapping.pages > 1 and not (_is_kept(page) and mapping.count == 1):
        return f"goes unnoticed, and changes what {mapping.pages - 1} other vmemmap pages show"
    return "changes this struct page, as the kernel may"


def _fault(entry: Entry, write: bool) -> str:
    """An access that is not allowed, by the bits of ``enum x86_pf_error_code``."""
    code, reason = 1, "permissions violation"
    if entry.problem is Problem.NOT_PRESENT:
        code, reason = 0, "not-present page"
    elif entry.problem is Problem.RESERVED:
        code, reason = 9, "reserved bit violation"
    return (
        f"faults (error code {code | write << 1:#06x}, {reason}): the kernel oopses, and the "
        "task is killed"
    )


def _is_kept(page: StructPage) -> bool:
    """Whether the kernel writes to its vmemmap page although tails may share the frame."""
    return (
        page.folio is not None
        and page.vmemmap_page is not None
        and page.vmemmap_page < page.folio.judgement.layout.kept
    )
