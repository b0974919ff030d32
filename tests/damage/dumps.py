# SPDX-License-Identifier: LGPL-2.1-or-later

"""Vmcores, as files, with their memory changed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from drgn_vmemmap.extract.recording import extract
from tests.damage.edited import EditedKernel
from tests.support import open_vmcore

_PT_LOAD = 1


def write_physical(vmcore: Path, address: int, data: bytes) -> None:
    """
    Change physical memory in an ELF vmcore.

    :raises ValueError: if it is not in the dump.
    """
    with open(vmcore, "r+b") as file:
        header = file.read(64)
        (start,) = struct.unpack_from("<Q", header, 32)
        (count,) = struct.unpack_from("<H", header, 56)
        file.seek(start)
        for kind, offset, physical, size in struct.iter_unpack(
            "<I4xQ8xQQ16x", file.read(56 * count)
        ):
            if kind == _PT_LOAD and physical <= address < physical + size:
                file.seek(offset + address - physical)
                file.write(data)
                return
    raise ValueError(f"{address:#x} is not in the dump")


def write_damaged(path: Path, name: str, provoke: Callable[[EditedKernel], object]) -> None:
    """
    Write a recorded kernel's vmcore with damage done to it, as an ELF file.

    :param name: Of the recorded vmcore.
    :param provoke: What does the damage, such as a fault's of the catalogue.
    """
    prog = open_vmcore(name)
    extract(prog, str(path), compress=False)
    edited = EditedKernel(prog)
    provoke(edited)
    changed = chain.from_iterable(places.items() for places in edited.memory.bytes.values())
    for address, byte in changed:
        write_physical(path, address, bytes((byte,)))


def flattened(data: bytes, size: int = 1 << 16) -> bytes:
    """As ``makedumpfile -F`` writes it: pieces, each with its offset and its size."""
    pieces = [struct.pack(">12sxxxxqq", b"makedumpfile", 1, 1).ljust(4096, b"\0")]
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        pieces += [struct.pack(">qq", start, len(piece)), piece]
    return b"".join([*pieces, struct.pack(">qq", -1, -1)])
