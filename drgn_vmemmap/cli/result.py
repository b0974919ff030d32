# SPDX-License-Identifier: LGPL-2.1-or-later

"""Where a result goes: to standard output, to a pager, or to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from typing import TYPE_CHECKING

from drgn_vmemmap.cli.exit_codes import discard
from drgn_vmemmap.files import atomic_file

if TYPE_CHECKING:
    from drgn_vmemmap.output.terminal import Style


def style_for(path: str | None) -> Style:
    """What can be shown where a result goes: a file has no colours."""
    from drgn_vmemmap.output.terminal import PLAIN, Style

    return PLAIN if path is not None else Style.of(sys.stdout)


def write(result: str | Iterable[str], path: str | None, page: bool = False) -> None:
    """
    Write a result.

    Its reader may leave early, which is no error: the exit code says what the result is.

    :param result: Its text, or the pieces of it.
    :param path: A file, which is written completely or not at all; ``None`` for standard output.
    :param page: Show it by the user's pager if standard output is a terminal.
    """
    pieces = (result,) if isinstance(result, str) else result
    with contextlib.suppress(BrokenPipeError):
        _write(pieces, path, page)


def _write(pieces: Iterable[str], path: str | None, page: bool) -> None:
    if path is not None and not _is_standard_output(path):
        with atomic_file(path) as file, TextIOWrapper(file, encoding="utf-8") as text:
            text.writelines(pieces)
            text.flush()
        return
    pager = _pager() if page and path is None and sys.stdout.isatty() else None
    if pager is None:
        sys.stdout.writelines(pieces)
    else:
        _show(pieces, pager)


def write_on(text: str) -> bool:
    """
    Write a part of a result to standard output, at once.

    Once its reader has left, or a write has failed, what is written later goes nowhere.

    :return: Whether somebody still reads it.
    :raises OSError: if it cannot be written, as on a full disk.
    """
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        discard(sys.stdout)
        return False
    except OSError:
        discard(sys.stdout)
        raise
    return True


def _is_standard_output(path: str) -> bool:
    """Whether a file is the one that standard output goes to, such as ``/dev/stdout``."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def _pager() -> str | None:
    """The shell command of the user's pager, chosen as git does; ``None`` for none."""
    import shutil

    command = os.environ.get("PAGER", "less")
    words = command.split()
    if not words or words == ["cat"] or os.environ.get("TERM", "dumb") == "dumb":
        return None
    return command if shutil.which(words[0]) else None


def _show(pieces: Iterable[str], pager: str) -> None:
    """Write pieces to a pager as they come, and wait until the user leaves it."""
    import subprocess

    # less ends at once if all fits the screen (F), shows colours (R), and leaves the text (X).
    environment = {"LESS": "FRX", **os.environ}
    with _interrupts_left_to_pager():
        process = subprocess.Popen(
            pager,
            shell=True,
            stdin=subprocess.PIPE,
            encoding=sys.stdout.encoding,
            env=environment,
        )
        assert process.stdin is not None
        # The user may leave before the end.
        with process, contextlib.suppress(BrokenPipeError), process.stdin as text:
            text.writelines(pieces)


@contextlib.contextmanager
def _interrupts_left_to_pager() -> Iterator[None]:
    """Ctrl-C at a pager is the pager's: less goes back to its prompt."""
    import signal

    try:
        before = signal.signal(signal.SIGINT, lambda number, frame: None)
    except ValueError:
        yield  # not the main thread
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
