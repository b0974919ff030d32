# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The rules: what must hold, and a finding for each place where it does not.

A rule is a function of what was read and judged; it reads nothing itself.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import (
    Callable,
    NamedTuple,
)

from drgn_vmemmap.hugetlb import BrokenHstate, BrokenList, Counters, Folio, Hstate, State
from drgn_vmemmap.hvo import Judgement, Verdict, boot_protected
from drgn_vmemmap.kernel import Kernel, Layout
from drgn_vmemmap.memmap import MissingSections
from drgn_vmemmap.pagetable import Entry, Problem
from drgn_vmemmap.x86_64 import PAGE_SIZE


class Severity(enum.Enum):
    """How bad a finding is."""

    ERROR = "error"
    """The kernel's state is broken."""
    WARNING = "warning"
    """Something does not add up, or could not be seen."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One place where a rule does not hold."""

    rule: str
    severity: Severity
    message: str
    folio: int | None = None
    """Head PFN."""
    index: int | None = None
    """Index of the vmemmap page in its folio."""
    address: int | None = None
    """Virtual address in bytes."""
    entry: int | None = None
    """Raw page-table entry."""
    entry_address: int | None = None
    """Physical address in bytes of that entry."""


class Case(NamedTuple):
    """One folio with all that was read of it and concluded from it."""

    kernel: Kernel
    folio: Folio
    entries: Sequence[Entry]
    """How its vmemmap pages are mapped."""
    judgement: Judgement
    tail_frames: frozenset[int] | None
    """PFNs that the folio's zone keeps for its order; ``None`` if the dump does not tell."""

    @property
    def kept(self) -> int:
        """How many of the pages must be writable because the kernel writes them."""
        layout = self.judgement.layout
        return 1 if layout is Layout.NONE else layout.kept

    def finding(
        self,
        rule: str,
        message: str,
        index: int | None = None,
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """
        :param index: Index of the vmemmap page; ``None`` for the folio as a whole.
        """
        pfn = self.folio.pfn
        if index is None:
            return Finding(rule, severity, message, pfn, None, self.kernel.page_address(pfn))
        entry = self.entries[index]
        return Finding(
            rule, severity, message, pfn, index, entry.address, entry.raw, entry.raw_address
        )


def check_folio(case: Case) -> Iterator[Finding]:
    """All findings on one folio, in the order of the rules."""
    for rule in _FOLIO_RULES:
        yield from rule(case)


def not_present(case: Case) -> Iterator[Finding]:
    """
    Every vmemmap page is mapped to memory, whatever HVO did: struct pages may
    be read at any time, by ``pfn_to_page()`` of any PFN (``mm/sparse-vmemmap.c``).
    """
    told = None
    for index, entry in enumerate(case.entries):
        if entry.problem in (None, Problem.UNREADABLE) or _is_reuse(case, entry):
            continue
        # An entry of a higher level stands for many pages, and is told once.
        if entry.raw_address != told:
            told = entry.raw_address
            what = entry.problem.value if entry.problem else ""
            yield case.finding("not-present", f"{entry.level.name} entry: {what}", index)


def tail_writable(case: Case) -> Iterator[Finding]:
    """What maps the reuse frame is ``PAGE_KERNEL_RO`` (``vmemmap_remap_pte()``)."""
    kept = case.kept
    unprotected = boot_protected(case.entries)
    if unprotected is not None and _is_reuse(case, case.entries[unprotected]):
        message = "this one and those behind are writable: a kernel bug of v6.15 to v7.1"
        yield case.finding("tail-writable", message, unprotected, Severity.WARNING)
        return
    for index, entry in enumerate(case.entries):
        if index >= kept and _is_reuse(case, entry) and entry.access.writable:
            yield case.finding("tail-writable", "shares the reuse frame and is writable", index)


def head_read_only(case: Case) -> Iterator[Finding]:
    """What keeps a frame of its own is ``PAGE_KERNEL`` (``vmemmap_remap_pte()``)."""
    for index, entry in enumerate(case.entries[: case.kept]):
        if entry.frame is not None and not entry.access.writable:
            yield case.finding("head-read-only", "must be writable and is read-only", index)


def reuse_mismatch(case: Case) -> Iterator[Finding]:
    """A remap, and a roll-back, covers all tails of a folio (``vmemmap_remap_free()``)."""
    kept = case.kept
    shared = case.judgement.layout is not Layout.NONE
    frames = Counter(entry.frame for entry in case.entries if entry.frame is not None)
    for index, entry in enumerate(case.entries):
        if entry.frame is None or _is_reuse(case, entry):
            continue
        if index >= kept and shared:
            yield case.finding(
                "reuse-mismatch",
                f"has frame {entry.frame:#x} instead of the reuse frame "
                f"{case.judgement.reuse_frame:#x}",
                index,
            )
        elif index >= kept and not entry.access.writable:
            yield case.finding("reuse-mismatch", "is read-only, but shares no frame", index)
        elif entry.frame in (case.tail_frames or ()):
            yield case.finding("reuse-mismatch", "has the zone's tail frame for its own", index)
        elif frames[entry.frame] > 1:
            yield case.finding("reuse-mismatch", f"shares frame {entry.frame:#x}", index)


def reuse_invalid(case: Case) -> Iterator[Finding]:
    """
    The reuse frame is memory, and the one that this kernel takes: the folio's
    own, or since v7.1 the zone's (``vmemmap_get_tail()``).
    """
    frame, shape, layout = (
        case.judgement.reuse_frame,
        case.judgement.layout,
        case.kernel.hvo.layout,
    )
    if frame is None:
        return
    index = next(i for i, entry in enumerate(case.entries) if i and entry.frame == frame)
    if case.entries[index].problem is Problem.BEYOND_MEMORY:
        yield case.finding("reuse-invalid", f"reuse frame {frame:#x} is beyond memory", index)
    elif shape is not layout:
        expected = {
            Layout.NONE: "this kernel has no HVO",
            Layout.TAIL_REUSE: "this kernel reuses the folio's second frame",
            Layout.HEAD_REUSE: "this kernel reuses the folio's head frame",
            Layout.SHARED_TAIL: "this kernel reuses a frame of the zone",
        }[layout]
        yield case.finding("reuse-invalid", f"reuse frame {frame:#x}: {expected}", index)
    elif shape is Layout.TAIL_REUSE and case.entries[1].frame not in (None, frame):
        yield case.finding(
            "reuse-invalid", f"reuse frame {frame:#x} is not the folio's second frame", index
        )
    elif (
        shape is Layout.SHARED_TAIL
        and case.tail_frames is not None
        and frame not in case.tail_frames
    ):
        yield case.finding(
            "reuse-invalid",
            f"reuse frame {frame:#x} is not registered for this zone and order",
            index,
        )


def flag_mismatch(case: Case) -> Iterator[Finding]:
    """``HPG_vmemmap_optimized`` is set while tails are remapped (``mm/hugetlb_vmemmap.c``)."""
    flag, layout = case.folio.flag_optimized, case.judgement.layout
    if flag is None or case.judgement.verdict is Verdict.UNREADABLE:
        return
    if flag and layout is Layout.NONE:
        yield case.finding("flag-mismatch", "HPG_vmemmap_optimized is set, but nothing is shared")
    elif not flag and layout is not Layout.NONE:
        yield case.finding("flag-mismatch", "HPG_vmemmap_optimized is not set, but tails share")


def unreadable(case: Case) -> Iterator[Finding]:
    """What cannot be read is named and counted, never guessed."""
    told = None
    for index, entry in enumerate(case.entries):
        table = entry.raw_address & -PAGE_SIZE
        if entry.problem is Problem.UNREADABLE and table != told:
            told = table
            message = f"{entry.level.name} table is not in the dump"
            yield case.finding("unreadable", message, index, Severity.WARNING)
    if told is None and case.judgement.verdict is Verdict.UNREADABLE:
        message = (
            "the zone's tail frames, or the head page that names the zone, are not in the dump"
        )
        yield case.finding("unreadable", message, None, Severity.WARNING)


def broken_list(broken: BrokenList) -> Finding:
    """
    A list of folios closes, and holds each once (``include/linux/list.h``).

    :param broken: A list whose walk ended before its end.
    """
    message = f"{broken.list}: {broken.reason}"
    if broken.unreadable:
        return Finding("unreadable", Severity.WARNING, message, address=broken.address)
    return Finding("list-corrupt", Severity.ERROR, message, address=broken.address)


def broken_hstate(broken: BrokenHstate) -> Finding:
    """A hstate's order is one that the processor has pages of (``hugetlb_add_hstate()``)."""
    message = f"{broken.name}: order {broken.order} cannot be; its lists were not followed"
    return Finding("list-corrupt", Severity.ERROR, message)


def missing_sections(missing: MissingSections) -> Finding:
    """Folios in a memmap that is not in the dump are seen only if a list leads to them."""
    first, last = missing.pfns[0], missing.pfns[-1]
    message = f"not all of the memmap of PFNs {first:#x} to {last:#x} is in the dump"
    return Finding("unreadable", Severity.WARNING, message)


def off_list(case: Case) -> Iterator[Finding]:
    """A folio in isolation, in migration or in the making is on no list (``mm/hugetlb.c``)."""
    if case.folio.state is State.OFF_LIST:
        yield case.finding("off-list", "is on no list", None, Severity.INFO)


def count_mismatch(hstate: Hstate, folios: Iterable[Folio]) -> Iterator[Finding]:
    """The hstate's counters agree with its lists (``__prep_account_new_huge_page()``)."""
    found: Counter[tuple[int | None, str]] = Counter()
    for folio in folios:
        for node in {None, folio.node}:
            found[node, "nr_huge_pages"] += 1
            found[node, "free_huge_pages"] += folio.state is State.FREE
    nodes: list[tuple[int | None, Counters]] = [(None, hstate.counters)]
    nodes += hstate.node_counters.items()
    for node, counters in nodes:
        for name in ("nr_huge_pages", "free_huge_pages"):
            expected, seen = getattr(counters, name), found[node, name]
            if expected != seen:
                where = hstate.name if node is None else f"{hstate.name} on node {node}"
                message = f"{where}: {name} is {expected}, {seen} folios were found"
                yield Finding("count-mismatch", Severity.WARNING, message)


def _is_reuse(case: Case, entry: Entry) -> bool:
    return entry.frame is not None and entry.frame == case.judgement.reuse_frame


_FOLIO_RULES: Sequence[Callable[[Case], Iterator[Finding]]] = (
    not_present,
    tail_writable,
    head_read_only,
    reuse_mismatch,
    reuse_invalid,
    flag_mismatch,
    unreadable,
    off_list,
)
