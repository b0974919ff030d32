# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The rules: what must hold, and a finding for each place where it does not.

A rule is a function of what was read and judged; it reads nothing itself.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import (
    Callable,
    NamedTuple,
)

from drgn_vmemmap.hugetlb.folios import (
    BrokenHstate,
    BrokenList,
    Counters,
    Folio,
    FolioClass,
    Hstate,
    State,
)
from drgn_vmemmap.hvo.judgement import Judgement, Verdict, boot_protected
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.walker import Entry, Problem, Run
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.vmemmap.frames import Free
from drgn_vmemmap.vmemmap.sections import MissingSections


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
    expected: str = ""
    """What should be there."""


class FolioContext(NamedTuple):
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
        expected: str = "",
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """
        :param index: Index of the vmemmap page; ``None`` for the folio as a whole.
        """
        pfn = self.folio.pfn
        if index is None:
            address = self.kernel.page_address(pfn)
            return Finding(rule, severity, message, pfn, None, address, expected=expected)
        return _at(rule, severity, message, pfn, index, self.entries[index], expected)

    @property
    def tails(self) -> str:
        """How the tails of an optimized folio are mapped."""
        frame = self.judgement.reuse_frame
        return "read-only" if frame is None else f"frame {frame:#x}, read-only"


def _at(
    rule: str,
    severity: Severity,
    message: str,
    folio: int | None,
    index: int | None,
    entry: Entry,
    expected: str,
) -> Finding:
    """A finding on one vmemmap page."""
    return Finding(
        rule,
        severity,
        message,
        folio,
        index,
        entry.address,
        entry.raw,
        entry.raw_address,
        expected,
    )


def check_folio(case: FolioContext) -> Iterator[Finding]:
    """All findings on one folio, in the order of the rules."""
    for rule in _FOLIO_RULES:
        yield from rule(case)


def check_state(case: FolioContext) -> Iterator[Finding]:
    """Findings on a folio whose entries are right: those that need no entries."""
    for rule in _STATE_RULES:
        yield from rule(case)


def not_present(case: FolioContext) -> Iterator[Finding]:
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
            message = f"{entry.level.name} entry: {what}"
            yield case.finding("not-present", message, index, "a present entry, of this memory")


def tail_writable(case: FolioContext) -> Iterator[Finding]:
    """What maps the reuse frame is ``PAGE_KERNEL_RO`` (``vmemmap_remap_pte()``)."""
    kept = case.kept
    unprotected = boot_protected(case.entries)
    if unprotected is not None and _is_reuse(case, case.entries[unprotected]):
        yield partly_protected(case.folio, unprotected, case.entries[unprotected])
        return
    for index, entry in enumerate(case.entries):
        if index >= kept and _is_reuse(case, entry) and entry.access.writable:
            message = "shares the reuse frame and is writable"
            yield case.finding("tail-writable", message, index, case.tails)


def partly_protected(folio: Folio, index: int, entry: Entry) -> Finding:
    """
    A gigantic folio from boot that its kernel write-protected only in part.

    :param index: Of the first vmemmap page that was left writable.
    """
    message = "this one and those behind are writable: a kernel bug of v6.15 to v7.1"
    return _at("tail-writable", Severity.WARNING, message, folio.pfn, index, entry, "read-only")


def head_read_only(case: FolioContext) -> Iterator[Finding]:
    """What keeps a frame of its own is ``PAGE_KERNEL`` (``vmemmap_remap_pte()``)."""
    for index, entry in enumerate(case.entries[: case.kept]):
        if entry.frame is not None and not entry.access.writable:
            message = "must be writable and is read-only"
            yield case.finding("head-read-only", message, index, "a frame of its own, writable")


def reuse_mismatch(case: FolioContext) -> Iterator[Finding]:
    """A remap, and a roll-back, covers all tails of a folio (``vmemmap_remap_free()``)."""
    kept = case.kept
    shared = case.judgement.layout is not Layout.NONE
    own = "a frame of its own, writable"
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
                case.tails,
            )
        elif index >= kept and not entry.access.writable:
            message = "is read-only, but shares no frame"
            yield case.finding("reuse-mismatch", message, index, own)
        elif entry.frame in (case.tail_frames or ()):
            message = "has the zone's tail frame for its own"
            yield case.finding("reuse-mismatch", message, index, own)
        elif frames[entry.frame] > 1:
            yield case.finding("reuse-mismatch", f"shares frame {entry.frame:#x}", index, own)


