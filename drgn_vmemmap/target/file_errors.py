# SPDX-License-Identifier: LGPL-2.1-or-later

"""The errors of reading a file that may be damaged: offsets in it may lead anywhere."""

from __future__ import annotations

import errno
import struct

FILE_ERRORS = (OSError, OverflowError, ValueError, struct.error)
"""What reading such a file may raise."""


def is_unreadable(error: Exception) -> bool:
    """Whether an error says that a file cannot be read, and not that offsets in it are wrong."""
    return isinstance(error, OSError) and error.errno != errno.EINVAL
