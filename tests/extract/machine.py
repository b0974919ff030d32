# SPDX-License-Identifier: LGPL-2.1-or-later

"""Machines made of recorded vmcores: what was not recorded is somebody's secret."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import drgn

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.vmcoreinfo import vmcoreinfo_text
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PHYSICAL_BITS
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.target.recorded_pages import marks_in
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.support import open_vmcore, vmcore

SECRET = random.Random(20_26).randbytes(64) * (PAGE_SIZE // 64)
"""A page of a user's. Each 64 bytes are alike, and all eight words of them are at random."""


class Recorded:
    """A recorded kernel, which machines share and none changes."""

    def __init__(self, name: str) -> None:
        self.program = open_vmcore(name)
        self._parts = marks_in(str(vmcore(name))).parts
        self.snapshot = Snapshot(discover(self.program), ProgramMemory(self.program))
        self.vmemmap = frozenset(self._frames_of_vmemmap())
        self._pages: dict[int, bytes] = {}
        self._parts_of_vmemmap: dict[tuple[int, int], bytes | None] = {}

    def _frames_of_vmemmap(self) -> Iterator[int]:
        geometry, walker = self.snapshot.geometry, self.snapshot.walker
        for run in walker.walk(geometry.base, geometry.end):
            if run.is_last_level or walker.first_frame(run) is not None:
                yield from (frame for frame in walker.frames(run) if frame is not None)

    def page(self, pfn: int) -> bytes:
        """A page, with the secret wherever it was not recorded."""
        if pfn not in self._pages:
            self._pages[pfn] = self._page(pfn)
        return self._pages[pfn]

    def vmemmap_at(self, address: int, size: int) -> bytes | None:
        """Some bytes of a frame that backs the vmemmap; nothing, if they were not recorded."""
        key = address, size
        if key not in self._parts_of_vmemmap:
            try:
                self._parts_of_vmemmap[key] = self.snapshot.memory.read(address, size)
            except MissingMemory:
                self._parts_of_vmemmap[key] = None
        return self._parts_of_vmemmap[key]

    def _page(self, pfn: int) -> bytes:
        try:
            data = self.program.read(pfn << PAGE_SHIFT, PAGE_SIZE, True)
        except drgn.FaultError:
            return SECRET
        page = bytearray(SECRET)
        for part in self._parts.get(pfn, (range(PAGE_SIZE),)):
            page[part.start : part.stop] = data[part.start : part.stop]
        return bytes(page)


of_vmcore = cache(Recorded)
"""The recorded kernel of a vmcore, by its name."""


class Machine:
    """
    The memory of a recorded kernel, with a secret wherever it was not recorded.

    Vmemmap that was not recorded is missing: no kernel has a user's page there.
    """

    def __init__(self, name: str) -> None:
        """
        :param name: Of the recorded vmcore.
        """
        self._kernel = of_vmcore(name)
        self.recorded = self._kernel.program
        self.snapshot = self._kernel.snapshot
        self.changed: dict[int, bytes] = {}
        """Pages by their PFN that are not as they were."""

        self._name_host()
        self._write_supported_bits()

    def _name_host(self) -> None:
        """Write the names of ``init_uts_ns``, which older vmcores do not have."""
        symbol = re.search(rb"^SYMBOL\(init_uts_ns\)=(\w+)$", self._vmcoreinfo(), re.MULTILINE)
        assert symbol
        address = int(symbol[1], 16)
        names = b"".join(name.ljust(65, b"\0") for name in (b"Linux", b"host")).ljust(146, b"\0")
        self._write(address, names)

    def _write_supported_bits(self) -> None:
        """Write ``__supported_pte_mask``, which older vmcores do not have, either."""
        self._write(self.recorded.symbol("__supported_pte_mask").address, b"\xff" * 8)

    def _write(self, address: int, data: bytes) -> None:
        """Write to the kernel's own data."""
        frame, start = self.snapshot.walker.entry(address).frame, address % PAGE_SIZE
        assert frame is not None
        page = bytearray(self.page(frame))
        page[start : start + len(data)] = data
        self.changed[frame] = bytes(page)

    def _vmcoreinfo(self) -> bytes:
        return vmcoreinfo_text(self.recorded)

    def program(self) -> drgn.Program:
        prog = drgn.Program(self.recorded.platform)
        prog.set_linux_kernel_custom(self._vmcoreinfo(), False)
        prog.add_memory_segment(0, 1 << PHYSICAL_BITS, self._read, True)
        return prog

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        pieces = []
        while count:
            start = address % PAGE_SIZE
            size = min(count, PAGE_SIZE - start)
            pieces.append(self._piece(address >> PAGE_SHIFT, start, size))
            address, count = address + size, count - size
        return b"".join(pieces)

    def _piece(self, pfn: int, start: int, size: int) -> bytes:
        if pfn in self._kernel.vmemmap and pfn not in self.changed:
            address = (pfn << PAGE_SHIFT) + start
            data = self._kernel.vmemmap_at(address, size)
            if data is None:
                raise drgn.FaultError("was not recorded", address)
            return data
        return self.page(pfn)[start : start + size]

    def page(self, pfn: int) -> bytes:
        return self.changed.get(pfn) or self._kernel.page(pfn)


def has_secret(path: Path) -> bool:
    """Whether any word of the secret is in a vmcore."""
    words = [SECRET[start : start + 8] for start in range(64)]
    # Each of them holds one of these, and there are fewer.
    pieces = [SECRET[start : start + 5] for start in range(0, 64, 4)]
    assert all(any(piece in word for piece in pieces) for word in words)
    return any(
        any(piece in data for piece in pieces) and any(word in data for word in words)
        for data in set(_contents(path))
    )


def _contents(path: Path) -> Iterator[bytes]:
    """The bytes of an ELF file, and the pages of a kdump-compressed one."""
    data = path.read_bytes()
    yield data
    if not data.startswith(b"KDUMP   "):
        return
    (blocks,) = struct.unpack_from("<I", data, 436)
    start = (2 + blocks) * PAGE_SIZE
    bitmap = data[(2 + blocks // 2) * PAGE_SIZE : start]
    count = bin(int.from_bytes(bitmap, "little")).count("1")
    for offset, size, flags in struct.iter_unpack("<QII8x", data[start : start + 24 * count]):
        page = data[offset : offset + size]
        yield zlib.decompress(page) if flags & 1 else page
