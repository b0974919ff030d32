# SPDX-License-Identifier: LGPL-2.1-or-later

"""This tool as one file: a zip application with everything but drgn in it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
import zipapp
from pathlib import Path

_DEPENDENCIES = ("tabulate",)


def write_bundle(path: str) -> None:
    """
    Write the bundle, whole or not at all.

    :param path: The file to write; it is made executable, and replaced if it exists.
    :raises OSError: if it cannot be written.
    """
    package = Path(__file__).parent
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path))) as directory:
        target = Path(directory, "bundle")
        if package.parent.is_file():  # this is the bundle
            shutil.copy(package.parent, target)
        else:
            _build(package, Path(directory, "tree"), target)
        target.chmod(0o755)
        os.replace(target, path)


def _build(package: Path, tree: Path, target: Path) -> None:
    _copy(package, tree / package.name)
    for name in _DEPENDENCIES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        _copy(source, tree / source.name)
        _copy_licence(name, tree / "licences" / name)
    zipapp.create_archive(
        tree,
        target,
        interpreter="/usr/bin/env python3",
        main="drgn_vmemmap.cli.launcher:main",
        compressed=True,
    )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    else:
        shutil.copy(source, target)


def _copy_licence(name: str, target: Path) -> None:
    """Dependencies travel with their licences."""
    for file in importlib.metadata.files(name) or ():
        if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target / file.name)
