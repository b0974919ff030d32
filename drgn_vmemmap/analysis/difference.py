# SPDX-License-Identifier: LGPL-2.1-or-later

"""
How two reports differ.

Reports of one kernel are compared folio by folio. Of two kernels, the PFNs mean nothing to
each other: savings and rules are compared. What memory that is missing from a dump may hide is
no difference: it is counted as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.analysis.comparable import Comparable, Document
from drgn_vmemmap.analysis.document import FOLIO_FIELDS
from drgn_vmemmap.analysis.report import Selection
from drgn_vmemmap.rules.rule import RULES

# The address of the head page depends on KASLR, and says nothing of the folio.
_COMPARED = [name for name in FOLIO_FIELDS if name not in ("pfn", "head")]

# Fields that only the page tables decide.
_OF_ENTRIES = (
    "verdict",
    "layout",
    "mapped_by",
    "reuse_frame",
    "shared",
    "read_only",
    "freed",
)

Pair = tuple[int, int]
"""A number in the first report, and in the second."""


class Change(NamedTuple):
    """The change of one folio."""

    pfn: int
    kind: str
    """``appeared``, ``went``, ``optimized``, ``restored`` or ``changed``."""
    before: Document | None
    """The folio's fields in the first report; ``None`` if it was not there."""
    after: Document | None
    """The folio's fields in the second report; ``None`` if it is not there."""
    fields: list[str]
    """Names of the fields that differ."""


class Difference(NamedTuple):
    """How two reports differ."""

    kernels: tuple[str, str]
    """The releases."""
    same_kernel: bool
    """Whether folios are compared by PFN; of two kernels, they are not."""
    hosts: tuple[str, str]
    """Names of the hosts; empty where a report does not say it."""
    two_boots: bool
    """Whether they are certain to be of two boots: folios at the same PFN are not the same one."""
    changes: list[Change]
    """In ascending order of PFN."""
    unknown: list[int]
    """PFNs of the folios that may have changed: missing memory leaves it open."""
    outside: Pair
    """How many folios of each report are outside of what the other one was narrowed to."""
    incomplete: tuple[bool, bool]
    """Whether each report lacks memory that it needed, or was interrupted."""
    totals: dict[str, Pair]
    """Each total; none where the reports do not cover the same folios completely."""
    hstates: dict[str, dict[str, Pair]]
    """The counts of each hstate, by its name; empty unless the kernels are different ones."""
    rules: dict[str, Pair]
    """Findings of each rule that both reports checked."""
    unknown_rules: list[str]
    """Rules with other numbers of findings, which not both reports checked."""

    @property
    def differs(self) -> bool:
        """Whether anything is certain to differ."""
        return bool(self.changes) or any(
            before != after
            for numbers in (self.totals, self.rules, *self.hstates.values())
            for before, after in numbers.values()
        )

    @property
    def complete(self) -> bool:
        """Whether everything that the reports list was compared."""
        return not (any(self.incomplete) or any(self.outside) or self.unknown or self.unknown_rules)


def difference(before: Comparable, after: Comparable) -> Difference:
    """
    Compare two reports.

    :param before: The first report.
    :param after: The second report.
    """
    same_kernel = _identity(before) == _identity(after)
    changes: list[Change] = []
    unknown: list[int] = []
    outside = 0, 0
    if same_kernel:
        for pfn, change in _compared(before, after):
            if change is None:
                unknown.append(pfn)
            else:
                changes.append(change)
        outside = _outside(before, after), _outside(after, before)
    countable = not (before.incomplete or after.incomplete)
    countable = countable and before.selection == after.selection
    rules, unknown_rules = _rules(before, after) if countable else ({}, [])
    return Difference(
        kernels=(before.release, after.release),
        same_kernel=same_kernel,
        hosts=(before.host, after.host),
        two_boots=_are_two_boots(before, after),
        changes=changes,
        unknown=unknown,
        outside=outside,
        incomplete=(before.incomplete, after.incomplete),
        totals=_totals(before.totals, after.totals) if countable else {},
        hstates=_hstates(before, after) if countable and not same_kernel else {},
        rules=rules,
        unknown_rules=unknown_rules,
    )


def _are_two_boots(before: Comparable, after: Comparable) -> bool:
    """Whether KASLR put the vmemmap at another place; reports of earlier versions do not say it."""
    one, other = before.vmemmap_base, after.vmemmap_base
    return bool(one and other) and one != other


