# SPDX-License-Identifier: LGPL-2.1-or-later

"""The errors of reading a file that may be damaged: numbers in it may lead anywhere."""

from __future__ import annotations

import errno
import struct

FILE_ERRORS = (OSError, OverflowError, ValueError, struct.error)
"""What reading such a file may raise."""


def is_unreadable(error: Exception) -> bool:
    """Whether an error is of reading a file, and not of numbers in it that lead nowhere."""
    return isinstance(error, OSError) and error.errno != errno.EINVAL
