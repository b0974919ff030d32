# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What an address is to the vmemmap: its walk, its struct page, its folio, its frame,
who else sees that frame, and what a read and a write there would do.

What the kernel does with a fault follows ``do_kern_addr_fault()`` of
``arch/x86/mm/fault.c``; fake heads, ``page_fixed_fake_head()`` as v5.18 to v7.0
have it in ``include/linux/page-flags.h``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap import x86_64
from drgn_vmemmap.frames import Block, PageReader
from drgn_vmemmap.hvo import format_ranges, ranges
from drgn_vmemmap.kernel import Kernel, Layout
from drgn_vmemmap.kernel_log import Mention, mentions
from drgn_vmemmap.memory import MissingMemory
from drgn_vmemmap.ownership import ZONE, Ownership, survey
from drgn_vmemmap.pagetable import Entry, Problem, Step, Walker
from drgn_vmemmap.report import FolioReport, Report, look
from drgn_vmemmap.x86_64 import PAGE_SHIFT, PAGE_SIZE

_VMEMMAP = "an address in the vmemmap"

_ADDRESS = re.compile(r"(?:0x)?([0-9a-f]{12,16})|0x([0-9a-f]{1,16})", re.IGNORECASE)


class What(NamedTuple):
    """What is to be explained."""

    text: str
    """As it was given."""
    address: int | None
    """A virtual address in bytes."""
    physical: int | None
    """A physical address in bytes."""


class StructPage(NamedTuple):
    """A struct page, and what it is to a HugeTLB folio."""

    pfn: int
    """PFN that it describes."""
    address: int
    """Its virtual address in bytes."""
    offset: int
    """Of the byte that was asked for, in it."""
    members: list[str]
    """Names of the members that this byte belongs to."""
    folio: FolioReport | None
    """The HugeTLB folio that the PFN is in."""
    vmemmap_page: int | None
    """Index of its vmemmap page in that folio."""
    role: str
    """``head``, ``tail`` or ``fake head`` of the folio; ``""`` without one."""


@dataclass
class Explanation:
    """What is known of one address or PFN."""

    what: What
    place: str
    """What part of the address space it is in, in words."""
    steps: list[Step] = field(default_factory=list)
    """The walk to the address, level by level."""
    entry: Entry | None = None
    """How its page is mapped."""
    page: StructPage | None = None
    """The struct page that is there, or that of the frame that was asked for."""
    frame: int | None = None
    """PFN of the frame behind the address, or the one that was asked for."""
    frame_state: str = ""
    """What the frame's own struct page says of it."""
    seen_by: list[str] = field(default_factory=list)
    """The vmemmap that this frame is behind."""
    read: str = ""
    """What a read there does to a running kernel."""
    write: str = ""
    """What a write there does."""

    @property
    def concerns_hugetlb(self) -> bool:
        """Whether it touches the vmemmap or a HugeTLB folio."""
        in_folio = self.page is not None and self.page.folio is not None
        return in_folio or bool(self.seen_by)


def parse(text: str) -> What:
    """
    :param text: ``pfn:0x2c00``, ``phys:0x2c00000``, or a virtual address with or without ``0x``.
    :raises ValueError: if it is none of them; the message says so.
    """
    kind, colon, number = text.partition(":")
    try:
        if colon and kind in ("pfn", "phys"):
            value = int(number, 0) << (PAGE_SHIFT if kind == "pfn" else 0)
            if 0 <= value < 1 << x86_64.PHYSICAL_BITS:
                return What(text, None, value)
            raise ValueError
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{text!r} is no address: give pfn:NUMBER, phys:NUMBER, or a virtual address in hex"
        ) from None
    return What(text, int(match[1] or match[2], 16), None)


