# SPDX-License-Identifier: LGPL-2.1-or-later

"""
From a program to a report: the doors for scripts.

What only one of them needs is imported when it is opened: starting takes longer than looking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import drgn

from drgn_vmemmap.kernel import Kernel, discover, page_names
from drgn_vmemmap.live import steady
from drgn_vmemmap.memory import ProgramMemory
from drgn_vmemmap.pagetable import Walker
from drgn_vmemmap.progress import UNWATCHED, Work
from drgn_vmemmap.report import EVERYTHING, Report, Selection, look

if TYPE_CHECKING:
    from drgn_vmemmap.examples import Example
    from drgn_vmemmap.explain import Explainer


def examine(
    prog: drgn.Program,
    selection: Selection = EVERYTHING,
    system_map: str | None = None,
    work: Work = UNWATCHED,
) -> Report:
    """
    Look at a kernel.

    :param prog: Any target of drgn that is an x86-64 Linux kernel.
    :param selection: What to narrow the report to.
    :param system_map: See :func:`discover()`.
    :param work: What the user sees of it meanwhile.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    kernel = discover(prog, system_map)
    return _steadily(kernel, lambda: look(kernel, _walker(prog, kernel), selection, work))


def verify(prog: drgn.Program, system_map: str | None = None, work: Work = UNWATCHED) -> Report:
    """
    Look at a kernel, and check all that can be checked.

    :param prog: Any target of drgn that is an x86-64 Linux kernel.
    :param system_map: See :func:`discover()`.
    :param work: What the user sees of it meanwhile.
    :return: The report, with the findings of every rule.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    from drgn_vmemmap.verification import check

    kernel = discover(prog, system_map)
    return _steadily(kernel, lambda: check(kernel, _walker(prog, kernel), work))


def examples(prog: drgn.Program, report: Report) -> list[Example]:
    """
    Folios to be drawn: one of each look in a report, with its entries.

    :param prog: What the report is of.
    """
    from drgn_vmemmap.examples import take_examples

    return take_examples(report.kernel, _walker(prog, report.kernel), report.folios)


def is_live(prog: drgn.Program) -> bool:
    """Whether a program is a kernel that runs."""
    return bool(prog.flags & drgn.ProgramFlags.IS_LIVE)


def looks(prog: drgn.Program, system_map: str | None = None) -> Callable[[], Report]:
    """
    What takes fresh looks at a kernel, with all checks.

    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    from drgn_vmemmap.verification import check

    kernel = discover(prog, system_map)
    return lambda: check(kernel, _walker(prog, kernel))


def explainer(
    prog: drgn.Program, system_map: str | None = None, work: Work = UNWATCHED
) -> Explainer:
    """
    What explains addresses of a kernel.

    :param prog: Any target of drgn that is an x86-64 Linux kernel.
    :param system_map: See :func:`discover()`.
    :param work: What the user sees of it meanwhile.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    from drgn_vmemmap.explain import Explainer

    kernel = discover(prog, system_map)
    return Explainer(kernel, _walker(prog, kernel), page_names(prog), work)


def _walker(prog: drgn.Program, kernel: Kernel) -> Walker:
    """A walker for one look."""
    return Walker(ProgramMemory(prog), kernel.paging)


def _steadily(kernel: Kernel, take_look: Callable[[], Report]) -> Report:
    """Look once at what does not move, and more often at what does."""
    return steady(take_look) if kernel.live else take_look()
