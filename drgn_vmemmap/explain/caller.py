# SPDX-License-Identifier: LGPL-2.1-or-later

"""The tasks and processors that write to a log, each with the state of its own lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.explain.facts import DETAIL_DISTANCE, OOPS_DISTANCE
from drgn_vmemmap.explain.mention import Mention
from drgn_vmemmap.explain.subject import Subject


class Latest(NamedTuple):
    """What was named last, and in which line."""

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
    fragment: Mention | None = None
    """A fault whose first line is not in the log; ``None`` if its lines are of no such fault."""
    fragment_line: int = 0
    """The number of the last line that is of the fragment."""
    other_dump_line: int = -OOPS_DISTANCE
    """The number of the line in which it began to dump registers without a page fault."""
    dump: tuple[Latest, str] | None = None
    """What is dumped, and the line that names the task."""
    undumped: Latest | None = None
    """What may still be dumped after functions of another time."""
    reads_poison: bool = False
    """Whether its latest machine check was for poison that was read."""

    def begin(self, mention: Mention, before: int, subjects: Iterable[Subject]) -> None:
        """Take the next lines for lines on a mention, if they are of these subjects."""
        for earlier in self.latest.values():
            # The kernel names a bad page in two lines before it dumps the stack.
            is_dumped = self.dump is not None and self.dump[0] is earlier
            is_near = self.lines - earlier.line <= DETAIL_DISTANCE
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
        Take the line of a dump that names its task.

        Each dump has one; two loggers may have written it twice.
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
        """Take the next functions for those of another time."""
        self.other_dump_line = self.lines
        self.undumped = self.latest.pop(Subject.STACK, self.undumped)

    def begin_other_dump(self) -> None:
        """Take the next registers and functions for those of no page fault."""
        self.other_dump_line, self.undumped = self.lines, None
        # A BUG or a WARNING may say more of an address; of a page fault, it is another dump.
        latest = self.latest
        if Subject.STACK in latest and latest[Subject.STACK] is latest.get(Subject.PAGE_FAULT):
            del latest[Subject.STACK]

    def end_dump(self) -> None:
        """
        Take the next registers and functions for those of an earlier oops.

        Where no function of this one is known, they are all that the log may have of it.
        """
        latest = self.latest.get(Subject.STACK)
        if latest is not None and latest.mention.functions:
            self.other_dump_line, self.undumped = self.lines, None
            del self.latest[Subject.STACK]

    def end_other_dump(self) -> None:
        """
        Take the next registers and functions for those of the page fault that this line is of.

        The kernel dumps one fault at a time; the line that names a BUG does not wait for that.
        """
        self.other_dump_line = -OOPS_DISTANCE
        fault = self.latest.get(Subject.PAGE_FAULT)
        if fault is not None and self.lines - fault.line <= DETAIL_DISTANCE:
            self.latest[Subject.STACK] = fault
