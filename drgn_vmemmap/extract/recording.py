# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The smallest vmcore that gives the same report.

The analysis runs once on a program whose physical memory is the target's, seen through a
recorder. Exactly the bytes that it read are written, except user data.
The file is then opened and analysed, and kept only if its report is the same.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Callable, NamedTuple

import drgn

from drgn_vmemmap.analysis.live import Target, confirm
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.api import presence, verify
from drgn_vmemmap.errors import CannotAnalyse, MissingMemory
from drgn_vmemmap.extract.comparison import check_findings, check_same
from drgn_vmemmap.extract.content import Content, nodes_of
from drgn_vmemmap.extract.filter import Filter, Filtered, LogMemory, Withheld
from drgn_vmemmap.extract.owners import FrameOwners, check_marks
from drgn_vmemmap.extract.recorder import Recorder, frames_of
from drgn_vmemmap.extract.vmcore import check_writer, joined, write_elf, write_kdump
from drgn_vmemmap.files import atomic_file
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.origin import read_origin
from drgn_vmemmap.kernel.vmcoreinfo import CONFIRMED, vmcoreinfo_text, with_line
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PHYSICAL_BITS
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.rules.confirmed import counting, recorded
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.target.btf_kinds import BtfError
from drgn_vmemmap.target.kallsyms_names import KallsymsError
from drgn_vmemmap.target.kernel_log import read_kernel_log, text_memory
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.target.page_reader import by_page
from drgn_vmemmap.target.program import open_dump
from drgn_vmemmap.target.symbols import open_kallsyms
from drgn_vmemmap.target.types import btf_span
from drgn_vmemmap.vmemmap.snapshot import Snapshot


def extract(
    prog: drgn.Program,
    path: str,
    compress: bool,
    system_map: str | None = None,
    log: bool = False,
) -> Written:
    """
    Write the smallest vmcore that gives the same report.

    :param path: The file to write; it must not exist.
    :param compress: Write a kdump-compressed file instead of an ELF one.
    :param system_map: See :func:`discover()`.
    :param log: Write the kernel's log too.
    :raises CannotAnalyse: if it cannot be done, or the report would not be the same.
    :raises OSError: if the file cannot be written.
    """
    if os.path.exists(path):
        raise CannotAnalyse(f"{path} exists: give another name")
    recording = Recording(prog, system_map, log)
    if prog.flags & drgn.ProgramFlags.IS_LIVE:
        return recording.write(path, compress, confirm(recording.target()).findings)
    report = recording.analyse()
    check_same(report, verify(prog, system_map=system_map), "a recorded pass over this dump")
    return recording.write(path, compress)


class Written(NamedTuple):
    """The contents of an extract."""

    taken: Counter[str]
    """Bytes that were read, by kind."""
    withheld: list[Withheld]
    """Memory that was read, and not written."""
    problem: str | None = None
    """Why the kernel's log is not in it, or not all of it, in words."""


class _Pass(NamedTuple):
    """A pass over a kernel."""

    report: Report
    walker: Walker
    """The walker that read the page tables."""
    discovered: Set[tuple[int, int]]
    """The reads that found out what kernel this is, by physical address and size in bytes."""


