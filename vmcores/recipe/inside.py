# SPDX-License-Identifier: LGPL-2.1-or-later
"""This tool itself for a guest to run: its bundle, and Debian's drgn with all that it needs."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmcores.recipe import apt
from vmcores.recipe.cpio import Archive
from vmcores.recipe.errors import ToolError
from vmcores.recipe.kernels import Kernel

PACKAGE = "python3-drgn"

#: Where programs and libraries are, in the package and in the guest.
_DIRECTORIES = ("usr/bin", "usr/lib", "usr/lib64")


@dataclass(frozen=True)
class Tool:
    """Programs of a scenario: ``python3 /drgn_vmemmap``, and ``drgn``."""

    extracts: bool = False  #: with the library that writes vmcores

    def add_to(self, archive: Archive, kernel: Kernel) -> None:
        """Add the bundle, and drgn's packages in the places where they install themselves."""
        unpacked = apt.unpack_closure(PACKAGE)
        for directory in _DIRECTORIES:
            for path in sorted((unpacked / directory).rglob("*")):
                name = str(path.relative_to(unpacked))
                if path.is_symlink():
                    archive.symlink(name, str(path.readlink()))
                elif path.is_file():
                    archive.copy(name, path)
        archive.symlink("lib64", "usr/lib64")  # programs name their loader there
        archive.data("drgn_vmemmap", _bundle())
        if self.extracts:
            for path in _library("kdumpling").glob("*.py"):
                archive.copy(f"usr/lib/python3/dist-packages/{path.parent.name}/{path.name}", path)


def _library(name: str) -> Path:
    """Directory of an installed Python package."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ToolError(f"{name} is not installed: pip install {name}")
    return Path(found.origin).parent


def _bundle() -> bytes:
    from drgn_vmemmap.bundle import write_bundle

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "drgn_vmemmap")
        try:
            write_bundle(str(path))
        except ModuleNotFoundError as error:
            raise ToolError(f"no bundle can be made: {error}") from error
        return path.read_bytes()
