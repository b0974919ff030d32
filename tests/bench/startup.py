# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The time from a command to its report, on small dumps without debuginfo, beside drgn's own.

Commands are run in turn, so that a machine whose speed changes disturbs all of them alike, and
compared run by run. Modules are compiled first, as they are where the package is installed.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drgn_vmemmap.bundle import write_bundle
from tests.support import COMMAND, DRGN, vmcore

VMCORES = ("filtered-kdump", "head-reuse", "oops", "shared-tail")
"""Kernels 6.1.0, 6.12.117, 6.12.118 and 7.3.4."""

BARE = "drgn's bare start"
WITH_GOAL = ("drgn-vmemmap", "the bundle")


class Timing(NamedTuple):
    """A command on a vmcore."""

    vmcore: str
    command: str
    seconds: float
    """Of processor time, the median."""
    over_bare: float
    """How many times drgn's bare start on the same vmcore, the median of the runs."""


def timings(times: int, vmcores: Sequence[str] = VMCORES) -> list[Timing]:
    """Run each command some times on each vmcore."""
    with tempfile.TemporaryDirectory() as directory:
        return [timing for name in vmcores for timing in _timings(name, Path(directory), times)]


def _timings(name: str, directory: Path, times: int) -> list[Timing]:
    commands = _commands(name, directory)
    if times > 1:
        for command in commands.values():
            _time(command)
    runs = [{key: _time(command) for key, command in commands.items()} for _ in range(times)]
    return [
        Timing(
            name,
            key,
            statistics.median(run[key] for run in runs),
            statistics.median(run[key] / run[BARE] for run in runs),
        )
        for key in commands
    ]


def _commands(name: str, directory: Path) -> dict[str, list[str]]:
    nothing, bundle = directory / "nothing.py", directory / "drgn_vmemmap"
    nothing.touch()
    if not bundle.exists():
        write_bundle(str(bundle))
    drgn, tool = str(DRGN), str(COMMAND)
    target = ["-q", "--no-default-symbols", "-c", str(vmcore(name))]
    return {
        BARE: [drgn, *target, str(nothing)],
        "drgn-vmemmap": [tool, *target],
        "the bundle": [drgn, *target, str(bundle)],
        "Python's bare start": [sys.executable, "-c", ""],
        "drgn-vmemmap --help": [tool, "--help"],
    }


def _time(command: Sequence[str]) -> float:
    """Processor time, that of the command's own children included."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
