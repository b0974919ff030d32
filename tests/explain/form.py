# SPDX-License-Identifier: LGPL-2.1-or-later

"""A form in which people have a log, and the plainest ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

Form = Callable[[Sequence[str]], bytes]


def each(pattern: str) -> Form:
    """A form that puts something around each line; ``{n}`` is its number, ``{s}`` its time."""

    def form(lines: Sequence[str]) -> bytes:
        rows = (
            pattern.format(line=line, n=n, s=f"{100 + n}.{n:06}") for n, line in enumerate(lines)
        )
        return "".join(f"{row}\n" for row in rows).encode()

    return form


dmesg = each("[  {s}] {line}")


def text(lines: Sequence[str], end: str = "\n") -> str:
    """As dmesg prints it."""
    return dmesg(lines).decode().replace("\n", end)


def quoted_of(form: Form, quote: bytes) -> Form:
    """With a mark before each line."""
    return lambda lines: b"".join(quote + row + b"\n" for row in form(lines).splitlines())


def cut_at(form: Form, columns: int) -> Form:
    """Cut at a margin, prefixes and all."""

    def cut(lines: Sequence[str]) -> bytes:
        rows = form(lines).decode().splitlines()
        parts = (row[n : n + columns] for row in rows for n in range(0, len(row), columns))
        return "\n".join(parts).encode()

    return cut


def in_a_letter(form: Form) -> Form:
    """In a text whose other lines begin otherwise."""
    return lambda lines: b"Hi,\n\nthis is the log:\n\n" + form(lines) + b"\nRegards\n"
