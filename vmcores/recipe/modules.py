# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules: finding them in a package, with what they depend on, ready for insmod."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path


def load_order(directory: Path, names: Iterable[str]) -> dict[str, bytes]:
    """
    Collect modules and those they depend on.

    :param directory: where to search, at any depth
    :param names: modules wanted; one that is not there is taken to be built into the kernel
    :returns: name -> the uncompressed module, in the order in which to insert them
    """
    files = {_name(path): path for path in directory.rglob("*.ko*")}
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        if name in ordered or name not in files:
            return
        data = _read(files[name])
        for dependency in _depends(data):
            visit(dependency)
        ordered[name] = data

    for name in names:
        visit(name.replace("-", "_"))
    return ordered


def _name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _depends(module: bytes) -> tuple[str, ...]:
    # The section .modinfo is a list of NUL-terminated "key=value" strings; one is always "depends".
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    names = match[1].decode().split(",") if match else []
    return tuple(name.replace("-", "_") for name in names if name)
