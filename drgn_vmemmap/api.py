# SPDX-License-Identifier: LGPL-2.1-or-later

"""
From a program to a report: where scripts begin.

What only one function needs is imported by it: imports take longer than most reports.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Callable

import drgn

from drgn_vmemmap.analysis.analyse import analyse
from drgn_vmemmap.analysis.live import Target, confirm
from drgn_vmemmap.analysis.report import EVERYTHING, Report, Selection
from drgn_vmemmap.errors import MissingFacts, MissingMemory
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.origin import read_origin
from drgn_vmemmap.kernel.trampoline import Trampoline
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot

if TYPE_CHECKING:
    from drgn_vmemmap.analysis.samples import Sample


def examine(
    prog: drgn.Program,
    selection: Selection = EVERYTHING,
    system_map: str | None = None,
    progress: Progress = SILENT,
) -> Report:
    """
    Analyse a kernel.

    :param prog: Any target of drgn that is an x86-64 Linux kernel.
    :param selection: What to narrow the report to.
    :param system_map: See :func:`discover()`.
    :param progress: Shows the user how far the analysis is, and may end it early.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    kernel = discover(prog, system_map)
    return _confirmed(
        prog, kernel, lambda: analyse(_snapshot(prog, kernel), selection, progress), progress
    )


def verify(
    prog: drgn.Program, system_map: str | None = None, progress: Progress = SILENT
) -> Report:
    """
    Analyse a kernel, and check every rule.

    :param prog: Any target of drgn that is an x86-64 Linux kernel.
    :param system_map: See :func:`discover()`.
    :param progress: Shows the user how far the analysis is, and may end it early.
    :return: The report, with the findings of every rule.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    from drgn_vmemmap.analysis.verify import check

    kernel = discover(prog, system_map)
    return _confirmed(prog, kernel, lambda: check(_snapshot(prog, kernel), progress), progress)


def samples(prog: drgn.Program, report: Report) -> list[Sample]:
    """
    Folios to be drawn: one of each shape in a report, with its entries.

    :param prog: The program that the report is of.
    """
    from drgn_vmemmap.analysis.samples import take_samples

    return take_samples(_snapshot(prog, report.kernel), report.folios)


def is_live(prog: drgn.Program) -> bool:
    """Whether a program is a kernel that runs."""
    return bool(prog.flags & drgn.ProgramFlags.IS_LIVE)


def target(
    prog: drgn.Program, system_map: str | None = None, progress: Progress = SILENT
) -> Target:
    """
    A live kernel that can be analysed again and again, with every rule.

    :param system_map: See :func:`discover()`.
    :param progress: May end a pass early.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    """
    from drgn_vmemmap.analysis.verify import check

    kernel = discover(prog, system_map)

    def take_pass() -> Report:
        # HVO's switch and the size of memory may change between passes.
        fresh = discover(prog, system_map)
        return check(_snapshot(prog, fresh), progress)

    return Target(take_pass, presence(prog, kernel))


def presence(prog: drgn.Program, kernel: Kernel) -> Callable[[], bool]:
    """
    Make the check whether a live kernel can still be read.

    :return: :attr:`Target.is_there`; it raises :exc:`MissingFacts` if another kernel was started in
        the memory of this one.
    """
    # A reset of the machine itself ends this process; a reset of a guest does not.
    is_guest = not prog.flags & drgn.ProgramFlags.IS_LOCAL
    trampoline = Trampoline(prog, kernel) if is_guest else None

    def is_there() -> bool:
        try:
            ProgramMemory(prog).read(kernel.paging.root, kernel.architecture.entry_size)
        except MissingMemory:
            return False
        if trampoline is not None and trampoline.is_of_another_kernel():
            raise MissingFacts("the guest was reset, and another kernel runs: open it again")
        return True

    return is_there


def _snapshot(prog: drgn.Program, kernel: Kernel) -> Snapshot:
    """A kernel at this moment."""
    return Snapshot(kernel, ProgramMemory(prog))


def _confirmed(
    prog: drgn.Program, kernel: Kernel, take_pass: Callable[[], Report], progress: Progress
) -> Report:
    """Analyse a dump once, and a live kernel until its findings are confirmed."""
    origin = read_origin(prog, _snapshot(prog, kernel).read)
    if kernel.live:
        report = confirm(Target(take_pass, presence(prog, kernel)), progress)
    else:
        report = take_pass()
    return replace(report, origin=origin)
