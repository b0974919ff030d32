# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What is run, each in a process of its own:
``python -m tests.bench.runners RUNNER TARGET EVERY FRESH``.

The time is that of the work alone: the dump is open, types are loaded, the kernel's facts are
known, and what is read is in the page cache. It is the processor's, which others on the machine
disturb least; of some times, the best one counts.
"""

from __future__ import annotations

import gc
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import drgn

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.verify import check
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.bench import plain
from tests.bench.targets import is_real, open_target, vmlinux
from tests.oracles.report import reference_folios

Result = dict[str, Any]

TIMES = 5
VTOP_SAMPLE = 20_000


def run_plain(directory: Path, every: int, fresh: Path | None) -> Result:
    """The plain script, on a sample of the folios if it would take too long."""
    prog = open_target(directory)
    discover(prog)
    symbol = prog.symbol("init_mm")
    init_mm = drgn.Object(prog, "struct mm_struct", address=symbol.address).address_of_()
    found: list[plain.Folio] = []

    def follow_lists() -> None:
        found[:] = plain.folios(prog)

    def follow_pages() -> None:
        for folio in found[::every]:
            plain.freed(init_mm, folio)

    lists, pages = _best(follow_lists, follow_pages)
    sample = len(found[::every])
    return {"seconds": lists + pages * len(found) / max(1, sample), "sample": sample}


def run_report(directory: Path, every: int, fresh: Path | None) -> Result:
    """
    The report, without its text; and its floor: what it reads, in the same pieces and order,
    with nothing done with it.
    """
    return _measure(directory, analyse, fresh)


def run_verify(directory: Path, every: int, fresh: Path | None) -> Result:
    """``verify``, likewise."""
    return _measure(directory, check, fresh)


def _measure(directory: Path, work: Callable[[Snapshot], Report], fresh: Path | None) -> Result:
    prog = open_target(directory)
    kernel = discover(prog)

    def once() -> Report:
        return work(Snapshot(kernel, ProgramMemory(prog)))

    before = _start_memory()
    report = once()
    result: Result = {
        "memory": _status("VmHWM") - before,
        "folios": len(report.folios),
        "vmemmap_pages": sum(h.vmemmap_pages * h.counts.folios for h in report.hstates),
    }
    del report
    recorder = _Recorder(prog)
    work(Snapshot(kernel, ProgramMemory(cast(drgn.Program, recorder))))

    def only_read() -> None:
        read = prog.read
        for address, size in zip(recorder.addresses, recorder.sizes):
            read(address, size, True)

    works: list[Callable[[], object]] = [once, only_read]
    if fresh is not None:
        # In turns with this one, as the speed of a machine changes.
        other = open_target(fresh)
        its_kernel = discover(other)
        works.append(lambda: work(Snapshot(its_kernel, ProgramMemory(other))))
    for name, seconds in zip(("seconds", "floor", "fresh"), _best(*works)):
        result[name] = seconds
    result["reads"] = len(recorder.sizes)
    result["mebibytes"] = sum(recorder.sizes) / (1 << 20)
    return result


class _Recorder:
    """Stands before a program, and remembers what could be read from it."""

    def __init__(self, prog: drgn.Program) -> None:
        self._prog = prog
        self.addresses, self.sizes = array("Q"), array("Q")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prog, name)

    def read(self, address: int, size: int, physical: bool) -> bytes:
        data: bytes = self._prog.read(address, size, physical)
        assert physical
        self.addresses.append(address)
        self.sizes.append(size)
        return data


def run_crash(directory: Path, every: int, fresh: Path | None) -> Result:
    """``crash``'s ``vtop`` on a sample of the folios' vmemmap pages, scaled to all of them."""
    if not is_real(directory):
        return {}
    symbols = vmlinux(directory)
    if symbols is None:
        return {"why": "the archive has no debuginfo"}
    if shutil.which("crash") is None:
        return {"why": "crash is not installed"}
    prog = open_target(directory)
    kernel = discover(prog)
    folios = analyse(Snapshot(kernel, ProgramMemory(prog))).folios.folios
    addresses = [
        kernel.geometry.address(folio.pfn) + index * plain.PAGE_SIZE
        for folio in folios
        for index in range(kernel.geometry.pages_of_order(folio.order))
    ]
    sample = addresses[:: max(1, len(addresses) // VTOP_SAMPLE)]
    offset = re.search(rb"^KERNELOFFSET=(\w+)$", prog["VMCOREINFO"].string_(), re.MULTILINE)
    # crash 8.0 cannot read so new a kernel's modules, nor find its image in a dump by QEMU.
    options = ["-s", "--no_modules", f"--kaslr=0x{offset[1].decode() if offset else '0'}"]
    command = ["crash", *options, str(symbols), str(directory / "vmcore")]
    moments = _vtop(command, sample)
    if len(moments) < len(sample):
        return {"why": "crash cannot read this kernel"}
    seconds = (moments[-1] - moments[0]) / (len(sample) - 1) * len(addresses)
    return {"seconds": seconds, "sample": len(sample)}


def _vtop(command: Sequence[str], addresses: Iterable[int]) -> list[float]:
    """How many seconds ``crash`` had worked when it answered for each address."""
    with tempfile.TemporaryFile("w+") as script:
        script.writelines(f"vtop -k {address:x}\n" for address in addresses)
        script.write("quit\n")
        script.seek(0)
        with subprocess.Popen(
            command, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as crash:
            assert crash.stdout is not None
            # Its processor time: as clock_getcpuclockid() names the clock.
            clock = ~crash.pid << 3 | 2
            return [time.clock_gettime(clock) for line in crash.stdout if line[:7] == "VIRTUAL"]


def run_reference(directory: Path, every: int, fresh: Path | None) -> Result:
    """Whether the reference report, made folio by folio, is the same."""
    prog = open_target(directory)
    kernel = discover(prog)
    fast = analyse(Snapshot(kernel, ProgramMemory(prog))).folios
    slow = reference_folios(prog, kernel)
    differing = [one for one, other in itertools.zip_longest(fast, slow) if one != other]
    return {"differing": len(differing), "first": str(differing[:1])}


RUNNERS = {
    "plain": run_plain,
    "report": run_report,
    "verify": run_verify,
    "crash": run_crash,
    "reference": run_reference,
}


def _best(*works: Callable[[], object]) -> list[float]:
    """Seconds of the best of some times of each, one after the other."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(TIMES):
        for work, of_work in zip(works, times):
            start = time.process_time()
            work()
            of_work.append(time.process_time() - start)
    return list(map(min, times))


def _start_memory() -> int:
    """Forget the peak of this process's memory so far; gives what it has now, in KiB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"\n{name}:")[2].split()[0])


if __name__ == "__main__":
    runner, directory, every, fresh = sys.argv[1:]
    of_fresh = Path(fresh) if fresh else None
    json.dump(RUNNERS[runner](Path(directory), int(every), of_fresh), sys.stdout)
