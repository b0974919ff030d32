# SPDX-License-Identifier: LGPL-2.1-or-later

"""A long list on a terminal goes through the user's pager, and nothing else does."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from drgn_vmemmap.cli import command_line
from tests.support import COMMAND, open_vmcore, vmcore, vmemmap

VMCORE = vmcore("head-reuse")
MARK = "sed s/^/paged:/"


def on_terminal(*arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Run the command on a terminal; return its exit code and the lines that it shows."""
    ours, theirs = pty.openpty()
    users = {name: value for name, value in os.environ.items() if name not in ("LESS", "PAGER")}
    process = subprocess.Popen(
        [COMMAND, "-c", VMCORE, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**users, "TERM": "xterm", "NO_COLOR": "1", **environment},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # nobody holds the other end any more
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return process.wait(), shown.decode().splitlines()


class Terminal(TextIOWrapper):
    """A stream that calls itself a terminal; a pager writes elsewhere."""

    def isatty(self) -> bool:
        return True


def unpaged(monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str) -> list[str]:
    """The lines that the command itself writes to a terminal, in this process."""
    for name, value in {"TERM": "xterm", "NO_COLOR": "1", **environment}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal(BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    assert command_line.run(arguments, open_vmcore(VMCORE)) == 0
    stream.flush()
    assert isinstance(stream.buffer, BytesIO)
    return stream.buffer.getvalue().decode().splitlines()


def test_a_list_of_folios_is_paged() -> None:
    code, lines = on_terminal("--folios", PAGER=MARK)
    assert code == 0 and len(lines) > 72
    assert all(line.startswith("paged:") for line in lines)


def test_the_rules_are_paged() -> None:
    _, lines = on_terminal("rules", PAGER=MARK)
    assert all(line.startswith("paged:") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    (
        (),
        ("verify",),
        ("--folios", "--format", "csv"),
        ("--folios", "--format", "json"),
        ("rules", "--format", "json"),
    ),
    ids=" ".join,
)
def test_short_results_and_those_for_machines_are_not(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unpaged(monkeypatch, *arguments, PAGER=MARK)


@pytest.mark.parametrize("pager", ("", "cat", "/no/such/pager -R"))
def test_without_a_pager_the_list_is_written_as_it_is(
    pager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(unpaged(monkeypatch, "--folios", PAGER=pager)) > 72


def test_a_terminal_that_can_do_nothing_has_no_pager() -> None:
    _, lines = on_terminal("--folios", PAGER=MARK, TERM="dumb")
    assert not any(line.startswith("paged:") for line in lines)


def test_neither_a_pipe_nor_a_file_is_paged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER", MARK)
    assert "paged:" not in vmemmap("-c", VMCORE, "--folios").stdout
    code, lines = on_terminal("--folios", "-o", str(tmp_path / "report"), PAGER=MARK)
    assert (code, lines) == (0, [])
    assert "paged:" not in (tmp_path / "report").read_text()


def test_leaving_the_pager_early_is_no_error() -> None:
    code, lines = on_terminal("--folios", PAGER="head -n 1")
    assert (code, len(lines)) == (0, 1)


def test_less_is_asked_to_end_if_all_fits_the_screen(tmp_path: Path) -> None:
    less = tmp_path / "less"
    less.write_text("#!/bin/sh\necho less $LESS\ncat > /dev/null\n")
    less.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {key: os.environ[key] for key in ("HOME",) if key in os.environ}
    code, lines = on_terminal("--folios", PATH=path, PAGER="less", **environment)
    assert (code, lines) == (0, ["less FRX"])
    code, lines = on_terminal("--folios", PATH=path, PAGER="less", LESS="-S")
    assert (code, lines) == (0, ["less -S"])
