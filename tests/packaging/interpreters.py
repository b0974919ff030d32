# SPDX-License-Identifier: LGPL-2.1-or-later

"""Python in each version that the tool runs with, as far as this machine can get it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vmcores.recipe import apt
from vmcores.recipe.errors import RecipeError

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
"""From the oldest that the tool runs with to the newest that drgn has wheels for."""


class Interpreter(NamedTuple):
    """A Python that can be run."""

    origin: str
    command: tuple[str, ...]
    """What to put before the interpreter's arguments."""
    variables: Mapping[str, str]
    """Environment variables that it needs."""


def find(version: str) -> Interpreter | None:
    """
    :param version: Such as ``3.9``.
    :return: An interpreter of pyenv, of this machine, or of any suite of Debian; or none.
    """
    for origin, path in (("pyenv", _pyenv(version)), ("here", Path(f"/usr/bin/python{version}"))):
        if path is not None and path.exists():
            return Interpreter(origin, (str(path),), {})
    try:
        root = apt.unpack_closure(f"python{version}")
    except RecipeError:
        return None
    return unpacked(root, f"python{version}", "Debian")


def unpacked(root: Path, program: str, origin: str) -> Interpreter:
    """
    An interpreter that runs where its packages were unpacked, with the libraries unpacked there.

    :param root: The directory of the packages.
    :param program: The interpreter's name.
    """
    parts = (root / "usr", root)  # Debian 12 does not keep all in /usr
    loader = next(path for part in parts for path in (part / "lib64").glob("ld-linux-*"))
    libraries = ":".join(str(part / "lib" / "x86_64-linux-gnu") for part in parts)
    command = (loader, "--library-path", libraries, root / "usr" / "bin" / program)
    return Interpreter(origin, tuple(map(str, command)), {"PYTHONHOME": str(root / "usr")})


def _pyenv(version: str) -> Path | None:
    """The newest interpreter of a version that pyenv installed."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = (root / "versions").glob(f"{version}.*/bin/python{version}")
    return max(found, key=lambda path: int(path.parts[-3].split(".")[2]), default=None)