def reuse_invalid(case: FolioContext) -> Iterator[Finding]:
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
    expected = {
        Layout.NONE: "no reuse frame: this kernel has no HVO",
        Layout.TAIL_REUSE: "the folio's own second frame",
        Layout.HEAD_REUSE: "the folio's own head frame",
        Layout.SHARED_TAIL: "the frame that the zone keeps for this order",
    }[layout]
    reason = None
    if case.entries[index].problem is Problem.BEYOND_MEMORY:
        reason = "is beyond memory"
    elif shape is not layout:
        reason = f"is not what this kernel takes: {expected}"
    elif shape is Layout.TAIL_REUSE and case.entries[1].frame not in (None, frame):
        reason = "is not the folio's second frame"
    elif (
        shape is Layout.SHARED_TAIL
        and case.tail_frames is not None
        and frame not in case.tail_frames
    ):
        reason = "is not registered for this zone and order"
    if reason is not None:
        yield case.finding("reuse-invalid", f"reuse frame {frame:#x} {reason}", index, expected)


def flag_mismatch(case: FolioContext) -> Iterator[Finding]:
    """``HPG_vmemmap_optimized`` is set while tails are remapped (``mm/hugetlb_vmemmap.c``)."""
    flag, layout = case.folio.flag_optimized, case.judgement.layout
    if flag is None or case.judgement.verdict is Verdict.UNREADABLE:
        return
    if flag and layout is Layout.NONE:
        message = "HPG_vmemmap_optimized is set, but nothing is shared"
        yield case.finding("flag-mismatch", message, None, "the flag clear")
    elif not flag and layout is not Layout.NONE:
        message = "HPG_vmemmap_optimized is not set, but tails share"
        yield case.finding("flag-mismatch", message, None, "the flag set")


def unreadable(case: FolioContext) -> Iterator[Finding]:
    """What cannot be read is named and counted, never guessed."""
    told = None
    for index, entry in enumerate(case.entries):
        table = entry.raw_address & -PAGE_SIZE
        if entry.problem is Problem.UNREADABLE and table != told:
            told = table
            message = f"{entry.level.name} table is not in the dump"
            yield case.finding("unreadable", message, index, severity=Severity.WARNING)
    if told is None and case.judgement.verdict is Verdict.UNREADABLE:
        message = (
            "the zone's tail frames, or the head page that names the zone, are not in the dump"
        )
        yield case.finding("unreadable", message, severity=Severity.WARNING)


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


def search_problem(problem: BrokenList | MissingSections) -> Finding:
    """What kept the search for folios from seeing all."""
    if isinstance(problem, BrokenList):
        return broken_list(problem)
    return missing_sections(problem)


def missing_sections(missing: MissingSections) -> Finding:
    """Folios in a memmap that is not in the dump are seen only if a list leads to them."""
    first, last = missing.pfns[0], missing.pfns[-1]
    message = f"not all of the memmap of PFNs {first:#x} to {last:#x} is in the dump"
    return Finding("unreadable", Severity.WARNING, message)


def off_list(case: FolioContext) -> Iterator[Finding]:
    """A folio in isolation, in migration or in the making is on no list (``mm/hugetlb.c``)."""
    if case.folio.state is State.OFF_LIST:
        yield case.finding("off-list", "is on no list", severity=Severity.INFO)


