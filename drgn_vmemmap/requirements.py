# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The oldest Python and the oldest drgn that this tool runs with.

What is too old is refused in one line, and with the exit code of a target that cannot be analysed.
This module, and what imports it before the check, must run with Python 3.6.
"""

import re
import sys
from typing import NoReturn

PYTHON = (3, 9)
DRGN = (0, 0, 31)

_CANNOT = 2


def check_python() -> None:
    """
    :raises SystemExit: if this Python is too old.
    """
    if sys.version_info < PYTHON:
        _refuse("Python", PYTHON, "this is Python {}.{}.{}".format(*sys.version_info))


def check_drgn() -> None:
    """
    :raises SystemExit: if drgn is too old, or not installed.
    """
    try:
        import drgn
    except ImportError as error:
        _refuse("drgn", DRGN, f"it cannot be imported ({error}): pip install drgn")
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", drgn.__version__)
    if numbers is not None and tuple(map(int, numbers.groups())) < DRGN:
        _refuse("drgn", DRGN, f"this is drgn {drgn.__version__}: pip install --upgrade drgn")


def _refuse(name: str, oldest: "tuple[int, ...]", reason: str) -> NoReturn:
    version = ".".join(map(str, oldest))
    print(f"drgn-vmemmap: needs {name} {version} or later; {reason}", file=sys.stderr)
    raise SystemExit(_CANNOT)
