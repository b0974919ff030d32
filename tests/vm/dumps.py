# SPDX-License-Identifier: LGPL-2.1-or-later

"""Dumps that tests share: each kernel is booted once for each scenario, by the first that asks."""

from __future__ import annotations

import fcntl
import pickle
from dataclasses import replace
from pathlib import Path

from vmcores.recipe import Dump, dump, kernels


def shared(directory: Path, line: str, scenario: str, symbols: bool = False) -> Dump:
    """
    Return the dump of a kernel in a scenario; the processes that run tests share it.

    :param directory: of all dumps of this run of the tests
    :raises MissingError: the archive lacks the kernel
    """
    place = directory / f"{kernels.resolve(line, symbols).name}-{scenario}"
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        saved = place / "dump.pickle"
        if not saved.exists():
            saved.write_bytes(pickle.dumps(dump(line, scenario, place, symbols)))
        made: Dump = pickle.loads(saved.read_bytes())
    return replace(made, vmlinux=kernels.fetch(line, symbols).symbols)