def count_mismatch(
    hstate: Hstate, counts: Mapping[tuple[FolioClass, State], int]
) -> Iterator[Finding]:
    """
    The hstate's counters agree with its lists (``__prep_account_new_huge_page()``).

    Of the folios on no list, those being made or given back are not counted, others are.

    :param counts: How many folios were found of each kind in each state.
    """
    found: Counter[tuple[int | None, str]] = Counter()
    off_list: Counter[tuple[int | None, str]] = Counter()
    for (kind, state), count in counts.items():
        if kind.hstate == hstate.name:
            for node in {None, kind.node}:
                found[node, "nr_huge_pages"] += count
                found[node, "free_huge_pages"] += count if state is State.FREE else 0
                off_list[node, "nr_huge_pages"] += count if state is State.OFF_LIST else 0
    nodes: list[tuple[int | None, Counters]] = [(None, hstate.counters)]
    nodes += hstate.node_counters.items()
    for node, counters in nodes:
        for name in ("nr_huge_pages", "free_huge_pages"):
            expected, seen = getattr(counters, name), found[node, name]
            if not seen - off_list[node, name] <= expected <= seen:
                where = hstate.name if node is None else f"{hstate.name} on node {node}"
                message = f"{where}: {name} is {expected}, {seen} folios were found"
                yield Finding("count-mismatch", Severity.WARNING, message)


class Owner(NamedTuple):
    """A vmemmap page that is mapped to a frame."""

    folio: int | None
    """Head PFN of the HugeTLB folio that it describes; ``None`` if it describes none."""
    vmemmap_page: int | None
    """Its index in that folio."""
    entry: Entry

    def __str__(self) -> str:
        if self.folio is None:
            return f"the vmemmap at {self.entry.address:#x}"
        return f"vmemmap page {self.vmemmap_page} of folio {self.folio:#x}"


def frame_freed(owner: Owner, free: Free) -> Finding:
    """What backs vmemmap is in use (``alloc_vmemmap_page_list()``, ``free_vmemmap_page()``)."""
    return _at(
        "frame-freed",
        Severity.ERROR,
        _state_of(free),
        owner.folio,
        owner.vmemmap_page,
        owner.entry,
        "a frame in use",
    )


def tail_frame_freed(free: Free, address: int) -> Finding:
    """
    A frame that a zone keeps is in use, though no folio shares it now (``vmemmap_get_tail()``).

    :param address: Of its struct page, to which the zone's ``vmemmap_tails`` points.
    """
    message = f"{_state_of(free)}, but a zone keeps it for shared tails; no folio uses it now"
    return Finding(
        "frame-freed", Severity.ERROR, message, address=address, expected="a frame in use"
    )


def _state_of(free: Free) -> str:
    if free.block is None:
        return f"frame {free.frame:#x} has no reference"
    block = f"block of order {free.block.order} at PFN {free.block.pfn:#x}"
    return f"frame {free.frame:#x} is free, in the buddy allocator's {block}"


def frame_aliased(owner: Owner, frame: int, others: Sequence[str]) -> Finding:
    """A frame that is no reuse frame backs one page of vmemmap (``vmemmap_remap_pte()``)."""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return _at(
        "frame-aliased",
        Severity.ERROR,
        f"frame {frame:#x} also backs {others[0]}{more}",
        owner.folio,
        owner.vmemmap_page,
        owner.entry,
        "a frame that nothing else maps",
    )


def orphan_remap(entry: Entry, pfns: range, what: str) -> Finding:
    """
    What is no HugeTLB folio any more got its frames back (``hugetlb_vmemmap_restore_folio()``).

    :param entry: The first one.
    :param pfns: What the vmemmap describes.
    :param what: What is wrong with it.
    """
    message = f"vmemmap of PFNs {pfns[0]:#x} to {pfns[-1]:#x} {what}, but is no HugeTLB folio's"
    expected = "frames of its own, writable"
    return _at("orphan-remap", Severity.ERROR, message, None, None, entry, expected)


def tail_content(
    owner: Owner, frame: int, page: int, address: int, belongs_to: int | None
) -> Finding:
    """
    Struct pages in the reuse frame are tails (``prep_compound_tail()``, ``init_compound_tail()``).

    :param owner: The vmemmap page that the reuse frame belongs to.
    :param page: Index of the first wrong struct page in the frame.
    :param address: Virtual address in bytes of that struct page.
    :param belongs_to: Head PFN of another folio, if all in the frame is that one's.
    """
    rule, message = "tail-content", f"struct page {page} in the reuse frame {frame:#x} is no tail"
    expected = "tails of this folio"
    if belongs_to is not None:
        rule = "reuse-invalid"
        message = f"reuse frame {frame:#x} is that of the folio at PFN {belongs_to:#x}"
    finding = _at(
        rule, Severity.ERROR, message, owner.folio, owner.vmemmap_page, owner.entry, expected
    )
    return replace(finding, address=address)


