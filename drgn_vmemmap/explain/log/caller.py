# SPDX-License-Identifier: LGPL-2.1-or-later

"""The tasks and processors that write to a log, each with the state of its own lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.explain.log.facts import DETAIL_DISTANCE, OOPS_DISTANCE
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.log.subject import Subject


class Latest(NamedTuple):
    """The latest mention, and the number of its line."""

    mention: Mention
    line: int
    before: int
    """How many mentions there were before this line, or before the one that named it first."""


@dataclass
class Caller:
    """A task or a processor that writes to the log, and what its lines are about."""

    lines: int = 0
    """How many lines it has written so far."""
    latest: dict[Subject, Latest] = field(default_factory=dict)
    """The fault or page that it named last, for each subject of the lines after it."""
    cut_oops: Mention | None = None
    """The fault of an oops whose first line is not in the log, while its lines go on."""
    cut_oops_line: int = 0
    """The number of the last line of that oops."""
    other_dump_line: int = -OOPS_DISTANCE
    """The number of the line that began a dump which no page fault caused."""
    dump: tuple[Latest, str] | None = None
    """The mention whose registers and stack are dumped, and the line of the dump with the task."""
    undumped: Latest | None = None
    """The mention that the stack of an earlier event interrupted: its own dump may still follow."""
    reads_poison: bool = False
    """Whether its latest machine check was for poison that was read."""

    def since(self, line: int) -> int:
        """How many lines it has written since that of a number."""
        return self.lines - line

    def begin(self, mention: Mention, before: int, subjects: Iterable[Subject]) -> None:
        """
        Attribute the next lines to a mention, as far as they are about these subjects.

        :param before: How many mentions there were before it.
        """
        for earlier in self.latest.values():
            # The kernel names a bad page in two lines before it dumps the stack.
            is_dumped = self.dump is not None and self.dump[0] is earlier
            is_near = self.since(earlier.line) <= DETAIL_DISTANCE
            if earlier.mention is mention and is_near and not is_dumped:
                before = min(before, earlier.before)
        latest = Latest(mention, self.lines, before)
        self.latest.update((subject, latest) for subject in subjects)

    def forget(self) -> None:
        """Forget what was named: the next lines may be about something else."""
        self.latest.clear()
        self.undumped = None

    def begin_dump(self, task: str) -> None:
        """
        Begin a dump of registers and functions, unless it has begun.

        :param task: The line that names the task: each dump has one, which two loggers may have
            written twice.
        """
        latest, self.undumped = self.latest.get(Subject.STACK, self.undumped), None
        if latest is None:
            return
        if self.dump is None or self.dump[0] is not latest:
            self.dump = latest, task
            self.latest[Subject.STACK] = latest
        elif self.dump[1] != task:
            self.latest.pop(Subject.STACK, None)

    def begin_earlier_stack(self) -> None:
        """Attribute the next functions to nothing: they are of an earlier time."""
        self.other_dump_line = self.lines
        self.undumped = self.latest.pop(Subject.STACK, self.undumped)

    def begin_other_dump(self) -> None:
        """Attribute the next registers and functions to no page fault: none caused their dump."""
        self.other_dump_line, self.undumped = self.lines, None
        # A BUG or a WARNING may say more of an address; of a page fault, it is another dump.
        latest = self.latest
        if Subject.STACK in latest and latest[Subject.STACK] is latest.get(Subject.PAGE_FAULT):
            del latest[Subject.STACK]

    def end_dump(self) -> None:
        """
        Attribute the next registers and functions to nothing: they are of the boot's first oops.

        If no function of this oops is known, it may be the first one, and they are left to it.
        """
        latest = self.latest.get(Subject.STACK)
        if latest is not None and latest.mention.functions:
            self.other_dump_line, self.undumped = self.lines, None
            del self.latest[Subject.STACK]

    def end_other_dump(self) -> None:
        """
        Attribute the next registers and functions to the page fault that this line is of.

        The kernel dumps one fault at a time, but it does not wait with the line that names a BUG,
        which may be between those of another dump.
        """
        self.other_dump_line = -OOPS_DISTANCE
        fault = self.latest.get(Subject.PAGE_FAULT)
        if fault is not None and self.since(fault.line) <= DETAIL_DISTANCE:
            self.latest[Subject.STACK] = fault