class Explainer:
    """Explains addresses of one kernel; what it looked through is kept for the next one."""

    def __init__(self, kernel: Kernel, walker: Walker) -> None:
        """
        :raises MissingFacts: if the hstates are not in the dump.
        """
        self._kernel = kernel
        self._walker = walker
        self._report: Report = look(kernel, walker)
        self._ownership: Ownership = survey(self._report, walker)
        self._pages = PageReader(kernel, walker)

    def explain(self, what: What) -> Explanation:
        """Say all that is known of an address or a PFN."""
        if what.address is not None:
            return self._virtual(what, what.address)
        return self._physical(Explanation(what, "a physical address"), what.physical or 0)

    def explain_log(
        self, log: Iterable[str]
    ) -> tuple[list[tuple[Explanation, Mention | None]], int]:
        """
        Explain what a log names, as far as it concerns the vmemmap or a HugeTLB folio.

        :return: Explanations with where the log names them, and how many others it names.
        """
        found: list[tuple[Explanation, Mention | None]] = []
        others = 0
        for mention in mentions(log):
            name = f"pfn:{mention.value:#x}" if mention.is_pfn else f"{mention.value:#x}"
            address = None if mention.is_pfn else mention.value
            physical = mention.value << PAGE_SHIFT if mention.is_pfn else None
            what = What(name, address, physical)
            if mention.is_fault or mention.is_pfn or self._is_in_vmemmap(mention.value):
                explanation = self.explain(what)
                if explanation.concerns_hugetlb or explanation.place == _VMEMMAP:
                    found.append((explanation, mention))
                    continue
                others += 1
        return found, others

    def _is_in_vmemmap(self, address: int) -> bool:
        end = self._kernel.page_address(self._kernel.paging.max_pfn)
        return self._kernel.vmemmap <= address < end

    # Virtual addresses.

    def _virtual(self, what: What, address: int) -> Explanation:
        kernel = self._kernel
        if not x86_64.is_canonical(address, kernel.paging.levels):
            return Explanation(
                what, "no address at all: it is not canonical, and any use of it faults"
            )
        if not address >> 63:
            return Explanation(what, "an address of user space: whose it is depends on the process")
        explanation = Explanation(what, "an address of the kernel, not in the vmemmap")
        explanation.steps = list(self._walker.steps(address))
        explanation.entry = self._walker.entry(address)
        explanation.frame = explanation.entry.frame
        if self._is_in_vmemmap(address):
            return self._in_vmemmap(explanation, address)
        if kernel.direct_map is not None:
            physical = address - kernel.direct_map
            if 0 <= physical < kernel.paging.max_pfn << PAGE_SHIFT:
                explanation.place = "an address of the direct map"
                return self._physical(explanation, physical)
        if explanation.frame is not None:
            physical = (explanation.frame << PAGE_SHIFT) + address % PAGE_SIZE
            return self._physical(explanation, physical)
        return explanation

    def _in_vmemmap(self, explanation: Explanation, address: int) -> Explanation:
        kernel, entry = self._kernel, explanation.entry
        explanation.place = _VMEMMAP
        pfn, offset = divmod(address - kernel.vmemmap, kernel.page.size)
        page = explanation.page = self._struct_page(pfn, offset)
        assert entry is not None
        if entry.frame is not None and entry.problem is None:
            explanation.frame_state = self._state(entry.frame)
            explanation.seen_by = list(self._seen_by(entry.frame))
        explanation.read = _read(entry, page)
        explanation.write = _write(entry, page, explanation.seen_by)
        return explanation

    def _struct_page(self, pfn: int, offset: int) -> StructPage:
        kernel = self._kernel
        address = kernel.page_address(pfn)
        row = self._report.folios.folios.row_at(pfn)
        folio, index, role = None, None, ""
        if row is not None:
            folio = self._report.folios[row]
            head = kernel.page_address(folio.folio.pfn)
            index = (address + offset - head) >> PAGE_SHIFT
            role = "tail"
            if pfn == folio.folio.pfn:
                role = "head"
            elif address % PAGE_SIZE == 0 and folio.judgement.layout is Layout.HEAD_REUSE:
                shared = folio.judgement.shared
                if any(first <= index <= last for first, last in shared):
                    role = "fake head"
        members = kernel.page.names_at(offset)
        return StructPage(pfn, address, offset, members, folio, index, role)

    # Physical addresses.

    def _physical(self, explanation: Explanation, physical: int) -> Explanation:
        kernel = self._kernel
        pfn = physical >> PAGE_SHIFT
        explanation.frame = pfn
        if pfn >= kernel.paging.max_pfn:
            explanation.place += ", beyond memory"
            return explanation
        explanation.page = self._struct_page(pfn, 0)
        explanation.frame_state = self._state(pfn)
        explanation.seen_by = list(self._seen_by(pfn))
        return explanation

    # Frames.

    def _state(self, frame: int) -> str:
        """What a frame's own struct page says."""
        kernel = self._kernel
        block: Block | None = self._pages.free_block(frame)
        if block is not None:
            return f"free, in the buddy allocator's block of order {block.order} at {block.pfn:#x}"
        try:
            page = self._walker.read(kernel.page_address(frame), kernel.page.size)
        except MissingMemory:
            return "its struct page is not in the dump"
        count = kernel.page.value(page, "refcount")
        return f"in use, reference count {count}" if count else "without a reference"

    def _seen_by(self, frame: int) -> Iterator[str]:
        """The vmemmap pages that a frame is behind, in words."""
        for page in self._ownership.owners(frame):
            if page == ZONE:
                yield self._sharing_tails(frame)
                continue
            address = self._kernel.vmemmap + page * PAGE_SIZE
            pfn = page * PAGE_SIZE // self._kernel.page.size
            row = self._report.folios.folios.row_at(pfn)
            if row is None:
                last = ((page + 1) * PAGE_SIZE - 1) // self._kernel.page.size
                yield f"vmemmap at {address:#x}, of PFNs {pfn:#x} to {last:#x}"
                continue
            folio, judgement = self._report.folios[row]
            pages = {(address - self._kernel.page_address(folio.pfn)) // PAGE_SIZE}
            if judgement.reuse_frame == frame:
                pages.update(i for first, last in judgement.shared for i in range(first, last + 1))
            yield f"vmemmap pages {format_ranges(ranges(sorted(pages)))} of folio {folio.pfn:#x}"

    def _sharing_tails(self, frame: int) -> str:
        """How many folios share the frame that a zone keeps."""
        count = self._report.folios.reuse_frames.count(frame)
        return f"the tails of {count} folios of its zone"


def _read(entry: Entry, page: StructPage) -> str:
    if entry.problem is Problem.UNREADABLE:
        return "unknown: the page table is not in the dump"
    if entry.frame is None:
        return "faults: the kernel oopses"
    if entry.problem is not None:
        return "gets what is beyond memory: all ones, or a machine check"
    if page.role == "fake head":
        return "gets the head page's bytes; page_fixed_fake_head() leads from here to the head"
    if page.role == "tail" and _is_shared(page):
        return "gets a tail page that many share; compound_head() leads from here to the head"
    return "gets this struct page"


def _write(entry: Entry, page: StructPage, seen_by: list[str]) -> str:
    if entry.problem is Problem.UNREADABLE:
        return "unknown: the page table is not in the dump"
    if entry.frame is None:
        return "faults: the kernel oopses"
    if entry.problem is not None:
        return "goes beyond memory, and is lost"
    if not entry.access.writable:
        return (
            "faults: the page is read-only (error code 0x0003, permissions violation); the "
            "kernel oopses, and the task that writes is killed"
        )
    if _is_shared(page):
        return f"goes unnoticed, and changes what is seen by {'; '.join(seen_by)}"
    return "changes this struct page, as the kernel may"


def _is_shared(page: StructPage) -> bool:
    if page.folio is None or page.vmemmap_page is None:
        return False
    shared = page.folio.judgement.shared
    return any(first <= page.vmemmap_page <= last for first, last in shared)
