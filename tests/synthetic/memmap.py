# SPDX-License-Identifier: LGPL-2.1-or-later

"""The memmap of the synthetic image: its struct pages, and the frames that they are in."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import gcd

from drgn_vmemmap.hugetlb.folio import State
from tests.synthetic.kernels import HUGETLB_PAGE_DTOR, NO_TYPE, OPTIMIZED_BIT, ZONES, Mark, Struct
from tests.synthetic.model import Folio, Machine, Section
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE, PhysicalMemory

TAIL_MAPPING = 0xDEAD000000000400


class Memmap:
    """
    Struct pages in physical memory.

    They are written to the frames that back them, wherever HVO moved these; page tables are another
    matter.
    """

    def __init__(self, machine: Machine, memory: PhysicalMemory, page: Struct) -> None:
        self._machine = machine
        self._line = machine.line
        self._memory = memory
        self._page = page
        self._moved: dict[int, int] = {}
        """Frames of vmemmap pages that are not at their boot-time place, by number of the page."""
        self._boot = [
            (self.number(machine.node_pfns(node).start), self.boot_frames(node).start)
            for node in range(machine.nodes)
        ]
        """Number of each node's first vmemmap page, and the frame that backs it, as booted."""
        for node in range(machine.nodes):
            pfns = machine.node_pfns(node)
            zones = [pfn for pfn in (1 << 12, 1 << 20) if pfn in pfns[1:]]
            for start, stop in zip([pfns.start, *zones], [*zones, pfns.stop]):
                self._fill(range(start, stop), _refcount=1)
            self.reserve(self.boot_frames(node))

    def boot_frames(self, node: int) -> range:
        """The frames that back a node's vmemmap, as booted: at the end of the node."""
        pfns = self._machine.node_pfns(node)
        count = -(-len(pfns) * self._page.size // PAGE_SIZE)
        count += -count % 512
        return range(pfns.stop - count, pfns.stop)

    def number(self, pfn: int) -> int:
        """Number of the vmemmap page with the struct page of a PFN."""
        return pfn * self._page.size // PAGE_SIZE

    def boot_frame(self, number: int) -> int:
        """The frame that backs the n-th vmemmap page, as booted."""
        first, frame = self._boot[self._machine.node(number * PAGE_SIZE // self._page.size)]
        return frame + number - first

    def plug(self, pfns: range, section: Section) -> None:
        """Memory that is special: what its struct pages say, and those of what hosts them."""
        first, pages = self.number(pfns.start), len(pfns) * self._page.size // PAGE_SIZE
        if section is Section.DEVICE:
            self._fill(pfns, _refcount=1)
        if section in (Section.HOST, Section.OFFLINE_HOST):
            for index in range(pages):
                self.move(first + index, pfns[index])
        if section is Section.HOST:
            for pfn in pfns[:pages]:
                self.write(pfn, flags=self.flags(pfn, "PG_vmemmap_self_hosted"), _refcount=1)
        if section in (Section.OFFLINE, Section.OFFLINE_HOST):
            self.forget(pfns)

    def forget(self, pfns: range, content: bytes = bytes(PAGE_SIZE)) -> None:
        """Nobody has written these struct pages; the frames that back them hold anything."""
        first = self.number(pfns.start)
        for number in range(first, first + len(pfns) * self._page.size // PAGE_SIZE):
            frame = self._moved.get(number, self.boot_frame(number))
            self._memory.frames[frame] = content

    def map(self, number: int, frame: int) -> None:
        """Back the n-th vmemmap page with another frame."""
        self._moved[number] = frame

    def move(self, number: int, frame: int) -> None:
        """Move the n-th vmemmap page to another frame, with what is in it."""
        old = self._moved.get(number, self.boot_frame(number))
        self._memory.frames[frame] = bytes(self._memory.frames[old])
        self.map(number, frame)

    # Struct pages.

    def flags(self, pfn: int, *names: str) -> int:
        """``page->flags`` with the node and the zone in their bits."""
        node_shift = 64 - self._machine.nodes_shift
        zone_shift = node_shift - 3
        place = self._machine.node(pfn) << node_shift | self._machine.zone(pfn) << zone_shift
        return place | sum(1 << self._line.flags[name] for name in names)

    def write(self, pfn: int, **members: int) -> None:
        """Change members of a struct page."""
        for name, value in members.items():
            member = self._page.members[name]
            self._write(pfn, member.offset, value.to_bytes(member.size, "little"))

    def link(self, pfn: int, after: int, before: int) -> None:
        """Set both pointers of a struct page's ``lru``."""
        self._write(pfn, self._page.members["lru"].offset, struct.pack("<QQ", after, before))

    def reserve(self, pfns: range) -> None:
        """Boot-time memory."""
        self._fill(pfns, flags=1 << self._line.flags["PG_reserved"], _refcount=1)

    def allocate(self, pfn: int, type_name: str | None = None) -> None:
        """Memory in use; by the page tables, say."""
        page_type = self._line.page_type(type_name) if type_name else NO_TYPE
        self.write(pfn, flags=self.flags(pfn), page_type=page_type, _refcount=1)

    def free(self, pfns: Iterable[int]) -> None:
        """Give frames to the buddy allocator: only the first page of a block says so."""
        for start, order in _blocks(sorted(pfns)):
            pfns = range(start, start + (1 << order))
            self._write_alike(pfns, flags=self.flags(start), _refcount=0, private=0)
            self.write(start, page_type=self._line.page_type("buddy"), private=order)

    def write_folio(self, folio: Folio) -> None:
        """The struct pages of a HugeTLB folio, on no list yet."""
        line, pfn = self._line, folio.pfn
        self._fill(folio.pfns, **self._tail(folio))
        optimized = folio.remapped if folio.flag is None else folio.flag
        self.write(
            pfn,
            flags=self.flags(pfn, "PG_head"),
            private=1 << OPTIMIZED_BIT if optimized and line.has_hugetlb_flags else 0,
            mapping=0,
            page_type=line.page_type("hugetlb"),
            _refcount=int(folio.state is not State.FREE),
        )
        lru = self._machine.page_address(pfn) + self._page.members["lru"].offset
        self.link(pfn, lru, lru)
        if line.mark is Mark.DESTRUCTOR:
            self.write(pfn + 1, compound_dtor=HUGETLB_PAGE_DTOR, compound_order=folio.order)
        else:
            # The order is the lowest byte of the second page's flags.
            mark = 1 << line.flags["PG_active"] if line.mark is Mark.FLAG else 0
            self.write(pfn + 1, flags=self.flags(pfn) | mark | folio.order)

    def write_tail_frame(self, frame: int, folio: Folio) -> None:
        """A frame full of tails, for all folios like this one."""
        # All struct pages of a device's memory are reserved (vmemmap_shared_tail_page()).
        is_device = ZONES[self._machine.zone(folio.pfn)] == "ZONE_DEVICE"
        flags = self.flags(folio.pfn, *(["PG_reserved"] if is_device else []))
        tail = self._page.pack(**self._tail(folio), flags=flags)
        self._memory.fill([frame], tail * (PAGE_SIZE // len(tail)))
        self.allocate(frame)

    def _tail(self, folio: Folio) -> dict[str, int]:
        size = self._page.size
        head = self._machine.page_address(folio.pfn)
        if self._line.masks_heads and not size & (size - 1):
            # The same for every folio of this order.
            head = -1 << (folio.order + size.bit_length() - 1)
        link = {self._line.compound_member: head % (1 << 64) | 1}
        return {**link, "mapping": TAIL_MAPPING, "page_type": NO_TYPE}

    def _fill(self, pfns: range, flags: int = 0, **members: int) -> None:
        """Make all struct pages of a range alike; it begins and ends at a vmemmap page's edge."""
        members.setdefault("page_type", NO_TYPE)
        page = self._page.pack(flags=flags | self.flags(pfns.start), **members)
        # Struct pages may cross the pages' edges: then, so many pages repeat themselves.
        period = len(page) // gcd(len(page), PAGE_SIZE)
        pattern = page * (period * PAGE_SIZE // len(page))
        start = self.boot_frame(self.number(pfns.start))
        frames = range(start, start + len(pfns) * len(page) // PAGE_SIZE)
        for number in range(period):
            content = pattern[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
            self._memory.fill(frames[number::period], content)

    def _write_alike(self, pfns: range, **members: int) -> None:
        """Change members of the struct pages of a range: to the same in all of them."""
        size = self._page.size
        if size & (size - 1):
            for pfn in pfns:
                self.write(pfn, **members)
            return
        while pfns:
            number, start = divmod(pfns.start * size, PAGE_SIZE)
            count = min((PAGE_SIZE - start) // size, len(pfns))
            content = self._memory.writable(self._moved.get(number, self.boot_frame(number)))
            for name, value in members.items():
                member = self._page.members[name]
                words = memoryview(content).cast("Q" if member.size == 8 else "I")
                first, step = (start + member.offset) // member.size, size // member.size
                words[first : first + count * step : step] = array(words.format, [value]) * count
            pfns = pfns[count:]

    def _write(self, pfn: int, offset: int, data: bytes) -> None:
        offset += pfn * self._page.size
        while data:
            number, start = divmod(offset, PAGE_SIZE)
            part = data[: PAGE_SIZE - start]
            frame = self._moved.get(number, self.boot_frame(number))
            self._memory.write((frame << PAGE_SHIFT) + start, part)
            offset, data = offset + len(part), data[len(part) :]


def _blocks(pfns: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending PFNs as the largest naturally aligned blocks: start and order."""
    left = set(pfns)
    for pfn in pfns:
        if pfn not in left:
            continue
        order = 0
        while order < 10 and not pfn & ((2 << order) - 1):
            if not left.issuperset(range(pfn + (1 << order), pfn + (2 << order))):
                break
            order += 1
        left.difference_update(range(pfn, pfn + (1 << order)))
        yield pfn, order
