# SPDX-License-Identifier: LGPL-2.1-or-later

"""Where a result goes: to standard output, or to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drgn_vmemmap.output.terminal import Style


def style_for(path: str | None) -> Style:
    """What can be shown where a result goes: a file has no colours."""
    from drgn_vmemmap.output.terminal import PLAIN, Style

    return PLAIN if path is not None else Style.of(sys.stdout)


def write(text: str | Iterable[str], path: str | None) -> None:
    """
    Write a result to standard output, or whole or not at all to a file.

    :param text: All of it, or pieces of it.
    """
    pieces = (text,) if isinstance(text, str) else text
    if path is None:
        sys.stdout.writelines(pieces)
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(pieces)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
