# SPDX-License-Identifier: LGPL-2.1-or-later

"""Sound kernels, real and synthetic, whose dumps lack frames; read as a user's dump is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache

import drgn

from drgn_vmemmap import discover, examine, verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.recorder import frames_of
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.vmcoreinfo import vmcoreinfo_text, with_line
from drgn_vmemmap.paging.x86_64 import PHYSICAL_BITS
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.edited import EditedMemory
from tests.support import open_vmcore
from tests.synthetic.debuginfo import add_debuginfo
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import (
    FIRST_FOLIO,
    GIB,
    OWN_W,
    SECTION_PAGES,
    Folio,
    Machine,
    Section,
)
from tests.synthetic.physical import PAGE_SHIFT

SIZES = (1, 1, 1, 2, 2, 3, 5, 8, 30)
"""How many frames of one kind are taken out."""


class PartialDump:
    """A sound kernel's dump, from which frames are taken out."""

    def __init__(self, name: str) -> None:
        """
        :param name: Of a recorded vmcore, or a synthetic kernel's release.
        """
        self._image = image(name) if name in LINES else None
        self._original = self._image.prog if self._image else open_vmcore(name)
        self._vmcoreinfo = vmcoreinfo_text(self._original)
        self.memory = EditedMemory(ProgramMemory(self._original))
        discover(self.program())
        self.page_of_sections = -1
        """The frame of the first page of sections."""
        symbols = set(self.memory.reads)
        prog = self.program()
        report = examine(prog)
        reported = self._frames_read()
        verify(self.program())
        self.only_verified = sorted(self._frames_read() - reported)
        """Frames that verification reads, and a report does not."""
        kinds: dict[str, set[int]] = {}
        for read in self.memory.reads:
            kind = "symbols and types" if read in symbols else f"{read[1]} bytes at a time"
            kinds.setdefault(kind, set()).update(frames_of(*read))
        kinds.update(self._by_meaning(report, ProgramMemory(prog)))
        self.heads = sorted(kinds["heads"])
        """Frames of the folios' head pages."""
        self.kinds = [sorted(frames) for frames in kinds.values() if frames]
        """Frames that an analysis reads, by what they hold or how they are read."""

    def program(self, *lines: tuple[str, str]) -> drgn.Program:
        """
        A program that reads what is left; it knows nothing yet.

        :param lines: What its VMCOREINFO has more, by key.
        """
        vmcoreinfo = self._vmcoreinfo
        for key, value in lines:
            vmcoreinfo = with_line(vmcoreinfo, key, value)
        prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
        prog.set_linux_kernel_custom(vmcoreinfo, False)
        prog.add_memory_segment(0, 1 << PHYSICAL_BITS, self._read, True)
        if self._image is not None:
            add_debuginfo(prog, self._image.types, self._image.variables)
        return prog

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return self.memory.read(address, count)
        except MissingMemory as error:
            raise drgn.FaultError("not in the dump", address) from error

    def _frames_read(self) -> set[int]:
        return {frame for read in self.memory.reads for frame in frames_of(*read)}

    def _by_meaning(self, report: Report, memory: ProgramMemory) -> Iterator[tuple[str, set[int]]]:
        kernel = report.kernel
        snapshot = Snapshot(kernel, memory)
        walker = snapshot.walker

        def frame_of(address: int) -> int:
            frame = walker.entry(address).frame
            assert frame is not None
            return frame

        sections = kernel.sections
        first_root = int.from_bytes(snapshot.read(sections.roots, 8), "little")
        end = kernel.hstates + kernel.hstate_count * kernel.hstate.size
        self.page_of_sections = frame_of(first_root)
        yield "sections", {frame_of(sections.roots), self.page_of_sections}
        yield "hstates", {frame_of(address) for address in range(kernel.hstates & -4096, end, 4096)}
        zones = (address + kernel.zone.offset("vmemmap_tails") for address in kernel.zones.values())
        yield "zones", set(map(frame_of, zones))
        geometry = snapshot.geometry
        heads = (geometry.address(folio.pfn) for folio, _ in report.folios)
        yield "heads", set(map(frame_of, heads))
        addresses = map(geometry.address, range(0, kernel.paging.max_pfn, SECTION_PAGES))
        tables = (table for address in addresses for table in walker.tables(address))
        yield "tables", {table >> PAGE_SHIFT for table in tables}

    def lose(self, source: random.Random) -> None:
        """Take frames out of the dump."""
        self.memory.missing = chosen(self.kinds, source)


def chosen(kinds: Sequence[Sequence[int]], source: random.Random) -> set[int]:
    """
    Frames to take out of a dump: single ones, a stretch of memory, all of a kind, or the end of it.

    :param kinds: PFNs of frames that an analysis reads, those of one kind together, ascending.
    """
    frames = sorted(set().union(*kinds))
    draw = source.random()
    if draw < 0.1:
        return set(frames[source.randrange(len(frames)) :])
    if draw < 0.2:
        start = source.randrange(len(frames))
        return set(frames[start : start + source.choice((3, 20, 100, 400))])
    if draw < 0.25:
        return set(source.choice(kinds))
    missing: set[int] = set()
    for _ in range(source.choice((1, 1, 2, 3))):
        kind = source.choice(kinds)
        missing.update(source.sample(kind, min(source.choice(SIZES), len(kind))))
    return missing


def image(release: str) -> Image:
    """A machine with something of everything that its kernel can have."""
    line = LINES[release]
    has_hvo = line.layout is not Layout.NONE
    giant = GIB >> PAGE_SHIFT
    folios = [
        *(Folio(FIRST_FOLIO + 512 * number, remapped=has_hvo) for number in range(4)),
        Folio(FIRST_FOLIO + 512 * 4, remapped=False),
        Folio(FIRST_FOLIO + 512 * 5, remapped=has_hvo, state=State.ACTIVE),
        Folio(FIRST_FOLIO + 512 * 6, remapped=has_hvo, state=State.OFF_LIST),
        # In flight.
        Folio(
            FIRST_FOLIO + 512 * 7,
            remapped=has_hvo,
            state=State.OFF_LIST,
            edits={6: OWN_W, 7: OWN_W},
            counted=False,
        ),
        Folio(giant, 18, remapped=has_hvo),
        Folio(4 * giant, 18, remapped=has_hvo, state=State.ACTIVE),
        Folio(3 * giant + FIRST_FOLIO, remapped=has_hvo),
    ]
    sections = {5: Section.DEVICE, 6: Section.OFFLINE}
    if line.hosts_memmap:
        sections |= {7: Section.HOST, 4: Section.OFFLINE_HOST}
    assert all(folio.pfn // SECTION_PAGES not in sections for folio in folios)
    machine = Machine(
        line=line, nodes=2, node_size=3 * GIB, folios=tuple(folios), sections=sections
    )
    return Image(machine)


@cache
def partial(name: str) -> PartialDump:
    return PartialDump(name)
