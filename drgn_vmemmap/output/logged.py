# SPDX-License-Identifier: LGPL-2.1-or-later

"""Addresses and pages in a log, compared with the dump, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drgn_vmemmap.explain.dump.contents import PageContents
from drgn_vmemmap.explain.dump.explained_log import Foreign, LogExplanation
from drgn_vmemmap.explain.dump.explanation import AddressKind, Explanation, Logged
from drgn_vmemmap.explain.dump.mappers import ReverseMap
from drgn_vmemmap.explain.dump.places import Place
from drgn_vmemmap.explain.dump.walks import EntryThen
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.hugetlb.tails import TAIL_MAPPING
from drgn_vmemmap.hvo.verdict import Ranges, format_ranges
from drgn_vmemmap.output.text import plural
from drgn_vmemmap.paging.leaf import Leaf

_NAMES_LIMIT = 16
"""The most addresses that do not concern HugeTLB that are named."""


def logged_lines(logged: Logged) -> Iterator[str]:
    """Lines on the mention of a fault or a page in a log."""
    mention = logged.mention
    yield from mention_lines(mention)
    if logged.contents is not None and mention.kind is Kind.PFN:
        yield from contents_lines("when it was logged, it held", logged.contents, mention.value)
        yield from _restored(logged.contents, mention.details)
    yield from _entries(logged.entries)
    if logged.leaf is not None:
        yield _leaf(logged.leaf)
        if logged.reuse_frame_of is not None:
            yield f"  it is the reuse frame of folio {logged.reuse_frame_of:#x}"
        if logged.mapping is not None:
            yield from (f"  it now {line}" for line in mapping_lines(logged.mapping))
    if logged.allowed_now is False:
        yield f"the page tables in the dump forbid this {mention.access}, too"
    elif logged.allowed_now:
        yield f"the page tables in the dump allow this {mention.access}"
        yield from logged.causes


def mention_lines(mention: Mention) -> Iterator[str]:
    """The lines of a log that mention a fault or a page."""
    others = mention.times - 1
    times = f" (and in {plural(others, 'more line')})" if others else ""
    yield f"log: {mention.line}{times}"
    yield from (f"log: {detail}" for detail in mention.details)


def _entries(entries: Sequence[EntryThen]) -> Iterator[str]:
    if not entries:
        return
    if all(entry.is_same for entry in entries):
        yield "the walk in the log is the same as in the dump"
        return
    for entry in entries:
        now = "is not in the dump's walk" if entry.now is None else f"is {entry.now:016x} now"
        if not entry.is_same:
            yield f"the {entry.level} was {entry.then:016x} in the log, and {now}"
    if any(entry.is_other_table for entry in entries):
        yield "likely: the log is of another boot: a running kernel does not move these tables"


def _leaf(leaf: Leaf) -> str:
    if not leaf.present:
        return f"in the log's walk, the {leaf.level} was not present"
    access = "writable" if leaf.writable else "read-only"
    return f"in the log's walk, the page was {access}, mapped by a {leaf.level} to {leaf.frame:#x}"


def contents_lines(what: str, contents: PageContents, pfn: int) -> Iterator[str]:
    """
    What a struct page holds.

    :param what: How the sentence begins.
    """
    if contents.is_poisoned:
        yield f"{what} nothing: it is poisoned (page_init_poison()), and nobody uses it"
        return
    names = "|".join(contents.flag_names)
    held = [f"{names} ({contents.flags:#x})" if names else f"flags {contents.flags:#x}"]
    held.append(f"reference count {contents.refcount}")
    if contents.page_type is not None:
        held.append(f"page type {contents.page_type}")
    elif contents.mapcount is not None:
        held.append(f"mapcount {contents.mapcount}")
    yield f"{what} {', '.join(held)}"
    if contents.of_folio:
        members = (
            f"{name} {value if name == 'order' else hex(value)}"
            for name, value in contents.of_folio
        )
        yield f"of its folio: {', '.join(members)}"
    if contents.mapping or (contents.is_tail and contents.mapping is not None):
        tail = " (TAIL_MAPPING)" if contents.mapping == TAIL_MAPPING else ""
        yield f"mapping {contents.mapping:#x}{tail}"
    if contents.is_tail:
        leads = "nowhere" if contents.head is None else f"to the head {contents.head:#x}"
        if contents.head == pfn:
            leads = "to itself"
        yield f"{contents.link_name} {contents.link:#x}: a tail, which leads {leads}"


def _restored(contents: PageContents, details: list[str]) -> Iterator[str]:
    """Follows ``free_tail_page_prepare()`` of ``mm/page_alloc.c``."""
    if contents.is_tail and any("corrupted mapping in tail page" in each for each in details):
        yield (
            "likely: its vmemmap was remapped and restored, and it holds a copy of the reuse frame "
            "that was not reset"
        )


def mapping_lines(mapping: ReverseMap) -> Iterator[str]:
    """The vmemmap that a frame backs."""
    if mapping.table is not None:
        level, address = mapping.table
        yield f"the {level} table over the vmemmap from {address:#x} on"
    if mapping.keeper:
        yield f"kept by {mapping.keeper}"
    # A zone's tail frame backs the same pages of many folios.
    folios: dict[Ranges, list[str]] = {}
    for mapper in mapping.mappers:
        if mapper.folio is not None:
            folios.setdefault(mapper.pages, []).append(hex(mapper.folio))
    for pages, pfns in folios.items():
        indices = format_ranges(pages)
        noun = "page" if indices.isdecimal() else "pages"
        of = "folio" if len(pfns) == 1 else "each of folios"
        yield f"backs vmemmap {noun} {indices} of {of} {', '.join(pfns)}"
    for mapper in mapping.mappers:
        if mapper.folio is None:
            first, last = mapper.pfns
            yield f"backs vmemmap at {mapper.address:#x}, of PFNs {first:#x} to {last:#x}"
    if mapping.count > len(mapping.mappers):
        yield f"backs vmemmap in {plural(mapping.count - len(mapping.mappers), 'more place')}"


def rest_of_log(log: LogExplanation) -> Iterator[str]:
    """Lines on the mentions in a log that were not explained."""
    for foreign in log.foreign:
        yield from _foreign(foreign)
    yield _others(log)
    if log.unnamed:
        yield unnamed_faults(log.unnamed)
    if log.dropped:
        yield f"{log.dropped} more addresses and PFNs in the log were not explained"


def unnamed_faults(count: int) -> str:
    """That page faults were not explained, and which lines of them are missing."""
    faults, its = (
        ("1 page fault was", "its") if count == 1 else (f"{count} page faults were", "their")
    )
    return f"{faults} not explained: the lines with {its} address (BUG: ..., CR2) are missing"


def _foreign(foreign: Foreign) -> Iterator[str]:
    mention = foreign.mention
    yield f"{mention.kind.value} {mention.value:#x}: of another boot; the dump says nothing of it"
    yield f"  log: {mention.line}"
    yield f"  {foreign.why}"
    if foreign.pfn is not None:
        yield f"  it was in the struct page of PFN {foreign.pfn:#x} of that boot"


def _others(log: LogExplanation) -> str:
    count, more = len(log.others), bool(log.explanations or log.foreign)
    if not count:
        return f"the log names no {'other ' if more else ''}fault and no PFN"
    noun = "fault or PFN that the log names is" if count == 1 else "faults and PFNs in the log are"
    names = ", ".join(map(_other, log.others[:_NAMES_LIMIT]))
    rest = ", ..." if count > _NAMES_LIMIT else ""
    return (
        f"{count} {'other ' if more else ''}{noun} neither in the vmemmap nor of a HugeTLB folio: "
        f"{names}{rest}"
    )


def _other(explanation: Explanation) -> str:
    """The name of a mention that does not concern HugeTLB, and its place if it is not in use."""
    name, page = explanation.query.text, explanation.page
    if explanation.kind is AddressKind.BEYOND_MEMORY:
        return f"{name} (beyond the end of physical memory)"
    if page is not None and page.place is not Place.ONLINE:
        return f"{name} ({page.place.value})"
    return name
