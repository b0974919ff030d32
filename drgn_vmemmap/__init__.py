# SPDX-License-Identifier: LGPL-2.1-or-later

"""
HugeTLB vmemmap optimization (HVO), looked at through drgn.

``examine()`` and ``verify()`` are the doors for scripts; ``discover()``, ``Walker`` and the rest
are the rooms behind it:

    >>> import drgn_vmemmap
    >>> report = drgn_vmemmap.examine(prog)
    >>> report.totals.counts.optimized
    64
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drgn_vmemmap.cli import telling
    from drgn_vmemmap.examination import examine, verify
    from drgn_vmemmap.kernel import CannotAnalyse, Kernel, discover
    from drgn_vmemmap.memory import ProgramMemory
    from drgn_vmemmap.pagetable import Walker
    from drgn_vmemmap.report import Report, Selection

__version__ = "0.1.0"

__all__ = (
    "CannotAnalyse",
    "Kernel",
    "ProgramMemory",
    "Report",
    "Selection",
    "Walker",
    "discover",
    "examine",
    "telling",
    "verify",
)

_ROOMS = {
    "CannotAnalyse": "kernel",
    "Kernel": "kernel",
    "discover": "kernel",
    "ProgramMemory": "memory",
    "Walker": "pagetable",
    "Report": "report",
    "Selection": "report",
    "examine": "examination",
    "telling": "cli",
    "verify": "examination",
}


def __getattr__(name: str) -> Any:
    # Rooms are opened when asked for, so that --help starts at once.
    try:
        room = _ROOMS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{room}"), name)