class Recording:
    """Takes passes over a kernel, of which the last one can be written as a vmcore."""

    def __init__(
        self, prog: drgn.Program, system_map: str | None = None, log: bool = False
    ) -> None:
        """
        :param log: Record the kernel's log too.
        :raises CannotAnalyse: if this target cannot be analysed, or this drgn cannot record.
        """
        check_writer()
        self._system_map = system_map
        self._vmcoreinfo = vmcoreinfo_text(prog)
        self._prog = prog
        self._recorder = self._symbols = Recorder(ProgramMemory(prog))
        self._recorded = _recorded(prog, lambda: self._recorder, self._vmcoreinfo)
        self._pass: _Pass
        """The last pass."""
        check_marks(discover(self._recorded, system_map))
        self._record_kallsyms()
        self._record_btf()
        before = set(self._symbols.reads())
        self._problem = read_kernel_log(self._recorded).problem if log else None
        self._log_reads = self._symbols.reads().keys() - before if log else None

    def _record_kallsyms(self) -> None:
        """Read all of the tables, so that drgn's own helper can read them in the extract, too."""
        with contextlib.suppress(KallsymsError):
            for address, size in open_kallsyms(self._recorded).spans():
                with contextlib.suppress(drgn.FaultError):
                    self._recorded.read(address, size)

    def _record_btf(self) -> None:
        """Read all types, so that the extract has those that only another release looks for."""
        with contextlib.suppress(BtfError, drgn.FaultError):
            self._recorded.read(*btf_span(self._recorded))

    def analyse(self, progress: Progress = SILENT) -> Report:
        """Take a fresh pass, with all checks."""
        self._recorder = Recorder(ProgramMemory(self._prog))
        # HVO's switch and the size of memory may change between passes.
        kernel = discover(self._recorded, self._system_map)
        discovered = self._recorder.reads().keys()
        snapshot = Snapshot(kernel, self._recorder)
        origin = read_origin(self._prog, snapshot.read)
        report = replace(check(snapshot, progress), origin=origin)
        self._pass = _Pass(report, snapshot.walker, discovered)
        return report

    def target(self, progress: Progress = SILENT) -> Target:
        """
        The kernel, to be analysed again and again, if it is live.

        :param progress: May end a pass early.
        """
        # Memory that is read only to find out what kernel this is, is not recorded.
        kernel = discover(self._prog, self._system_map)
        return Target(lambda: self.analyse(progress), presence(self._prog, kernel))

    def write(
        self, path: str, compress: bool, confirmed: Iterable[Finding] | None = None
    ) -> Written:
        """
        Write what the last pass saw.

        :param path: The file to write; it must not exist.
        :param confirmed: Of a running kernel, the findings that other passes confirmed.
        :raises CannotAnalyse: if it would not give the same report.
        :raises OSError: if the file cannot be written.
        """
        self._recorder.add(self._symbols)
        vmcoreinfo = self._vmcoreinfo
        if confirmed is not None:
            vmcoreinfo = with_line(vmcoreinfo, CONFIRMED, recorded(confirmed))
        filtered = self._filter().apply(joined(self._recorder.reads()))
        self._write(path, compress, filtered, vmcoreinfo)
        taken = _by_kind(self._recorder, self._pass, self._symbols)
        taken["VMCOREINFO"] = len(vmcoreinfo)
        return Written(taken, filtered.withheld, self._problem)

    def _filter(self) -> Filter:
        snapshot = Snapshot(self._pass.report.kernel, ProgramMemory(self._prog))
        owners = FrameOwners(snapshot)
        content = Content(snapshot.kernel, nodes_of(snapshot, self._pass.report.sections))
        vmemmap = dict(self._frames_of_vmemmap(snapshot))
        log = self._log_memory(snapshot)
        return Filter(snapshot, owners, content, self._tables(), vmemmap, log)

    def _log_memory(self, snapshot: Snapshot) -> LogMemory:
        """Where the kernel's log is: what was read for it, or what must not be written."""
        if self._log_reads is not None:
            return LogMemory(set().union(*starmap(frames_of, self._log_reads)), {})
        text = defaultdict[int, set[range]](set)
        for addresses in self._log_text():
            for number, offsets in by_page(addresses.start, len(addresses)):
                frame = snapshot.walker.entry(number << PAGE_SHIFT).frame
                if frame is not None:
                    start = frame << PAGE_SHIFT
                    text[frame].add(range(start + offsets.start, start + offsets.stop))
        return LogMemory((), text)

    def _log_text(self) -> list[range]:
        """Virtual addresses of the log's text; what is read to find them is not recorded."""
        recorder, self._recorder = self._recorder, Recorder(ProgramMemory(self._prog))
        try:
            return text_memory(self._recorded)
        finally:
            self._recorder = recorder

    def _tables(self) -> set[int]:
        """PFNs of the frames that were read as page tables."""
        page_shift = self._pass.report.kernel.geometry.page_shift
        frames = {address >> page_shift for address, _ in self._recorder.reads()}
        return {frame for frame in frames if self._pass.walker.has_read_table(frame << page_shift)}

    def _frames_of_vmemmap(self, snapshot: Snapshot) -> Iterator[tuple[int, int]]:
        """
        The frames that back the vmemmap, and those that a zone keeps as tails.

        :return: PFN of each, and how many bytes are before the first struct page that begins in it.
        """
        geometry = snapshot.geometry
        yield from ((frame, 0) for frame in self._pass.report.tail_frames)
        for section in self._pass.report.sections:
            addresses = geometry.addresses(section.pfns)
            start = addresses.start & -geometry.page_size
            end = addresses.stop + -addresses.stop % geometry.page_size
            for run in snapshot.walker.walk(start, end):
                for number, frame in enumerate(snapshot.walker.frames(run)):
                    if frame is not None:
                        before = geometry.base - run.start - number * geometry.page_size
                        yield frame, before % geometry.struct_size

    def _write(self, path: str, compress: bool, filtered: Filtered, vmcoreinfo: bytes) -> None:
        """Write the file, complete and verified, or not at all."""
        pieces, report = joined(filtered.reads), self._pass.report
        with atomic_file(path, must_be_new=True) as file:
            written = Path(file.name)
            if compress:
                host = report.origin.host or ""
                write_kdump(written, vmcoreinfo, pieces, report.kernel.release, host)
            else:
                write_elf(written, vmcoreinfo, pieces)
            try:
                copy = verify(open_dump(file.name, path), system_map=self._system_map)
            except CannotAnalyse as error:
                raise CannotAnalyse(f"nothing written: {error}") from error
            found = counting(copy.kernel, report.findings)
            report = replace(report, findings=[*found])
            if filtered.withheld:
                check_findings(report, copy)
            else:
                check_same(report, copy, "the extract")


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
            return recorder().read_data(address, count)
        except MissingMemory as error:
            raise drgn.FaultError(str(error), address) from None

    recorded.add_memory_segment(0, 1 << PHYSICAL_BITS, read, True)
    return recorded


def _by_kind(recorder: Recorder, pass_: _Pass, symbols: Recorder) -> Counter[str]:
    """How many bytes were read, by kind; each counts once."""
    before = pass_.discovered | symbols.reads().keys()
    taken: Counter[str] = Counter()
    end = 0
    for address, size in sorted(recorder.reads()):
        if (address, size) in before:
            kind = "symbols, types and variables"
        elif pass_.walker.has_read_table(address):
            kind = "page tables"
        elif size == 2 * pass_.report.kernel.page.size:
            kind = "head pages"
        else:
            kind = "hstates, sections, zones, and struct pages of frames"
        taken[kind] += max(0, address + size - max(address, end))
        end = max(end, address + size)
    return taken
