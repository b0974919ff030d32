# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The versions of the kernel whose messages were read.

Each wording has the first and the last of these versions that have it. It may go on, or begin
earlier, in a version that was not read: v5.18, v6.15, v6.16, v6.17.
"""

from __future__ import annotations

READ = (
    *("v5.14", "v5.15", "v5.16", "v5.17", "v5.19"),
    *("v6.0", "v6.1", "v6.2", "v6.3", "v6.4", "v6.5", "v6.6", "v6.7", "v6.8", "v6.9"),
    *("v6.10", "v6.11", "v6.12", "v6.13", "v6.14", "v6.18", "v6.19"),
    *("v7.0", "v7.1", "v7.2", "v7.3"),
)
"""The versions that were read, oldest first."""

ALL = f"{READ[0]} to {READ[-1]}"
"""Every version."""

OLDER = f"before {READ[0]}"
"""None that was read; logs of older kernels and of distributions' kernels have it."""