def memmap_count_mismatch(counted: int, found: int) -> Finding:
    """``nr_memmap_boot_pages`` and ``nr_memmap_pages`` count what is behind the vmemmap."""
    message = (
        f"nr_memmap_boot_pages and nr_memmap_pages add up to {counted}, "
        f"{found} frames were found behind the vmemmap"
    )
    return Finding("count-mismatch", Severity.WARNING, message)


def unoptimized(folio: Folio, address: int, reason: str, freed: int) -> Finding:
    """
    A folio that was left whole (``hugetlb_vmemmap_optimize_folio()``).

    :param address: Of its head page.
    :param freed: How many frames optimizing it would free.
    """
    gain = f"; optimizing it would free {freed} frames" if freed else ""
    message = f"left whole: {reason}{gain}"
    return Finding("unoptimized", Severity.INFO, message, folio.pfn, None, address)


def unreadable_frames(count: int) -> Finding:
    """What cannot be read is named and counted, never guessed."""
    message = f"the struct pages of {count} frames behind the vmemmap are not in the dump"
    return Finding("unreadable", Severity.WARNING, message)


def unreadable_vmemmap(run: Run) -> Finding:
    """What cannot be read is named and counted, never guessed: whoever maps vmemmap there."""
    message = f"{run.level.name} table over vmemmap {run.start:#x} is not in the dump"
    return Finding(
        "unreadable", Severity.WARNING, message, None, None, run.start, None, run.raw_address
    )


def endless_vmemmap() -> Finding:
    """Page tables end; those that lead in a circle do not."""
    message = "more vmemmap is mapped than there is memory: page tables lead in a circle"
    return Finding("unreadable", Severity.WARNING, message)


def _is_reuse(case: FolioContext, entry: Entry) -> bool:
    return entry.frame is not None and entry.frame == case.judgement.reuse_frame


_FOLIO_RULES: Sequence[Callable[[FolioContext], Iterator[Finding]]] = (
    not_present,
    tail_writable,
    head_read_only,
    reuse_mismatch,
    reuse_invalid,
    flag_mismatch,
    unreadable,
    off_list,
)

_STATE_RULES: Sequence[Callable[[FolioContext], Iterator[Finding]]] = (flag_mismatch, off_list)

MEANINGS: Mapping[str, str] = {
    "not-present": "The kernel faults when it touches a struct page there.",
    "tail-writable": "A stray write to a tail changes struct pages of other PFNs, unnoticed.",
    "head-read-only": "The kernel faults when it writes the head page: a reference is enough.",
    "reuse-mismatch": "Struct pages there hold what nobody keeps up to date, or two owners write.",
    "reuse-invalid": "Tails read what is in a frame that is not theirs.",
    "frame-freed": "The frame is given out again: its next owner overwrites these struct pages.",
    "frame-aliased": "Two owners write the same struct pages: reference counts and flags mix.",
    "flag-mismatch": "Freeing the folio restores what was never remapped, or leaves it remapped.",
    "tail-content": "compound_head() of a tail leads elsewhere: references go to a wrong folio.",
    "orphan-remap": "Pages in use again share struct pages, or fault when theirs are written.",
    "list-corrupt": "The kernel takes what is no folio from its pool, or never ends a walk.",
    "count-mismatch": "Pools look larger or smaller than they are.",
    "unreadable": "Nothing is known of what is not in the dump.",
    "off-list": "Nothing, if it is isolated, in migration or just being made.",
    "unoptimized": "Nothing; memory that could be saved is not.",
}
"""What each rule's findings would do to a running kernel, in a sentence."""

SEVERITIES: Mapping[str, Severity] = {
    **dict.fromkeys(MEANINGS, Severity.ERROR),
    "count-mismatch": Severity.WARNING,
    "unreadable": Severity.WARNING,
    "off-list": Severity.INFO,
    "unoptimized": Severity.INFO,
}
"""Each rule's severity; ``tail-writable`` is a warning where it is a known kernel bug."""

VERIFY_ONLY = frozenset(
    ("frame-freed", "frame-aliased", "tail-content", "orphan-remap", "unoptimized")
)
"""Those that only ``verify`` runs; of them, a report knows nothing."""
