# SPDX-License-Identifier: LGPL-2.1-or-later
"""One guest under QEMU: started, listened to, dumped and ended, everything within a deadline."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from vmcores.recipe import elf, initramfs, memoryfile, sparse
from vmcores.recipe.debugger import Debugger
from vmcores.recipe.errors import GuestError
from vmcores.recipe.kernels import Kernel
from vmcores.recipe.qmp import Qmp
from vmcores.recipe.scenarios import Scenario
from vmcores.recipe.tools import need

#: What every guest boots with. A guest that need not clear each page it hands out leaves more of
#: its memory, and so of the dump, untouched. A timer that comes late because the host is busy is
#: no reason to panic.
COMMAND_LINE = "console=ttyS0 panic=-1 init_on_alloc=0 no_timer_check"

#: Seconds that one QMP command may take; writing a dump is the longest.
QMP_TIMEOUT = 600.0

_POLL = 0.05  # seconds

#: What the guest said: key -> values, in the order in which it said them.
Words = dict[str, list[str]]


class Guest:
    """
    A running guest. Use it in a with statement: at its end QEMU is gone, whatever happened.

    ``debug_socket`` is a second QMP socket that nobody here connects to: for ``drgn --qemu``.
    """

    def __init__(self, kernel: Kernel, scenario: Scenario, console: Path) -> None:
        """
        Boot.

        :param console: file to write what the guest prints on its console to
        """
        self.scenario = scenario
        self.console = console
        # A UNIX socket's path must be short, so not where the caller wants the results.
        self._scratch = Path(tempfile.mkdtemp(prefix="vmcore-"))
        self.debug_socket = self._scratch / "debug"
        self._report = self._scratch / "report"
        self._memory = self._scratch / "memory"
        self._qmp: Qmp | None = None
        self._deadline = time.monotonic() + scenario.deadline
        try:
            self._process = self._start(kernel)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        if self._qmp:
            self._qmp.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def qmp(self) -> Qmp:
        """The connection for commands, made when it is first used."""
        if self._qmp is None:
            socket = self._scratch / "qmp"
            self._wait(socket.exists, "QEMU to listen")
            self._qmp = Qmp(socket, QMP_TIMEOUT)
        return self._qmp

    def words(self) -> Words:
        """Return all that the guest said so far."""
        said: Words = {}
        text = self._report.read_text(errors="replace") if self._report.exists() else ""
        for line in text.splitlines(keepends=True):
            key, _, value = line.partition("\t")
            if line.endswith("\n"):
                said.setdefault(key, []).append(value.strip())
        return said

    def wait_for(self, key: str, count: int = 1) -> Words:
        """
        Wait until the guest has said ``key`` ``count`` times.

        :returns: all that it said
        :raises GuestError: it failed, ended, or the scenario's deadline passed before
        """
        self._wait(lambda: len(self.words().get(key, ())) >= count, f"the guest to say {key}")
        return self.words()

    def wait(self) -> None:
        """Wait until QEMU has ended, of itself or by somebody's hand."""
        self._process.wait()

    def debugger(self) -> Debugger:
        """Stop the guest and take hold of it with a debugger, for a with statement."""
        self.qmp.execute("stop")
        return Debugger(self._scratch / "gdb", QMP_TIMEOUT)

    def dump(self, output: Path) -> None:
        """Write the guest's physical memory, as it is now, as an ELF vmcore with holes."""
        if not self.scenario.memory_file:
            self.dump_by_qemu(output)
            return
        running = self.qmp.execute("query-status")["running"]
        self.qmp.execute("stop")
        self.dump_by_qemu(output, begin=0, length=4096)  # for its notes
        with open(output, "rb") as file:
            notes = elf.raw_notes(file)
        memoryfile.write_vmcore(output, self._memory, notes)
        if running:
            self.qmp.execute("cont")

    def dump_by_qemu(self, output: Path, **part: int) -> None:
        """Do as dump(), but always by QEMU's own command; ``part`` are arguments of it."""
        pipe = self._scratch / "dump"
        os.mkfifo(pipe)
        taken: list[int] = []
        taker = threading.Thread(target=lambda: taken.append(_take(pipe, output)), daemon=True)
        taker.start()
        self.qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{pipe}", **part)
        taker.join(QMP_TIMEOUT)
        if not taken:
            raise GuestError(f"the dump could not be written to {output}")
        pipe.unlink()

    def crash(self, directory: Path) -> list[Path]:
        """
        Make the guest panic, and collect what its crash kernel writes.

        :param directory: where to put the scenario's dumps
        """
        self.qmp.execute("inject-nmi")
        self.wait_for("dumped", len(self.scenario.disks))
        dumps = []
        for name in self.scenario.disks:
            dumps.append(directory / name)
            with open(self._scratch / name, "rb") as source, open(dumps[-1], "wb") as target:
                sparse.copy(source, target)
        return dumps

    def mappings(self) -> str:
        """
        Return QEMU's own reading of the kernel's page tables.

        One line per leaf: virtual address, physical address, flags (``W`` if writable).
        """
        running = self.qmp.execute("query-status")["running"]
        if running:
            # QEMU reads the tables in use. With page table isolation, those of a process lack most
            # of the kernel's entries.
            self._wait(self._stop_in_kernel, "the guest to run its kernel")
        leaves = self._monitor("info tlb")
        if running:
            self.qmp.execute("cont")
        return leaves

    def _stop_in_kernel(self) -> bool:
        """Stop the guest if its processor runs the kernel; return whether it does."""
        self.qmp.execute("stop")
        if "CPL=0" in self._monitor("info registers"):
            return True
        self.qmp.execute("cont")
        return False

    def _monitor(self, command: str) -> str:
        """Return the text that a command of QEMU's monitor prints."""
        text = self.qmp.execute("human-monitor-command", **{"command-line": command})
        return str(text).replace("\r", "")

    def _start(self, kernel: Kernel) -> subprocess.Popen[bytes]:
        scenario = self.scenario
        initrd = self._scratch / "initrd"
        initramfs.write(initrd, kernel, scenario.script, scenario.modules, scenario.programs)
        sockets = [self._scratch / "qmp", self.debug_socket]
        # fmt: off
        command = [
            need("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-no-reboot",
            "-accel", "tcg", "-cpu", "max", "-m", f"{scenario.memory}M",
            "-display", "none",
            "-serial", f"file:{self.console}", "-serial", f"file:{self._report}",
            "-device", "vmcoreinfo",
            "-gdb", f"unix:{self._scratch / 'gdb'},server=on,wait=off",
            *(word for path in sockets for word in ("-qmp", f"unix:{path},server=on,wait=off")),
            "-kernel", str(kernel.image), "-initrd", str(initrd),
            "-append", f"{COMMAND_LINE} {scenario.command_line}",
            *scenario.qemu,
            *self._memory_arguments(),
            *(word for disk in self._disks() for word in ("-drive", disk)),
        ]
        # fmt: on
        with open(self._scratch / "errors", "wb") as errors:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def _memory_arguments(self) -> tuple[str, ...]:
        if not self.scenario.memory_file:
            return ()
        return memoryfile.arguments(self._memory, self.scenario.memory << 20)

    def _disks(self) -> Iterator[str]:
        for name in self.scenario.disks:
            path = self._scratch / name
            with open(path, "wb") as file:
                file.truncate(2 * self.scenario.memory << 20)
            yield f"file={path},if=virtio,format=raw"

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            ended = self._process.poll() is not None
            failed = self.words().get("failed")
            if failed:
                raise GuestError(f"the guest failed: {failed[0]}; see {self.console}")
            if ended and not condition():
                raise GuestError(f"QEMU ended while waiting for {what}: {self._last_words()}")
            if time.monotonic() > self._deadline:
                raise GuestError(f"out of time waiting for {what}; see {self.console}")
            time.sleep(_POLL)

    def _last_words(self) -> str:
        for path in (self._scratch / "errors", self.console):
            lines = path.read_text(errors="replace").split("\n") if path.exists() else []
            for line in reversed([line.strip() for line in lines if line.strip()]):
                return line
        return "it said nothing"


def _take(pipe: Path, output: Path) -> int:
    with open(pipe, "rb") as source, open(output, "wb") as target:
        return sparse.copy(source, target)
