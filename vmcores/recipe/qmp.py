# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's machine protocol: one JSON object a line, over a UNIX socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from vmcores.recipe.errors import GuestError


class Qmp:
    """A connection to QEMU, ready for commands. A server of QEMU's takes one client at a time."""

    def __init__(self, path: Path, timeout: float) -> None:
        """
        Connect.

        :param path: the socket; QEMU must be listening already
        :param timeout: seconds that any one command may take
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self._receive()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """
        Run a command and wait until it is done.

        :returns: what the command returns, decoded
        :raises GuestError: QEMU refuses it, ends, or takes too long
        """
        json.dump({"execute": command, "arguments": arguments}, self._file)
        self._file.write("\n")
        try:
            self._file.flush()
            answer = self._receive()
            while "return" not in answer and "error" not in answer:
                answer = self._receive()  # an event of no concern here
        except OSError as error:
            raise GuestError(f"QEMU does not answer {command}: {error}") from error
        if "error" in answer:
            raise GuestError(f"QEMU refuses {command}: {answer['error']['desc']}")
        return answer["return"]

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise GuestError("QEMU has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
