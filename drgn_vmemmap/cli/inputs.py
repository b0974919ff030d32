# SPDX-License-Identifier: LGPL-2.1-or-later

"""A result replaces neither what it was made from, nor any other dump or ELF file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence

from drgn_vmemmap.errors import CannotAnalyse, printable

_STDIN = 0


def keep_inputs(options: argparse.Namespace, of_target: Sequence[str] = ()) -> None:
    """
    Refuse to write a result over a dump, or over a file that the command reads.

    :param options: Those of a command.
    :param of_target: Files that drgn reads, other than dumps and ELF files.
    :raises CannotAnalyse: if the output is one of them.
    """
    path = getattr(options, "output", None)
    if path is None or not os.path.isfile(path):
        return
    keep_dump(path)
    status = os.stat(path)
    if any(os.path.samestat(status, of) for of in _inputs(options, of_target)):
        raise CannotAnalyse(f"{printable(path)} is an input of this command: give another name")


def keep_dump(path: str) -> None:
    """
    Refuse to replace a dump, or an ELF file: drgn may have taken symbols from it.

    :raises CannotAnalyse: if the file is one.
    """
    from drgn_vmemmap.target.dump_file import is_dump, is_elf, is_flattened

    # A device or a FIFO is not replaced, and reading one may take for ever.
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return
    is_a_dump = is_flattened(path) or is_dump(path)
    if is_a_dump or is_elf(path):
        kind = "a dump" if is_a_dump else "an ELF file"
        raise CannotAnalyse(f"{printable(path)} is {kind}, and not replaced: give another name")


def _inputs(options: argparse.Namespace, of_target: Sequence[str]) -> Iterator[os.stat_result]:
    system_map = getattr(options, "system_map", None)
    paths = (*options.command.dumps(options), *of_target, system_map)
    for path in paths:
        if path is not None and os.path.exists(path):
            yield os.stat(path)
    if getattr(options, "stdin", False):
        yield os.fstat(_STDIN)
