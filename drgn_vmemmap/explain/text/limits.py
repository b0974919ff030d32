# SPDX-License-Identifier: LGPL-2.1-or-later

"""How much of a text is read: its beginning, which has the release, and its end, with the oops."""

from __future__ import annotations

from typing import BinaryIO

TEXT_LIMIT = 1 << 27
"""The most bytes of text that are read; of a longer text, it is said what was not read."""

LINES_LIMIT = 1 << 22
"""The most lines of a text that are read."""

_PIECE = 1 << 20


class Allowance:
    """How many bytes of a text and of all its parts may still be unpacked."""

    def __init__(self) -> None:
        self.left = self._most = TEXT_LIMIT

    def take(self, data: bytes) -> tuple[bytes, str | None]:
        """
        Use the allowance up for some bytes that were unpacked.

        :return: Those that may be read, and why the rest may not, in words; ``None`` if all may.
        """
        taken = data[: self.left]
        self.left -= len(taken)
        if len(taken) == len(data):
            return taken, None
        return taken, f"only the first {self._most >> 20} MiB of the unpacked text were read"


def read_ends(file: BinaryIO) -> tuple[bytes, str | None]:
    """
    Read a file of any length: its first and its last half of :data:`TEXT_LIMIT`.

    :return: The bytes, and why some are missing, in words; ``None`` if none are.
    """
    data = file.read(TEXT_LIMIT)
    more = file.read(_PIECE)
    if not more:
        return data, None
    half = TEXT_LIMIT // 2
    end = bytearray(data[half:])
    while more:
        end += more
        if len(end) > TEXT_LIMIT:
            del end[:-half]
        more = file.read(_PIECE)
    # A part of a line may look like another line.
    start = data[: data.rfind(b"\n", 0, half) + 1 or half]
    end = end[-half:]
    return (
        start + end[end.find(b"\n") + 1 :],
        f"only the first and the last {half >> 20} MiB of the text were read",
    )


def cut_lines(text: str) -> tuple[str, str | None]:
    """
    The first and the last half of :data:`LINES_LIMIT` lines of a text.

    :return: The text, and why a part is missing, in words; ``None`` if it is complete.
    """
    if text.count("\n") <= LINES_LIMIT:
        return text, None
    half = LINES_LIMIT // 2
    start = len(text) - len(text.split("\n", half)[half])
    end = len(text.rsplit("\n", half + text.endswith("\n"))[0]) + 1
    return (
        text[:start] + text[end:],
        f"only the first and the last {half} lines of the text were read",
    )
