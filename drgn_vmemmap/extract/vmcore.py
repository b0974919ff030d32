# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The smallest vmcore that gives the same report.

The analysis runs once on a program whose physical memory is the target's, seen
through a recorder; what it read, to the byte, is written, and nothing else.
The file is then opened and analysed, and kept only if its report is the same.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import drgn

from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.analysis.live import Target
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.api import is_there, verify
from drgn_vmemmap.errors import CannotAnalyse, MissingMemory
from drgn_vmemmap.files import whole_file
from drgn_vmemmap.kernel.discovery import discover, vmcoreinfo_text
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.origin import read_origin
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PHYSICAL_BITS
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.target.memory import Memory, ProgramMemory
from drgn_vmemmap.target.program import open_dump
from drgn_vmemmap.vmemmap.snapshot import Snapshot

# The ELF header counts program headers in 16 bits; one is the note's.
_SEGMENTS_LIMIT = 0xFFFF - 1

# Where struct disk_dump_header and struct kdump_sub_header have these members.
_KDUMP_NODE_NAME, _KDUMP_NODE_NAME_SIZE = 77, 65
_KDUMP_BITMAP_BLOCKS = 436
_KDUMP_PHYS_BASE = 4096


class Recorder(Memory):
    """Physical memory that remembers what was read of it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._reads: dict[tuple[int, int], bytes | None] = {}
        self._by_frame: dict[int, list[tuple[int, int]]] = {}
        """What was read of each frame."""

    def read(self, address: int, size: int) -> bytes:
        """
        Read, and remember. Each byte is as it was when it was read first, even on a live kernel.

        :raises MissingMemory: as the memory behind it does.
        """
        key = (address, size)
        if key not in self._reads:
            try:
                self._reads[key] = self._as_before(key, self._memory.read(address, size))
            except MissingMemory:
                self._reads[key] = None
        data = self._reads[key]
        if data is None:
            raise MissingMemory(f"physical address {address:#x}")
        return data

    def _as_before(self, key: tuple[int, int], data: bytes) -> bytes:
        """What is read now, with what was read before in its place."""
        start, size = key
        for frame in range(start >> PAGE_SHIFT, (start + size - 1 >> PAGE_SHIFT) + 1):
            others = self._by_frame.setdefault(frame, [])
            for other in others:
                first, last = max(start, other[0]), min(start + size, sum(other))
                before = self._reads[other]
                if first < last and before is not None:
                    same = before[first - other[0] : last - other[0]]
                    data = data[: first - start] + same + data[last - start :]
            others.append(key)
        return data

    def add(self, other: Recorder) -> None:
        """Remember what another one does, but for the bytes that this one has read itself."""
        for key, data in other.reads().items():
            if key not in self._reads:
                self._reads[key] = self._as_before(key, data)

    def reads(self) -> Mapping[tuple[int, int], bytes]:
        """All that could be read so far, by physical address and size in bytes."""
        return {key: data for key, data in self._reads.items() if data is not None}


def extract(
    prog: drgn.Program, path: str, compress: bool, system_map: str | None = None
) -> Counter[str]:
    """
    Write the smallest vmcore that gives the same report.

    :param path: The file to write; it must not exist.
    :param compress: Write a kdump-compressed file instead of an ELF one.
    :param system_map: See :func:`discover()`.
    :return: What was taken, in bytes by kind.
    :raises CannotAnalyse: if it cannot be done, or the report would not be the same.
    :raises OSError: if the file cannot be written.
    """
    if os.path.exists(path):
        raise CannotAnalyse(f"{path} exists: give another name")
    recording = Recording(prog, system_map)
    report = recording.analyse()
    if not prog.flags & drgn.ProgramFlags.IS_LIVE:
        _compare(report, verify(prog, system_map=system_map), "a recorded look at this dump")
    return recording.write(path, compress)


class Recording:
    """Takes looks at a kernel, of which the last one can be written as a vmcore."""

    def __init__(self, prog: drgn.Program, system_map: str | None = None) -> None:
        """
        :raises CannotAnalyse: if this target cannot be analysed, or this drgn cannot record.
        """
        self._system_map = system_map
        self._vmcoreinfo = vmcoreinfo_text(prog)
        self._prog = prog
        self._recorder = self._symbols = Recorder(ProgramMemory(prog))
        self._recorded = _recorded(prog, lambda: self._recorder, self._vmcoreinfo)
        self.kernel = discover(self._recorded, system_map)

    def analyse(self, progress: Progress = SILENT) -> Report:
        """Take a fresh look, with all checks."""
        self._recorder = Recorder(ProgramMemory(self._prog))
        # What can be switched, and how much memory there is, may be different each time.
        self.kernel = discover(self._recorded, self._system_map)
        self._before = set(self._recorder.reads())
        snapshot = Snapshot(self.kernel, self._recorder)
        self._walker = snapshot.walker
        origin = read_origin(self._prog, snapshot.read)
        self._report = replace(check(snapshot, progress), origin=origin)
        return self._report

    def target(self, progress: Progress = SILENT) -> Target:
        """
        The kernel as what can be looked at again and again, if it is live.

        :param progress: Ends a pass.
        """
        return Target(lambda: self.analyse(progress), lambda: is_there(self._prog, self.kernel))

    def write(self, path: str, compress: bool) -> Counter[str]:
        """
        Write what the last look saw.

        :param path: The file to write; it must not exist.
        :return: What was taken, in bytes by kind.
        :raises CannotAnalyse: if it would not give the same report.
        :raises OSError: if the file cannot be written.
        """
        self._recorder.add(self._symbols)
        _write(path, compress, self._vmcoreinfo, self._recorder, self._report, self._system_map)
        before = self._before | set(self._symbols.reads())
        taken = _by_kind(self._recorder, before, self._walker, self.kernel)
        taken["VMCOREINFO"] = len(self._vmcoreinfo)
        return taken


def _recorded(
    prog: drgn.Program, recorder: Callable[[], Recorder], vmcoreinfo: bytes
) -> drgn.Program:
    """
    The same kernel, without debugging symbols.

    :param recorder: What reads its memory at this moment.
    """
    recorded = drgn.Program(prog.platform)
    try:
        recorded.set_linux_kernel_custom(vmcoreinfo, False)
    except AttributeError:
        # drgn commit aae2a3b8 ("libdrgn: Add set_linux_kernel_custom()") (in v0.1.0)
        raise CannotAnalyse("extract needs drgn 0.1.0 or newer") from None

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return recorder().read(address, count)
        except MissingMemory as error:
            raise drgn.FaultError(str(error), address) from None

    recorded.add_memory_segment(0, 1 << PHYSICAL_BITS, read, True)
    return recorded


def _write(
    path: str,
    compress: bool,
    vmcoreinfo: bytes,
    recorder: Recorder,
    report: Report,
    system_map: str | None,
) -> None:
    """Write the file, whole and looked at, or not at all."""
    segments = list(_segments(recorder.reads(), PAGE_SIZE if compress else 1))
    if not compress and len(segments) > _SEGMENTS_LIMIT:
        raise CannotAnalyse(f"{len(segments)} pieces are too many for an ELF file: use --compress")
    with whole_file(path, must_be_new=True) as file:
        if compress:
            _write_kdump(
                Path(file.name),
                vmcoreinfo,
                segments,
                report.kernel.release,
                report.origin.host or "",
            )
        else:
            _write_elf(Path(file.name), vmcoreinfo, segments)
        try:
            copy = open_dump(file.name, path)
        except CannotAnalyse as error:
            raise CannotAnalyse(f"nothing written: {error}") from error
        _compare(report, verify(copy, system_map=system_map), "the file written")


def _segments(
    reads: Mapping[tuple[int, int], bytes], alignment: int
) -> Iterator[tuple[int, bytes]]:
    """Pieces of memory that touch or overlap, put together; what was not read is zero."""
    start, piece = 0, bytearray()
    for (address, size), data in sorted(reads.items()):
        first = address // alignment * alignment
        end = -(-(address + size) // alignment) * alignment
        if piece and first > start + len(piece):
            yield start, bytes(piece)
            piece = bytearray()
        if not piece:
            start = first
        piece.extend(bytes(max(0, end - start - len(piece))))
        piece[address - start : address - start + size] = data
    if piece:
        yield start, bytes(piece)


def _write_elf(path: Path, vmcoreinfo: bytes, segments: list[tuple[int, bytes]]) -> None:
    try:
        from kdumpling import KdumpBuilder
    except ImportError:
        raise _without_kdumpling() from None
    builder = KdumpBuilder(arch="x86_64")
    builder.set_vmcoreinfo(vmcoreinfo)
    for address, data in segments:
        builder.add_memory_segment(address, data, virt_addr=0)
    builder.write(str(path))


def _write_kdump(
    path: Path, vmcoreinfo: bytes, segments: list[tuple[int, bytes]], release: str, host: str
) -> None:
    try:
        from kdumpling.builder import MemorySegment
        from kdumpling.elf import ARCHITECTURES
        from kdumpling.kdump_compressed import (
            CompressionMethod,
            DumpLevel,
            write_kdump_compressed,
        )
    except ImportError:
        raise _without_kdumpling() from None
    # Pages of zeros have been read, too, and must not be left out.
    write_kdump_compressed(
        str(path),
        [MemorySegment(address, data) for address, data in segments],
        vmcoreinfo,
        _note(vmcoreinfo),
        ARCHITECTURES["x86_64"],
        CompressionMethod.COMPRESS_ZLIB,
        DumpLevel.DL_NONE,
        compression_level=9,
        osrelease=release,
    )
    _correct_header(path, vmcoreinfo, segments, host)


def _without_kdumpling() -> CannotAnalyse:
    return CannotAnalyse("extract needs kdumpling 0.4.0: pip install kdumpling==0.4.0")


def _correct_header(
    path: Path, vmcoreinfo: bytes, segments: list[tuple[int, bytes]], host: str
) -> None:
    """
    Set the header fields that kdumpling 0.4.0 gets wrong.

    ``bitmap_blocks`` counts both bitmaps, and ``phys_base`` is the kernel's;
    makedumpfile writes them so, and libkdumpfile relies on it. ``nodename`` is the host's.
    """
    last, data = segments[-1]
    bitmap_blocks = -(-(-(-(last + len(data)) // PAGE_SIZE) // 8) // PAGE_SIZE)
    phys_base = re.search(rb"^NUMBER\(phys_base\)=(-?\d+)$", vmcoreinfo, re.MULTILINE)
    node_name = host.encode()[: _KDUMP_NODE_NAME_SIZE - 1].ljust(_KDUMP_NODE_NAME_SIZE, b"\0")
    with open(path, "r+b") as file:
        file.seek(_KDUMP_NODE_NAME)
        file.write(node_name)
        file.seek(_KDUMP_BITMAP_BLOCKS)
        file.write(struct.pack("<I", 2 * bitmap_blocks))
        file.seek(_KDUMP_PHYS_BASE)
        file.write(struct.pack("<q", int(phys_base[1]) if phys_base else 0))


def _note(vmcoreinfo: bytes) -> bytes:
    """VMCOREINFO as an ELF note: name and description each padded to 4 bytes."""
    name = b"VMCOREINFO\0"
    header = struct.pack("<3I", len(name), len(vmcoreinfo), 0)
    return header + name.ljust(12, b"\0") + vmcoreinfo.ljust(-(-len(vmcoreinfo) // 4) * 4, b"\0")


def _compare(report: Report, other: Report, what: str) -> None:
    if _comparable(report) != _comparable(other):
        raise CannotAnalyse(f"nothing written: {what} gives another report; please report this bug")


def _comparable(report: Report) -> dict[str, Any]:
    """A report without what a recording cannot have: file, being live, debugging symbols."""
    result = document(report, folios=True)
    del result["target"]["file"]
    del result["kernel"]["live"], result["kernel"]["types_from"], result["movement"]
    return result


def _by_kind(
    recorder: Recorder, before: set[tuple[int, int]], walker: Walker, kernel: Kernel
) -> Counter[str]:
    taken: Counter[str] = Counter()
    for address, size in recorder.reads():
        if (address, size) in before:
            kind = "symbols, types and variables"
        elif walker.has_read_table(address):
            kind = "page tables"
        elif size == 2 * kernel.page.size:
            kind = "head pages"
        else:
            kind = "hstates, sections, zones, and struct pages of frames"
        taken[kind] += size
    return taken
