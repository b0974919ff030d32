# SPDX-License-Identifier: LGPL-2.1-or-later

"""Live targets that are none get one line."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Callable

import drgn
import pytest

from drgn_vmemmap.cli import launcher, opening
from drgn_vmemmap.cli.options import DrgnOptions
from drgn_vmemmap.errors import CannotAnalyse
from tests.support import COMMAND, answer, refused, vmemmap


@pytest.fixture
def speaker() -> Iterator[Callable[[bytes | None], str]]:
    """Makes a socket that says something to who connects and hangs up, or says nothing at all."""
    with contextlib.ExitStack() as stack:

        def speaker(words: bytes | None) -> str:
            # A UNIX socket's path must be short.
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="qmp-"))
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(f"{directory}/socket")
            server.listen()

            def speak() -> None:
                with contextlib.suppress(OSError):
                    while words is not None:
                        connection, _ = server.accept()
                        with connection:
                            connection.sendall(words)

            threading.Thread(target=speak, daemon=True).start()
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            return f"{directory}/socket"

        yield speaker


@pytest.mark.parametrize(
    ("words", "reason"),
    (
        (b"SSH-2.0-OpenSSH_9.2\r\n", "could not parse QMP message"),
        (b'{"hello": 1}\r\n', "did not receive QMP greeting"),
        (b'{"QMP": {}}\r\n', "cannot open this target"),
        (b"", "closed unexpectedly"),
        (b"\x1b]0;\x07\n", "could not parse QMP message"),
    ),
)
def test_a_socket_that_is_not_qemus_gets_one_line(
    speaker: Callable[[bytes | None], str], words: bytes, reason: str
) -> None:
    refused(vmemmap("--qemu", speaker(words), "watch"), 2, reason)


def test_a_socket_that_says_nothing_gets_one_line(
    speaker: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_PATIENCE", 0.2)
    refused(answer("--qemu", speaker(None), "watch"), 2, "does not answer")


def test_a_qemu_that_says_nothing_over_tcp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = DrgnOptions([("--qemu", f"127.0.0.1:{server.getsockname()[1]}")])
        with pytest.raises(CannotAnalyse, match="does not answer"):
            opening.check(target)
        monkeypatch.setattr(opening, "_PATIENCE", 20.0)
        threading.Thread(target=lambda: [server.accept()[0].send(b"{") for _ in range(2)]).start()
        opening.check(target)


def test_ctrl_c_ends_the_wait_for_a_qemu_that_hangs() -> None:
    with tempfile.TemporaryDirectory(prefix="qmp-") as directory, contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(f"{directory}/socket")
        server.listen()
        server.settimeout(60)
        process = stack.enter_context(subprocess.Popen([COMMAND, "--qemu", f"{directory}/socket"]))
        stack.callback(process.kill)
        # The first connection finds out whether QEMU is there; the second one is drgn's.
        for _ in range(2):
            connection = stack.enter_context(server.accept()[0])
            connection.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
        assert b"qmp_capabilities" in connection.recv(4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGINT


def test_a_socket_that_nobody_listens_on_gets_one_line() -> None:
    with tempfile.TemporaryDirectory(prefix="qmp-") as directory:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{directory}/socket")
        refused(vmemmap("--qemu", f"{directory}/socket"), 2, "Connection refused")


@pytest.mark.parametrize(
    ("error", "reason"),
    (
        ("[Errno 13] Permission denied", "requires root"),
        ("[Errno 1] Operation not permitted", "locked down"),
    ),
)
def test_a_live_kernel_that_may_not_be_read_gets_one_line(
    error: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(prog: drgn.Program) -> None:
        raise SystemExit(
            f"{error}: '/proc/kcore'\ndrgn debugs the live kernel by default, which requires root"
        )

    monkeypatch.setattr("drgn.cli._set_kernel_with_sudo_fallback", refuse)
    monkeypatch.setattr(sys, "argv", ["drgn-vmemmap", "-k"])
    code = launcher.run()
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert reason in err and len(err.splitlines()) == 1
