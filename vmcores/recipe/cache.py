# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where downloads are kept, and how several runs share them without stepping on each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable


def root() -> Path:
    """Return the cache directory: $DRGN_VMEMMAP_CACHE, or drgn-vmemmap in the user's cache."""
    chosen = os.environ.get("DRGN_VMEMMAP_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "drgn-vmemmap"


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file of ``path`` (other threads and processes wait) for a with statement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The lock file stays: removing it would let two runs lock two different files of one name.
    with open(path.with_name(path.name + ".lock"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(path: Path, build: Callable[[Path], None]) -> Path:
    """
    Return directory ``path``, building it first if it is not there.

    :param build: fills a new empty directory, which takes the name ``path`` only when it is done,
        so that a run that is cut off leaves nothing half built under that name
    """
    with lock(path):
        if not path.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=path.name + ".", dir=path.parent))
            try:
                build(scratch)
                scratch.chmod(0o755)
                scratch.rename(path)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
    return path
