# SPDX-License-Identifier: LGPL-2.1-or-later

"""Where a result goes: to standard output, or to a file."""

from __future__ import annotations

import contextlib
import os
import sys


def write(text: str, path: str | None) -> None:
    """Write a result to standard output, or whole or not at all to a file."""
    if path is None:
        sys.stdout.write(text)
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
