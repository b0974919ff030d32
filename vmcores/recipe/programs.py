# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian programs for a guest: each with the shared libraries it needs, by package name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmcores.recipe import apt
from vmcores.recipe.cpio import Archive
from vmcores.recipe.kernels import Kernel
from vmcores.recipe.tools import run

#: The loader that x86-64 programs name as their interpreter, and itself lists what they need.
LOADER = "ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class Programs:
    """Programs of some packages; with the kernel's own image beside them where asked for."""

    packages: tuple[str, ...]
    names: tuple[str, ...]
    kernel_image: bool = False  #: put the running kernel's image at /vmlinuz, for kexec

    def add_to(self, archive: Archive, kernel: Kernel) -> None:
        """Add the programs as /sbin/NAME, and their libraries."""
        unpacked = apt.unpack_closure(*self.packages)
        libraries = {}
        for name in self.names:
            program = _file(unpacked, name)
            archive.copy(f"sbin/{name}", program)
            libraries.update({path.name: path for path in _libraries(unpacked, program)})
        archive.copy(f"lib64/{LOADER}", _file(unpacked, LOADER))
        for name, path in libraries.items():
            archive.copy(f"lib/x86_64-linux-gnu/{name}", path)
        if self.kernel_image:
            archive.copy("vmlinuz", kernel.image)


def _libraries(unpacked: Path, program: Path) -> Iterator[Path]:
    directories = {path.parent for path in unpacked.rglob("*.so*")}
    search = ":".join(str(path) for path in sorted(directories))
    loader = _file(unpacked, LOADER)
    listing = run([str(loader), "--library-path", search, "--list", str(program)])
    for path in re.findall(r"=> (\S+)", listing):
        if Path(path).name != LOADER:
            yield Path(path)


def _file(directory: Path, name: str) -> Path:
    return next(path for path in sorted(directory.rglob(name)) if path.is_file())
