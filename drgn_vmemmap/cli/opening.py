# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks of drgn's options before drgn has them, and errors of targets that cannot be opened."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from drgn_vmemmap.cli.exit_codes import NAME
from drgn_vmemmap.cli.options import DrgnOptions
from drgn_vmemmap.errors import CannotAnalyse, printable

if TYPE_CHECKING:
    import socket

CORE = ("-c", "--core")
_KERNEL = ("-k", "--kernel")
_TARGETS = frozenset((*CORE, *_KERNEL, "--qemu"))
_SYMBOLS = ("-s", "--symbols")
_FILES = (*_SYMBOLS, "--extra-symbols", "--vmcoreinfo")
_DIRECTORIES = ("--debug-directory", "--debug-link-directory", "--kernel-directory")

# How long QEMU may take to greet, in seconds; a monitor that is free answers at once.
_PATIENCE = 5.0


def check(target: DrgnOptions) -> None:
    """
    Refuse what drgn would ignore, or would wait for without end.

    :raises CannotAnalyse: if these options make no sense together, or name what is not there.
    """
    from drgn_vmemmap.target.program import check_dump

    _check_one_target(target)
    _check_paths(target)
    for path in target.values(*CORE):
        check_dump(path)
    for address in target.values("--qemu"):
        if _is_silent(address):
            raise CannotAnalyse(
                f"cannot open this target: {address} does not answer: QEMU serves one client at a "
                "time"
            )


def is_named(target: DrgnOptions) -> bool:
    """Whether the options name a target."""
    return target.has(*_TARGETS)


def _check_one_target(target: DrgnOptions) -> None:
    given = [
        name if value is None else f"{name} {value}"
        for name, value in target.given
        if name in _TARGETS
    ]
    if len(given) > 1:
        raise CannotAnalyse(f"give one target, not {' and '.join(given)}")


def _check_paths(target: DrgnOptions) -> None:
    for names, wanted, what in (
        (_FILES, os.path.exists, "file"),
        (_DIRECTORIES, os.path.isdir, "directory"),
    ):
        for name, path in target.given:
            if name not in names or path is None:
                continue
            if not wanted(path):
                raise CannotAnalyse(f"{name} {path}: there is no such {what}")
            if not _may_be_read(path):
                raise CannotAnalyse(f"{name} {path}: you may not read this {what}")


def _may_be_read(path: str) -> bool:
    """Whether this process may read a file or a directory; drgn ignores those that it may not."""
    # To open a FIFO would take it from its reader.
    if not (os.path.isfile(path) or os.path.isdir(path)):
        return True
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return False
    return True


def _is_silent(address: str) -> bool:
    """Whether nobody answers at a socket: drgn would wait forever, and ignore Ctrl-C."""
    import socket

    try:
        with _connected(address) as connection:
            connection.recv(1)
    except socket.timeout:
        return True
    except (OSError, UnicodeError):
        pass  # drgn says why, or knows what it is
    return False


def _connected(address: str) -> socket.socket:
    """
    A connection to a socket, as drgn takes its address: ``host:port`` for TCP, or else a path.

    :raises OSError: if there can be none; it is :class:`socket.timeout` if nobody answers.
    """
    import socket

    host, colon, port = address.rpartition(":")
    is_port = re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 1 << 16
    if colon and is_port and address[0] not in "/.":
        return socket.create_connection((host or "localhost", int(port)), _PATIENCE)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def failure(target: DrgnOptions, message: str) -> CannotAnalyse:
    """
    The error for a target that drgn could not open.

    :param message: drgn's, of one line or more.
    """
    from drgn_vmemmap.target.program import cannot_open

    reason = re.sub(r"^(error: |\[Errno \d+\] )", "", printable(message.strip().splitlines()[-1]))
    for path in target.values(*CORE):
        return cannot_open(path, reason)
    if "Operation not permitted: '/proc/kcore'" in message:
        # open_kcore() of fs/proc/kcore.c; users other than root are refused by the file's mode.
        reason = "this kernel is locked down, or this is a container: nobody may read its memory"
    return CannotAnalyse(
        f"cannot open this target: {reason}; give a vmcore with -c, or see '{NAME} --help'"
    )


def unused_symbols(target: DrgnOptions) -> str | None:
    """A warning if none of the files given for debugging symbols was of this kernel."""
    import drgn

    paths = target.values(*_SYMBOLS)
    try:
        used = drgn.get_default_prog().main_module().debug_file_path
    except (LookupError, drgn.NoDefaultProgramError):
        return None
    if not paths or used is not None:
        return None
    return f"-s {paths[0]} has no debugging symbols of this kernel, and was not used"
