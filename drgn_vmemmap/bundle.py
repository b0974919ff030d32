# SPDX-License-Identifier: LGPL-2.1-or-later

"""
This tool as one file: a zip application with all that it needs but drgn.

The same source and the same Python give the same bytes: the archive has no times, no owners and no
order but that of the names. Its modules are compiled for that Python; any other one compiles them
each time that it runs them.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import io
import marshal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from drgn_vmemmap.files import atomic_file

_SHEBANG = b"#!/usr/bin/env python3\n"

_MAIN = """\
# SPDX-License-Identifier: LGPL-2.1-or-later

import os
import sys

# drgn may have loaded an installed release as a plugin. This file runs what is in it.
here = os.path.abspath(os.path.join(sys.path[0], "drgn_vmemmap"))
loaded = sys.modules.get("drgn_vmemmap")
if loaded is not None and here not in map(os.path.abspath, loaded.__path__):
    for name in list(sys.modules):
        if name.split(".")[0] == "drgn_vmemmap":
            del sys.modules[name]

from drgn_vmemmap.cli.launcher import main

main()
"""

_PROJECT = "drgn-vmemmap"

_DEPENDENCIES = ("tabulate",)

# The first time that a zip archive can hold.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: str) -> None:
    """
    Write the bundle, completely or not at all.

    :param path: The file to write; it is made executable, and replaced if it exists.
    :raises OSError: if it cannot be written.
    """
    content = bundle()
    with atomic_file(path, mode=0o777) as file:
        file.write(content)


def bundle() -> bytes:
    """
    The bundle's content; run from a bundle, its own.

    :raises FileNotFoundError: if a part, or its licence, is not installed.
    """
    package = Path(__file__).parent
    if package.parent.is_file():
        return package.parent.read_bytes()
    files = {
        "__main__.py": _MAIN.encode(),
        **_files(package),
        **_licences(_PROJECT),
    }
    for name in _DEPENDENCIES:
        files.update(_files(_module(name)))
        files.update(_licences(name))
    modules = {name: data for name, data in files.items() if name.endswith(".py")}
    compiled = {f"{name}c": _compiled(name, data) for name, data in modules.items()}
    return _archive({**files, **compiled})


def _compiled(name: str, source: bytes) -> bytes:
    """
    A module as Python loads it (PEP 552): recognised by a hash, and not compared with its source.

    :param name: Of its source in the archive.
    """
    code = compile(source, name, "exec", dont_inherit=True)
    flags = (1).to_bytes(4, "little")
    # Before version 3, what is written does not depend on what else refers to an object.
    data = marshal.dumps(code, 2)
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source) + data


def _module(name: str) -> Path:
    """The directory or the file of an installed module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{name} is not installed")
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _files(module: Path) -> dict[str, bytes]:
    """A module's files by their names in the archive, without compiled ones."""
    paths = module.rglob("*") if module.is_dir() else [module]
    return {
        path.relative_to(module.parent).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and path.suffix not in (".pyc", ".so")
    }


def _licences(name: str) -> dict[str, bytes]:
    """The licences that a part of the bundle comes under, by their names in the archive."""
    for found in (_in_source(name), _in_metadata(name), _in_documentation(name)):
        licences = {
            f"licences/{name}/{path.name.removesuffix('.gz')}": _content(path)
            for path in found
            if path.is_file()
        }
        if licences:
            return licences
    raise FileNotFoundError(f"the licence of {name} is not installed with it")


def _in_source(name: str) -> list[Path]:
    """Licences of this project, if it runs from its source; elsewhere, others' are beside it."""
    source = Path(__file__).parent.parent
    if name != _PROJECT or not (source / "pyproject.toml").is_file():
        return []
    return [*filter(_is_licence, source.glob("*"))]


def _in_metadata(name: str) -> Iterator[Path]:
    """Licences in a distribution's metadata; Debian and others may remove its list of files."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    paths = [Path(str(file.locate())) for file in distribution.files or ()]
    metadata = getattr(distribution, "_path", None)
    if metadata is not None:
        paths += [*Path(str(metadata)).glob("*"), *Path(str(metadata)).glob("licenses/*")]
    yield from filter(_is_licence, paths)


def _in_documentation(name: str) -> list[Path]:
    """Licences where Debian and Fedora keep them."""
    share, packages = Path(sys.prefix, "share"), (name, f"python3-{name}")
    return [
        path
        for prefix in (Path("/usr/share"), share)
        for package in packages
        for directory in (prefix / "licenses" / package, prefix / "doc" / package)
        for path in (*directory.glob("*"), directory / "copyright")
        if _is_licence(path) or path.name == "copyright"
    ]


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _is_licence(path: Path) -> bool:
    return path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))


def _archive(files: dict[str, bytes]) -> bytes:
    """An executable zip archive that depends only on the names and contents of its files."""
    content = io.BytesIO(_SHEBANG)
    content.seek(0, io.SEEK_END)
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    return content.getvalue()
