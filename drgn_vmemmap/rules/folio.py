# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The rules on single folios: what must hold for the entries over each, and for its state.

A new rule is a function here and a line in :data:`FOLIO_CHECKS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple

from drgn_vmemmap.hugetlb.accounting import Accounting
from drgn_vmemmap.hugetlb.folio import FolioClass, State
from drgn_vmemmap.hugetlb.poison import failed_pages
from drgn_vmemmap.hvo.diagnosis import first_unprotected
from drgn_vmemmap.hvo.verdict import Judgement, Verdict, format_ranges
from drgn_vmemmap.kernel.layout import ZONE, Layout
from drgn_vmemmap.paging.mapping import Problem
from drgn_vmemmap.rules.context import FolioContext
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import (
    ENTRY_ATTRIBUTES,
    FLAG_MISMATCH,
    HEAD_READ_ONLY,
    IN_FLIGHT,
    NOT_PRESENT,
    OFF_LIST,
    POISONED,
    REUSE_INVALID,
    REUSE_MISMATCH,
    TAIL_WRITABLE,
    UNREADABLE,
    Rule,
)
from drgn_vmemmap.rules.unchecked import rules_without_meaning


def _not_present(context: FolioContext) -> Iterator[Finding]:
    """
    Every vmemmap page is mapped to memory, whatever HVO did: struct pages may
    be read at any time, by ``pfn_to_page()`` of any PFN (``mm/sparse-vmemmap.c``).
    """
    reported = None
    for index, entry in enumerate(context.entries):
        problem = entry.problem
        if problem is None or problem is Problem.UNREADABLE or context.maps_reuse_frame(entry):
            continue
        # An entry of a higher level stands for many pages, and is reported once.
        if entry.raw_address != reported:
            reported = entry.raw_address
            message = f"{entry.level.name} entry: {problem.value}"
            yield context.finding(NOT_PRESENT, message, index, "a present entry that maps memory")


def _tail_writable(context: FolioContext) -> Iterator[Finding]:
    """An entry that maps the reuse frame is ``PAGE_KERNEL_RO`` (``vmemmap_remap_pte()``)."""
    kept, judgement = context.kept, context.judgement
    if judgement.verdict is Verdict.OPTIMIZED:
        if judgement.read_only != judgement.shared:
            yield _partly_protected(context, judgement.read_only[-1][1] + 1)
        return
    if judgement.verdict is Verdict.PARTIAL:
        return
    unprotected = first_unprotected(context.entries)
    if unprotected is not None and context.maps_reuse_frame(context.entries[unprotected]):
        yield _partly_protected(context, unprotected)
        return
    for index, entry in enumerate(context.entries):
        if index >= kept and context.maps_reuse_frame(entry) and entry.access.writable:
            message = "shares the reuse frame and is writable"
            yield context.finding(TAIL_WRITABLE, message, index, context.tails)


def _partly_protected(context: FolioContext, index: int) -> Finding:
    """
    A gigantic folio from boot that its kernel write-protected only in part.

    :param index: Index of the first vmemmap page that was left writable.
    """
    message = "this page and those after it are writable: a kernel bug of v6.15 to v7.1"
    return context.finding(TAIL_WRITABLE, message, index, "read-only", Severity.WARNING)


def _head_read_only(context: FolioContext) -> Iterator[Finding]:
    """The entry of a page that keeps its frame is ``PAGE_KERNEL`` (``vmemmap_remap_pte()``)."""
    for index, entry in enumerate(context.entries[: context.kept]):
        if entry.frame is not None and not entry.access.writable:
            message = "must be writable and is read-only"
            yield context.finding(HEAD_READ_ONLY, message, index, "a frame of its own, writable")


def _reuse_mismatch(context: FolioContext) -> Iterator[Finding]:
    """A remap, and a roll-back, covers all tails of a folio (``vmemmap_remap_free()``)."""
    verdict = context.judgement.verdict
    if verdict is Verdict.PARTIAL or (verdict is Verdict.UNREADABLE and context.may_be_in_flight):
        return
    kept = context.kept
    shared = context.judgement.layout is not Layout.NONE
    own = "a frame of its own, writable"
    frames = Counter(entry.frame for entry in context.entries if entry.frame is not None)
    for index, entry in enumerate(context.entries):
        if entry.frame is None or context.maps_reuse_frame(entry):
            continue
        if index >= kept and shared:
            yield context.finding(
                REUSE_MISMATCH,
                f"has frame {entry.frame:#x} instead of the reuse frame "
                f"{context.judgement.reuse_frame:#x}",
                index,
                context.tails,
            )
        elif index >= kept and not entry.access.writable:
            message = "is read-only, but shares no frame"
            yield context.finding(REUSE_MISMATCH, message, index, own)
        elif entry.frame in (context.tail_frames or ()):
            message = "is mapped to the zone's tail frame"
            yield context.finding(REUSE_MISMATCH, message, index, own)
        elif frames[entry.frame] > 1:
            yield context.finding(REUSE_MISMATCH, f"shares frame {entry.frame:#x}", index, own)


def _reuse_invalid(context: FolioContext) -> Iterator[Finding]:
    """
    The reuse frame is memory, and the one that this kernel takes: the folio's
    own, or since v7.1 the zone's (``vmemmap_get_tail()``).
    """
    judgement, layout = context.judgement, context.kernel.hvo.layout
    frame, source = judgement.reuse_frame, judgement.layout.reuse_from
    if frame is None:
        return
    index = next(i for i, entry in enumerate(context.entries) if i and entry.frame == frame)
    expected = _reuse_frame_of(layout)
    reason = None
    if context.entries[index].problem is Problem.BEYOND_MEMORY:
        reason = "is beyond memory"
    elif judgement.layout is not layout:
        reason = f"is not what this kernel takes: {expected}"
    elif source is not ZONE and context.entries[source].frame not in (None, frame):
        reason = f"is not {expected}"
    elif source is ZONE and context.tail_frames is not None and frame not in context.tail_frames:
        reason = "is not registered for this zone and order"
    if reason is not None:
        yield context.finding(REUSE_INVALID, f"reuse frame {frame:#x} {reason}", index, expected)


def _reuse_frame_of(layout: Layout) -> str:
    """Where the reuse frame of a layout comes from, in words."""
    if layout is Layout.NONE:
        return "no reuse frame: this kernel has no HVO"
    if layout.reuse_from is ZONE:
        return "the frame that the zone keeps for this order"
    return f"the folio's own {('head', 'second', 'third', 'fourth')[layout.reuse_from]} frame"


def _flag_differs(folio_class: FolioClass, state: State, judgement: Judgement) -> bool:
    return folio_class.flag_optimized is (judgement.verdict is not Verdict.OPTIMIZED)


def _flag_mismatch(context: FolioContext) -> Iterator[Finding]:
    """``HPG_vmemmap_optimized`` is set while tails are remapped (``mm/hugetlb_vmemmap.c``)."""
    flag, layout = context.folio.flag_optimized, context.judgement.layout
    if flag is None or context.judgement.verdict is Verdict.UNREADABLE:
        return
    # The kernel sets and clears it some time before or after it remaps.
    if context.may_be_in_flight:
        return
    if flag and layout is Layout.NONE:
        message = "HPG_vmemmap_optimized is set, but the folio shares no frame"
        yield context.finding(FLAG_MISMATCH, message, None, "the flag clear")
    elif not flag and layout is not Layout.NONE:
        message = "HPG_vmemmap_optimized is not set, but tails share a frame"
        yield context.finding(FLAG_MISMATCH, message, None, "the flag set")


def _unreadable(context: FolioContext) -> Iterator[Finding]:
    """Tables and heads that cannot be read are named and counted, never guessed."""
    reported = None
    for index, entry in enumerate(context.entries):
        table = entry.raw_address & -context.kernel.page_size
        if entry.problem is Problem.UNREADABLE and table != reported:
            reported = table
            message = f"{entry.level.name} table is not in the dump"
            yield context.finding(UNREADABLE, message, index)
    if reported is None and context.judgement.verdict is Verdict.UNREADABLE:
        message = (
            "the zone's tail frames, or the head page that names the zone, are not in the dump"
        )
        yield context.finding(UNREADABLE, message)


def _off_list(context: FolioContext) -> Iterator[Finding]:
    """A folio in isolation, in migration or in the making is on no list (``mm/hugetlb.c``)."""
    if context.is_leaked:
        return
    if context.folio.state is State.OFF_LIST and not _is_in_flight(context):
        is_unknown = context.accounting is Accounting.UNREADABLE
        which = "none of the lists that could be followed" if is_unknown else "no list"
        yield context.finding(OFF_LIST, f"is on {which}")


def _is_in_flight(context: FolioContext) -> bool:
    """Whether a folio is on its way into or out of the pool, or looks as only such folios do."""
    folio, judgement = context.folio, context.judgement
    if context.is_leaked:
        return False
    if context.accounting in (Accounting.COUNTED, Accounting.UNCOUNTED):
        return context.accounting is Accounting.UNCOUNTED
    return judgement.verdict is Verdict.PARTIAL or (
        judgement.verdict in (Verdict.OPTIMIZED, Verdict.UNOPTIMIZED)
        and _flag_differs(folio.folio_class, folio.state, judgement)
    )


def _in_flight(context: FolioContext) -> Iterator[Finding]:
    """
    A folio is remapped before it is counted and on a list, and restored after that
    (``hugetlb_vmemmap_optimize_folios()``, ``hugetlb_vmemmap_restore_folio()``).
    """
    partial = context.judgement.verdict is Verdict.PARTIAL
    shared = format_ranges(context.judgement.shared)
    state = f"partly optimized, pages {shared} share a frame" if partial else "on no list"
    if _is_in_flight(context):
        if context.accounting is Accounting.UNCOUNTED:
            reason = "not counted: on its way into or out of the pool"
        else:
            reason = "on its way into or out of the pool, or its remap was given up half-way"
        yield context.finding(IN_FLIGHT, f"{state}; {reason}")
    elif partial:
        yield context.finding(
            IN_FLIGHT, f"{state}: a remap and its roll-back, or a restore, failed"
        )


def _entry_attributes(context: FolioContext) -> Iterator[Finding]:
    """Leaves are ``PAGE_KERNEL`` or ``PAGE_KERNEL_RO`` (``vmemmap_remap_pte()``)."""
    reported = None
    for index, entry in enumerate(context.entries):
        names = entry.unusual_attributes
        if names and entry.raw_address != reported:
            reported = entry.raw_address
            message = f"{entry.level.name} entry has {', '.join(names)}"
            expected = "no attributes but those of the kernel's own data"
            yield context.finding(ENTRY_ATTRIBUTES, message, index, expected)


def _poisoned(context: FolioContext) -> Iterator[Finding]:
    """
    Memory that failed is recorded on its folio (``folio_set_hugetlb_hwpoison()``).

    A folio whose failed pages are not known is never freed: it is leaked
    (``__update_and_free_hugetlb_folio()``).
    """
    if not context.folio.poisoned:
        return
    message = failed_pages(context.snapshot, context.folio).message
    if context.is_leaked:
        message += "; the folio left its pool, and the kernel leaks it on purpose"
    elif context.may_be_leaked:
        message += "; if the folio left its pool, the kernel leaks it on purpose"
    elif not context.may_be_in_flight and context.judgement.layout is not Layout.NONE:
        message += "; the folio is optimized: it stays in its pool until its vmemmap is restored"
    yield context.finding(POISONED, message)


Concerns = Callable[[FolioClass, State, Judgement], bool]
"""Whether a rule may fire for folios of a class, in a state, with a judgement."""


def _never(folio_class: FolioClass, state: State, judgement: Judgement) -> bool:
    return False


class FolioCheck(NamedTuple):
    """How a rule is checked on a single folio."""

    rule: Rule
    check: Callable[[FolioContext], Iterator[Finding]]
    concerns: Concerns = _never
    """Whether the rule may fire for folios whose entries are plainly what a layout requires."""


FOLIO_CHECKS: Sequence[FolioCheck] = (
    FolioCheck(NOT_PRESENT, _not_present),
    FolioCheck(TAIL_WRITABLE, _tail_writable, lambda _, __, found: found.read_only != found.shared),
    FolioCheck(HEAD_READ_ONLY, _head_read_only),
    FolioCheck(REUSE_MISMATCH, _reuse_mismatch),
    FolioCheck(REUSE_INVALID, _reuse_invalid),
    FolioCheck(FLAG_MISMATCH, _flag_mismatch, _flag_differs),
    FolioCheck(ENTRY_ATTRIBUTES, _entry_attributes),
    FolioCheck(UNREADABLE, _unreadable),
    FolioCheck(POISONED, _poisoned, lambda folio_class, _, __: folio_class.poisoned),
    FolioCheck(IN_FLIGHT, _in_flight, lambda _, state, __: state is State.OFF_LIST),
    FolioCheck(OFF_LIST, _off_list, lambda _, state, __: state is State.OFF_LIST),
)
"""All checks, in the order in which they are made."""


def check_folio(context: FolioContext) -> Iterator[Finding]:
    """All findings on one folio, in the order of the checks."""
    without_meaning = rules_without_meaning(context.kernel)
    for check in FOLIO_CHECKS:
        if check.rule not in without_meaning:
            yield from check.check(context)


def check_concerned(context: FolioContext) -> Iterator[Finding]:
    """Findings on a folio whose entries are plainly what a layout requires."""
    folio, without_meaning = context.folio, rules_without_meaning(context.kernel)
    for check in FOLIO_CHECKS:
        concerned = check.concerns(folio.folio_class, folio.state, context.judgement)
        if concerned and check.rule not in without_meaning:
            yield from check.check(context)


def concerns_any(folio_class: FolioClass, state: State, judgement: Judgement) -> bool:
    """Whether a rule may fire for folios whose entries are plainly what a layout requires."""
    return any(check.concerns(folio_class, state, judgement) for check in FOLIO_CHECKS)
