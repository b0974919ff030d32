# SPDX-License-Identifier: LGPL-2.1-or-later

"""Bits of a page fault's error code: ``enum x86_pf_error_code``."""

from __future__ import annotations

PROTECTION = 1 << 0
"""An entry forbade the access; otherwise, the page was not mapped."""
WRITE = 1 << 1
USER = 1 << 2
"""An access of user space, not of the kernel: an entry has to allow those."""
RESERVED = 1 << 3
"""An entry had a reserved bit set."""
INSTRUCTION = 1 << 4
KEY = 1 << 5
"""A protection key forbade the access."""
RMP = 1 << 31
"""The reverse map table of SEV-SNP forbade the access."""

NO_ENTRY = (
    (RESERVED, "an entry had a reserved bit set: it was damaged, and no access was possible"),
    (KEY, "a protection key forbade it, not the entries"),
    (RMP, "the reverse map table of SEV-SNP (RMP) forbade it, not the entries"),
)
"""Error code bits of an access that was not forbidden by an entry's permissions, and what did."""
