# SPDX-License-Identifier: LGPL-2.1-or-later
"""A debugger's hand on a guest: QEMU's gdb stub, spoken to in gdb's remote serial protocol."""

from __future__ import annotations

import socket
from pathlib import Path

from vmcores.recipe.errors import GuestError


class Debugger:
    """
    The guest's kernel memory, by virtual address; also what the kernel itself must not write.

    Use it in a with statement, on a guest that stands still; it goes on afterwards.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        """
        Connect.

        :param path: the stub's socket; QEMU must be listening already
        :param timeout: seconds that any one answer may take
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rwb")

    def __enter__(self) -> Debugger:
        return self

    def __exit__(self, *_: object) -> None:
        self._ask("D")  # detach, and let the guest go on
        self._file.close()
        self._socket.close()

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of memory; at most 2000, as the stub's packets are small."""
        return bytes.fromhex(self._ask(f"m{address:x},{size:x}"))

    def write(self, address: int, data: bytes) -> None:
        """Write memory."""
        self._ask(f"M{address:x},{len(data):x}:{data.hex()}")

    def _ask(self, question: str) -> str:
        packet = question.encode()
        try:
            self._file.write(b"$%b#%02x" % (packet, sum(packet) % 256))
            self._file.flush()
            answer = self._receive()
        except OSError as error:
            raise GuestError(f"QEMU's gdb stub does not answer {question[0]}: {error}") from error
        if answer.startswith("E"):
            raise GuestError(f"QEMU's gdb stub refuses {question}: {answer}")
        return answer

    def _receive(self) -> str:
        packet = b""
        while not packet.endswith(b"#"):
            byte = self._file.read(1)
            if not byte:
                raise GuestError("QEMU has ended")
            packet = b"" if byte == b"$" else packet + byte  # what comes before is acknowledgement
        self._file.read(2)  # the sum of a stream that loses nothing
        self._file.write(b"+")
        self._file.flush()
        return packet[:-1].decode()
