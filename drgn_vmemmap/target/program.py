# SPDX-License-Identifier: LGPL-2.1-or-later

"""Opening a target that is a file."""

from __future__ import annotations

import os
import struct

import drgn

from drgn_vmemmap.errors import CannotAnalyse, printable


def open_dump(path: str) -> drgn.Program:
    """
    A dump, without debugging symbols.

    :raises CannotAnalyse: if it cannot be opened; the message says why.
    """
    if is_cut_off(path):
        raise CannotAnalyse(f"{path} is cut off")
    prog = drgn.Program()
    try:
        prog.set_core_dump(path)
    except Exception as error:
        # libkdumpfile fails in many ways with a damaged file.
        raise CannotAnalyse(f"{path} cannot be opened: {printable(str(error))}") from error
    return prog


def is_cut_off(path: str) -> bool:
    """
    Whether a kdump-compressed file ends within its bitmaps.

    libkdumpfile maps them, and the process would end by a bus error, not by an
    error that can be reported. See ``struct disk_dump_header`` of makedumpfile.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(440)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False  # drgn says why
    if len(header) < 440 or not header.startswith(b"KDUMP   "):
        return False
    block_size, sub_header, bitmaps = struct.unpack_from("<3I", header, 428)
    return bool(size < (1 + sub_header + bitmaps) * block_size)
