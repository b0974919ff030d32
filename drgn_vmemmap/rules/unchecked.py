# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules that cannot be checked on a kernel of which a part was not recognised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.unrecognised import Part
from drgn_vmemmap.rules import rule
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.rules.rule import Rule

RESTS_ON: Mapping[Part, Sequence[Rule]] = {
    Part.LAYOUT: (
        rule.TAIL_WRITABLE,
        rule.HEAD_READ_ONLY,
        rule.REUSE_MISMATCH,
        rule.REUSE_INVALID,
        rule.FRAME_ALIASED,
        rule.FLAG_MISMATCH,
        rule.TAIL_CONTENT,
        rule.STALE_STRUCT_PAGE,
        rule.ORPHAN_REMAP,
    ),
    Part.SWITCH: (rule.UNOPTIMIZED,),
    Part.OPTIMIZED_FLAG: (rule.FLAG_MISMATCH,),
    Part.HSTATE_COUNTERS: (rule.COUNT_MISMATCH, rule.IN_FLIGHT),
    Part.HSTATE_LISTS: (rule.LIST_CORRUPT, rule.OFF_LIST, rule.COUNT_MISMATCH),
    Part.TAIL_WORDS: (rule.TAIL_CONTENT, rule.FRAME_FOREIGN),
    Part.OWNER_MARKS: (rule.FRAME_FOREIGN,),
    Part.FREE_PAGES: (rule.FRAME_FREED, rule.TABLE_FREED),
}
"""The rules that need each part."""

_NOT_AT_ALL = (Part.LAYOUT, Part.HSTATE_LISTS)
"""Without these parts, findings of their rules mean nothing; without others, rules find less."""


def unchecked(kernel: Kernel) -> dict[str, str]:
    """
    The rules that are not checked at all on a kernel, or not in all that they require.

    :return: Why, by the rule's name.
    """
    return {
        each.name: unrecognised.message
        for unrecognised in reversed(kernel.unrecognised)
        for each in RESTS_ON[unrecognised.part]
    }


def rules_without_meaning(kernel: Kernel) -> set[Rule]:
    """The rules whose findings mean nothing on a kernel."""
    return {
        each
        for unrecognised in kernel.unrecognised
        if unrecognised.part in _NOT_AT_ALL
        for each in RESTS_ON[unrecognised.part]
    }


def with_meaning(kernel: Kernel, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings that mean something on a kernel."""
    without = {each.name for each in rules_without_meaning(kernel)}
    return (finding for finding in findings if finding.rule not in without)
