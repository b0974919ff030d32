# SPDX-License-Identifier: LGPL-2.1-or-later

"""The time from a command to its report, on a small dump without debuginfo, beside drgn's own."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from drgn_vmemmap.bundle import write_bundle
from tests.support import BIN, COMMAND, vmcore


def seconds(times: int) -> Mapping[str, float]:
    """The best of some times of each command, one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        commands = _commands(Path(directory))
        found = {name: [_time(command) for _ in range(times)] for name, command in commands.items()}
    return {name: min(times) for name, times in found.items()}


def _commands(directory: Path) -> dict[str, list[str]]:
    nothing, bundle = directory / "nothing.py", directory / "drgn_vmemmap"
    nothing.touch()
    write_bundle(str(bundle))
    drgn, tool = str(BIN / "drgn"), str(COMMAND)
    target = ["-q", "--no-default-symbols", "-c", str(vmcore("head-reuse"))]
    return {
        "drgn's bare start": [drgn, *target, str(nothing)],
        "drgn-vmemmap": [tool, *target],
        "the bundle": [drgn, *target, str(bundle)],
        "Python's bare start": [sys.executable, "-c", ""],
        "drgn-vmemmap --help": [tool, "--help"],
    }


def _time(command: Sequence[str]) -> float:
    """Processor time, that of the command's own children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