def _identity(report: Comparable) -> tuple[object, ...]:
    """Facts that differ between two kernels, but not between two boots of one."""
    return report.release, report.layout, report.struct_page_size


def _compared(before: Comparable, after: Comparable) -> Iterator[tuple[int, Change | None]]:
    """PFN of each folio that changed, and how; ``None`` where that cannot be known."""
    for pfn in sorted({*before.folios, *after.folios}):
        one, other = before.folios.get(pfn), after.folios.get(pfn)
        if one is None or other is None:
            present = one or other or {}
            absent_from = before if one is None else after
            if not _covers(absent_from.selection, present):
                continue
            if absent_from.incomplete:
                yield pfn, None
            else:
                yield pfn, Change(pfn, "appeared" if one is None else "went", one, other, [])
            continue
        # A report of an earlier version may lack a field.
        both = [name for name in _COMPARED if name in one and name in other]
        differing = [name for name in both if one[name] != other[name]]
        certain = [name for name in differing if _is_known(name, one, before)]
        certain = [name for name in certain if _is_known(name, other, after)]
        if certain:
            yield pfn, Change(pfn, _kind(one, other), one, other, certain)
        elif differing or "unreadable" in (one.get("verdict"), other.get("verdict")):
            yield pfn, None


def _is_known(name: str, folio: Document, report: Comparable) -> bool:
    """Whether a field's value is certain, whatever memory is missing from the dump."""
    if name in _OF_ENTRIES and folio.get("verdict") == "unreadable":
        return False
    if not report.incomplete:
        return True
    # A list that could not be followed leaves its folios on none.
    return folio.get(name) is not None and folio.get(name) != "off-list"


def _kind(before: Document, after: Document) -> str:
    verdicts = before.get("verdict"), after.get("verdict")
    if verdicts[0] not in (verdicts[1], "unreadable") and verdicts[1] == "optimized":
        return "optimized"
    return "restored" if verdicts == ("optimized", "unoptimized") else "changed"


def _covers(selection: Selection, folio: Document) -> bool:
    """
    Whether a report that is narrowed so would list a folio, whatever became of it.

    Of a report that is narrowed to a verdict, that cannot be said.
    """
    pfn, order = folio["pfn"], folio["order"]
    return (
        selection.verdict is None
        and selection.hstate in (None, folio.get("hstate"))
        and selection.node in (None, folio.get("node"))
        and (selection.pfn is None or pfn <= selection.pfn < pfn + (1 << order))
    )


def _outside(report: Comparable, other: Comparable) -> int:
    return sum(
        pfn not in other.folios and not _covers(other.selection, folio)
        for pfn, folio in report.folios.items()
    )


def _totals(before: dict[str, int], after: dict[str, int]) -> dict[str, Pair]:
    """The totals that both reports have: a report of another version may lack some."""
    return {name: (count, after[name]) for name, count in before.items() if name in after}


def _hstates(before: Comparable, after: Comparable) -> dict[str, dict[str, Pair]]:
    return {
        name: _pairs(before.hstates.get(name, {}), after.hstates.get(name, {}))
        for name in {**before.hstates, **after.hstates}
    }


def _rules(before: Comparable, after: Comparable) -> tuple[dict[str, Pair], list[str]]:
    """
    Rules with findings; those that only ``verify`` runs, if it made both reports.

    :return: How many findings each rule has, and the rules that cannot be compared.
    """
    both = before.verified and after.verified
    skipped = {rule.name for rule in RULES.values() if rule.verify_only and not both}
    unchecked = before.unchecked | after.unchecked
    # A rule of a later version: the version that wrote the other report may not have it.
    unchecked |= (before.rules.keys() ^ after.rules.keys()) - RULES.keys()
    found = _pairs(before.rules, after.rules)
    found = {rule: pair for rule, pair in found.items() if rule not in skipped}
    unknown = [rule for rule, (one, other) in found.items() if one != other and rule in unchecked]
    return {rule: pair for rule, pair in found.items() if rule not in unknown}, unknown


def _pairs(before: dict[str, int], after: dict[str, int]) -> dict[str, Pair]:
    return {name: (before.get(name, 0), after.get(name, 0)) for name in {**before, **after}}
