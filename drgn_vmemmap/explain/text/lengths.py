# SPDX-License-Identifier: LGPL-2.1-or-later

"""Lengths that stand before messages of syslog, and before fields of the journal."""

from __future__ import annotations

import re

# A field of the export format with any bytes: its name, then its length.
_FIELD = re.compile(rb"^[A-Z0-9_]{1,64}\n", re.MULTILINE)
_LENGTH_SIZE = 8
_OTHER_FIELD = re.compile(rb"^(?!MESSAGE=)[A-Z0-9_]{2,64}=.*\n?", re.MULTILINE)

# The length of a message that syslog sends over TCP or TLS, before its priority (RFC 6587).
_COUNT = re.compile(rb"\n?(?P<size>\d{1,6}) (?=<\d{1,3}>)")


def without_lengths(data: bytes) -> bytes:
    """Each message on a line of its own, without lengths; any other data as it is."""
    return _without_counts(_without_field_lengths(data))


def _without_counts(data: bytes) -> bytes:
    """The messages that syslog sent: with a length before each, none has a line end after it."""
    messages: list[bytes] = []
    position = 0
    while count := _COUNT.match(data, position):
        position = count.end() + int(count["size"])
        messages.append(data[count.end() : position].rstrip(b"\n"))
    # One number may be anything; a second one at its distance proves that both are lengths.
    return data if len(messages) < 2 else b"\n".join([*messages, data[position:]])


def _without_field_lengths(data: bytes) -> bytes:
    """
    The messages in the journal's export format.

    A field that may hold any bytes has its length before it, which may look like text.
    """
    if not data.startswith(b"__CURSOR="):
        return data
    parts: list[bytes] = []
    position = 0
    for field in _FIELD.finditer(data):
        start = field.end() + _LENGTH_SIZE
        length = int.from_bytes(data[field.end() : start], "little")
        if field.start() < position or start + length > len(data):
            continue
        parts += [data[position : field.end() - 1], b"=", data[start : start + length]]
        position = start + length
    return _OTHER_FIELD.sub(b"", b"".join([*parts, data[position:]]))
