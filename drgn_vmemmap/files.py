# SPDX-License-Identifier: LGPL-2.1-or-later

"""Writing a file completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

_PREFIX = ".drgn-vmemmap-"


@contextlib.contextmanager
def atomic_file(path: str, mode: int = 0o666, must_be_new: bool = False) -> Iterator[BinaryIO]:
    """
    A file to write, which appears under its name once it is complete.

    A regular file is replaced, or created, by a temporary file in its directory. Symbolic links
    are followed. Devices, FIFOs and the like are not replaced: they are written to.

    :param path: The file's name. Errors name it, and not the temporary file.
    :param mode: Permission bits of a new file, before the umask. Where a file is replaced, those
        who could read or write it still can, and nobody else.
    :param must_be_new: Replace nothing, not even a file that appears meanwhile.
    :raises OSError: if it cannot be written. Then a regular file is as it was.
    """
    with _named(path):
        before = _status(path)
        if must_be_new and before is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if before is not None and not stat.S_ISREG(before.st_mode):
            with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
                yield file
            return
        if before is None and path.endswith(os.sep):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target = os.path.realpath(path)
        with _temporary(os.path.dirname(target), mode) as file:
            if before is not None:
                _keep_permissions(file, before)
            yield file
            file.close()
            # Unlike a rename, a link does not replace a file that appeared meanwhile.
            put = os.link if must_be_new else os.replace
            put(file.name, target)


def _status(path: str) -> os.stat_result | None:
    """The status of the file that a path leads to, if there is one."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _temporary(directory: str, mode: int) -> Iterator[BinaryIO]:
    """A file whose name cannot be guessed. It is removed at the end, unless it was renamed."""
    path = os.path.join(directory, _PREFIX + os.urandom(8).hex())
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(path, "wb", opener=lambda name, _: os.open(name, flags, mode)) as file:
            yield file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _keep_permissions(file: BinaryIO, before: os.stat_result) -> None:
    """Give a file the owner, where that is allowed, and the permissions of the one it replaces."""
    for user, group in (-1, before.st_gid), (before.st_uid, -1):
        with contextlib.suppress(OSError):
            os.fchown(file.fileno(), user, group)
    executable = os.fstat(file.fileno()).st_mode & 0o111
    os.fchmod(file.fileno(), before.st_mode & 0o666 | executable)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Give the errors of a temporary file, and those without a name, the name of the file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and _PREFIX not in str(error.filename):
            raise
        raise OSError(error.errno, error.strerror, path) from error
