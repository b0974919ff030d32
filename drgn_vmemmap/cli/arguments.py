# SPDX-License-Identifier: LGPL-2.1-or-later

"""Arguments that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PFN_LIMIT


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Add ``--format``, one of some formats; ``table`` by default."""
    parser.add_argument("--format", choices=formats, default="table", help="default: %(default)s")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``, the file that the result goes to."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=_output,
        help="write to a file; - is standard output",
    )


def _output(path: str) -> str | None:
    """The path of a file to write; ``None`` for standard output."""
    return None if path == "-" else nonempty(path)


def nonempty(text: str) -> str:
    """
    The name of a file, or the like.

    :raises argparse.ArgumentTypeError: if it is empty, as a variable is that is not set.
    """
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def add_system_map(parser: argparse.ArgumentParser) -> None:
    """Add ``--system-map``."""
    parser.add_argument(
        "--system-map",
        type=nonempty,
        metavar="FILE",
        help="the symbols of a kernel before 6.0, in place of debugging symbols",
    )


def number(text: str) -> int:
    """
    A number, such as 10 or 0xa.

    :raises argparse.ArgumentTypeError: if it is not a number, or negative.
    """
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 10 or 0xa")
    return value


def seconds(text: str) -> float:
    """
    Seconds.

    :raises argparse.ArgumentTypeError: if it is not a number of seconds, a day at most.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to a day")
    return value


def pfn(text: str) -> int:
    """
    The PFN of ``pfn:NUMBER``, or of a physical address with or without a unit.

    :raises argparse.ArgumentTypeError: if it is neither.
    """
    number, shift = text, PAGE_SHIFT
    if text.startswith("pfn:"):
        number, shift = text[4:], 0
    unit = "KMGT".find(text[-1:].upper()) + 1 if shift else 0
    try:
        value = int(number[:-1] if unit else number, 0) << 10 * unit >> shift
    except ValueError:
        value = -1
    if not 0 <= value < PFN_LIMIT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a place in memory: give a physical address, such as 4G, or "
            "pfn:NUMBER, such as pfn:0x2c00"
        )
    return value
