# SPDX-License-Identifier: LGPL-2.1-or-later

"""From a log in whatever form it was kept, sent or pasted to the lines that the kernel wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from drgn_vmemmap.errors import printable
from drgn_vmemmap.explain.text.decode import decode
from drgn_vmemmap.explain.text.fragments import fragments_joined
from drgn_vmemmap.explain.text.limits import cut_lines, read_ends
from drgn_vmemmap.explain.text.line import Joined, Line
from drgn_vmemmap.explain.text.newest_first import oldest_first
from drgn_vmemmap.explain.text.pieces import LINE_END, one_space, pieces
from drgn_vmemmap.explain.text.pstore import pstore_in_order
from drgn_vmemmap.explain.text.wrapping import unwrapped


class Text(NamedTuple):
    """A text with a log."""

    lines: Iterable[Line]
    """To be read once: they are made while they are read, for a log may be long."""
    problem: str | None = None
    """Why a part of it may be missing, in words; ``None`` if it is complete."""


def read_file(file: BinaryIO) -> Text:
    """
    The lines of a log in a file or a pipe: see :func:`read_text()`.

    :raises NotText: if it is no text.
    """
    data, unread = read_ends(file)
    text = read_text(data)
    return text if unread is None else text._replace(problem=unread)


def read_text(data: bytes) -> Text:
    """
    The lines of a log.

    :raises NotText: if it is no text; the message says so in one line.
    """
    decoded = decode(data)
    text, cut = cut_lines(decoded.text)
    empty = None if text else "the log is empty: what was to write it may have failed"
    return Text(logical_lines(text), cut or decoded.problem or empty)


def logical_lines(text: str) -> Iterator[Line]:
    """The lines of a decoded text."""
    ordered = pstore_in_order(fragments_joined(oldest_first(text)))
    return unwrapped(pieces(ordered))


def record_lines(records: Iterable[tuple[bytes, str | None]]) -> list[Line]:
    """
    The lines of the kernel's own log, which nobody has wrapped.

    :param records: The texts of its records, and who wrote each.
    """
    return [
        Line((Joined(printable(one_space(line)).strip()),), caller)
        for text, caller in records
        for line in LINE_END.split(text.decode("utf-8", "replace"))
        if line.strip()
    ]
