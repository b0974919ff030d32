# SPDX-License-Identifier: LGPL-2.1-or-later

"""A finding: one place where a rule does not hold."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """How bad a finding is."""

    ERROR = "error"
    """The kernel's state is broken."""
    WARNING = "warning"
    """Something does not add up, or is not in the dump."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One place where a rule does not hold."""

    rule: str
    severity: Severity
    message: str
    folio: int | None = None
    """Head PFN."""
    index: int | None = None
    """Index of the vmemmap page in its folio."""
    address: int | None = None
    """Virtual address in bytes."""
    entry: int | None = None
    """Raw page-table entry."""
    entry_address: int | None = None
    """Physical address in bytes of that entry."""
    expected: str = ""
    """What should be there."""
