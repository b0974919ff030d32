# SPDX-License-Identifier: LGPL-2.1-or-later

"""Which file a program reads: on a drgn that does not know it, and once it has another name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import drgn

from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.target.dump_file import is_dump
from drgn_vmemmap.target.file_errors import FILE_ERRORS
from drgn_vmemmap.target.kdump_file import KDUMP, layout_of

_PATH = "drgn_vmemmap: path of the dump"
"""Key of the dump's path in a program's cache: older drgn has no ``Program.core_dump_path``."""

_REMOVED = " (deleted)"
"""How the kernel ends the name of an open file that was removed, or replaced by another one."""

# Notes are at the beginning of an ELF file; VMCOREINFO has some kilobytes.
_NOTES_LIMIT = 4 << 20


def remember_path(prog: drgn.Program, path: str) -> None:
    """Keep the path of a program's dump for :func:`dump_path()`."""
    prog.cache[_PATH] = os.path.abspath(path)


def dump_path(prog: drgn.Program) -> str | None:
    """The path of a program's dump; ``None`` for a live kernel, or where drgn does not know it."""
    if prog.flags & drgn.ProgramFlags.IS_LIVE:
        return None  # /proc/kcore is no dump
    try:
        path = prog.core_dump_path
    except AttributeError:
        path = prog.cache.get(_PATH) or _find_open_dump(prog)
    except UnicodeDecodeError as error:
        # drgn takes a path of any bytes, and gives back only UTF-8.
        path = os.fsdecode(error.object)
    return str(path) if path else None


def dump_file(prog: drgn.Program) -> str | None:
    """
    A path that leads to the file of a program's dump, whatever became of its name since.

    :return: As :func:`dump_path()`.
    """
    path = dump_path(prog)
    if path is None:
        return None
    # The file of this name may have been replaced, and its successor be open, too.
    paths = {
        path if name == path else descriptor
        for name, descriptor in _open_files()
        if name in (path, path + _REMOVED)
    }
    # Or it was renamed.
    paths = _candidates(prog, paths or _open_dumps())
    return paths.pop() if len(paths) == 1 else path


def _open_files() -> Iterator[tuple[str, str]]:
    """The names of the files that this process has open, and the path of a descriptor of each."""
    known = set()
    with contextlib.suppress(OSError):
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                descriptor = f"/proc/self/fd/{number}"
                name, status = os.readlink(descriptor), os.stat(descriptor)
                file = status.st_dev, status.st_ino
                if file not in known:
                    known.add(file)
                    yield name, descriptor


def _open_dumps() -> set[str]:
    """The paths of the dumps that this process has open, also of those that were removed since."""
    dumps = set()
    for path, descriptor in _open_files():
        # Some of the files may be written only, as one that another user's shell opened.
        with contextlib.suppress(OSError):
            if os.path.isfile(descriptor) and is_dump(descriptor):
                dumps.add(descriptor if path.endswith(_REMOVED) else path)
    return dumps


def _candidates(prog: drgn.Program, paths: set[str]) -> set[str]:
    """
    Paths of the open dumps that a program may be reading.

    drgn keeps its file open. If several dumps are open, VMCOREINFO distinguishes them.
    """
    if len(paths) > 1:
        text = bytes(prog["VMCOREINFO"].string_())
        paths = {path for path in paths if _has_vmcoreinfo(path, text)}
    return paths


def _find_open_dump(prog: drgn.Program) -> str | None:
    """
    The path of a program's dump, for drgn before ``Program.core_dump_path``.

    :raises CannotAnalyse: if it may be any of several files.
    """
    dumps = _candidates(prog, _open_dumps())
    if len(dumps) > 1:
        raise CannotAnalyse(
            "this drgn does not say which of the open dumps it reads: update drgn, or open one dump"
        )
    return dumps.pop() if dumps else None


def _has_vmcoreinfo(path: str, text: bytes) -> bool:
    """Whether a dump has this VMCOREINFO where its format has it: an ELF file, among its notes."""
    with contextlib.suppress(*FILE_ERRORS), open(path, "rb") as file:
        start, size = 0, _NOTES_LIMIT
        if file.read(len(KDUMP)) == KDUMP:
            start, size = layout_of(file).vmcoreinfo
        file.seek(start)
        return text in file.read(min(size, _NOTES_LIMIT))
    return False
