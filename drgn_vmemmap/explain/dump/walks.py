# SPDX-License-Identifier: LGPL-2.1-or-later

"""The walk that a fault logged beside the walk in the dump, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drgn_vmemmap.explain.error_code import NO_ENTRY, PROTECTION
from drgn_vmemmap.explain.log.mention import LoggedWalk
from drgn_vmemmap.paging.leaf import Leaf
from drgn_vmemmap.paging.mapping import Step
from drgn_vmemmap.paging.x86_64 import is_present, without_use

_TOP_LEVELS = ("PGD", "P4D", "PUD")


class EntryThen(NamedTuple):
    """An entry as a fault logged it, and as it is in the dump."""

    level: str
    then: int
    now: int | None
    """``None`` if the walk in the dump does not reach it, or its table is not in the dump."""

    @property
    def is_same(self) -> bool:
        """Whether it is the same but for what the processor sets by itself."""
        return self.now is not None and without_use(self.then) == without_use(self.now)

    @property
    def is_other_table(self) -> bool:
        """Whether it led to another table at the top, where a running kernel moves none."""
        return (
            self.level in _TOP_LEVELS
            and not self.is_same
            and is_present(self.then)
            and is_present(self.now or 0)
        )


def compare(walk: LoggedWalk, steps: Iterable[Step]) -> list[EntryThen]:
    """
    The entries of a logged walk, each with that of the dump.

    With four levels of tables, the kernel logs the PGD a second time as P4D.
    """
    now = {step.level.name: step.raw for step in steps}
    return [
        EntryThen(name, raw, now.get(name))
        for name, raw in walk.entries
        if name in now or name != "P4D"
    ]


def causes(
    then: Leaf | None, entries: list[EntryThen], access: str, error_code: int | None
) -> Iterator[str]:
    """
    Why an access faulted that the tables of ``init_mm`` in the dump allow.

    :param then: What the logged walk led to; ``None`` without one.
    :param entries: The logged entries beside the dump's.
    """
    others = [what for bit, what in NO_ENTRY if (error_code or 0) & bit]
    if others:
        yield from others
    elif then is None:
        yield from _causes_without_walk(error_code)
    elif then.allows(access) and error_code is not None and not error_code & PROTECTION:
        yield (
            "the logged entries allow it too, but the page was not mapped when it faulted: an "
            "entry was written between the fault and the walk"
        )
    elif then.allows(access):
        yield (
            "the logged entries allow it too: the processor used a stale TLB entry, or the entry "
            "was written between the fault and the walk; which processor faulted, and whether a "
            "flush was under way, distinguishes the two"
        )
    elif any(not is_present(entry.then) and entry.level in _TOP_LEVELS[:2] for entry in entries):
        yield (
            "the logged walk ends at the top level, where init_mm has an entry: the page table of "
            "the task had not been synchronised with init_mm"
        )
    else:
        yield f"the logged {then.level} forbids it: the page was remapped since"


def _causes_without_walk(error_code: int | None) -> Iterator[str]:
    yield "the log has no walk (PGD ... PTE), which would distinguish these causes:"
    yield "- the page was remapped since the fault: the logged entry forbids the access"
    if error_code is None or error_code & PROTECTION:
        yield "- a stale TLB entry was used: the logged entry allows the access"
    if error_code is None or not error_code & PROTECTION:
        yield (
            "- the page table of the task was not synchronised with init_mm: the logged PGD or "
            "P4D is not present"
        )
