# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Show, verify and explain what HugeTLB vmemmap optimization (HVO) did to a kernel.

Scripts begin with ``examine()`` and ``verify()``; ``discover()``, ``Walker`` and the rest are what
these are made of:

    >>> import drgn_vmemmap
    >>> report = drgn_vmemmap.examine(prog)
    >>> report.totals.counts.as_dict()["optimized"]
    64
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from drgn_vmemmap.requirements import check_python

check_python()

if TYPE_CHECKING:
    from drgn_vmemmap.analysis.report import Report, Selection
    from drgn_vmemmap.api import examine, verify
    from drgn_vmemmap.cli.exit_codes import exit_code_of, report_code
    from drgn_vmemmap.errors import CannotAnalyse
    from drgn_vmemmap.kernel.discovery import discover
    from drgn_vmemmap.kernel.facts import Kernel
    from drgn_vmemmap.paging.walker import Walker
    from drgn_vmemmap.target.memory import ProgramMemory

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
    "exit_code_of",
    "report_code",
    "verify",
)

_MODULES = {
    "CannotAnalyse": "errors",
    "Kernel": "kernel.facts",
    "discover": "kernel.discovery",
    "ProgramMemory": "target.memory",
    "Walker": "paging.walker",
    "Report": "analysis.report",
    "Selection": "analysis.report",
    "examine": "api",
    "exit_code_of": "cli.exit_codes",
    "report_code": "cli.exit_codes",
    "verify": "api",
}


def __getattr__(name: str) -> Any:
    # Modules are imported when asked for, so that --help starts at once.
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    # What is not imported yet is there, too: drgn's prompt completes these names.
    return sorted({*globals(), *__all__})
