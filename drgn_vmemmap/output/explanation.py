# SPDX-License-Identifier: LGPL-2.1-or-later

"""Explanations as text, and as what JSON is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tabulate import tabulate

from drgn_vmemmap import __version__
from drgn_vmemmap.analysis.document import SCHEMA_VERSION
from drgn_vmemmap.explain.explanation import Explanation, StructPage
from drgn_vmemmap.explain.mappers import ReverseMap
from drgn_vmemmap.explain.mentions import Mention
from drgn_vmemmap.explain.query import AddressKind
from drgn_vmemmap.hvo.judgement import Ranges, format_ranges
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, flag_names
from drgn_vmemmap.vmemmap.special import ABOUT


def render(explanations: Iterable[Explanation], others: int | None, format_name: str) -> str:
    """
    :param others: How many addresses and PFNs a log names beside those; ``None`` without a log.
    :param format_name: ``table`` or ``json``.
    """
    if format_name == "json":
        document_ = {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": "drgn-vmemmap", "version": __version__},
            "explanations": [document(explanation) for explanation in explanations],
            "others": others,
        }
        return json.dumps(document_, indent=1) + "\n"
    parts = [text(explanation) for explanation in explanations]
    if others is not None:
        parts.append(f"{_others(others, bool(parts))}\n")
    return "\n".join(parts)


def _others(count: int, more: bool) -> str:
    if not count:
        return f"the log names no {'other ' if more else ''}fault and no PFN"
    noun = "fault or PFN that the log names is" if count == 1 else "faults and PFNs in the log are"
    return f"{count} {'other ' if more else ''}{noun} neither in the vmemmap nor of a HugeTLB folio"


# As text.


def text(explanation: Explanation) -> str:
    """
    :return: A paragraph for a terminal.
    """
    return "\n".join(_lines(explanation)) + "\n"


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.what.text}: {explanation.place.value}"
    yield from (f"  {line}" for line in _facts(explanation))


def _facts(explanation: Explanation) -> Iterator[str]:
    if explanation.mention is not None:
        yield from _mention(explanation.mention, explanation.allowed_now)
    if explanation.steps:
        yield from _walk(explanation).splitlines()
    if explanation.page is not None and explanation.of_page is None:
        yield from _page(explanation.page)
    if explanation.frame is not None and explanation.place is not AddressKind.BEYOND_MEMORY:
        yield from _frame(explanation, explanation.frame)
    if explanation.read:
        yield f"a read there {explanation.read}"
        yield f"a write there {explanation.write}"
    if explanation.of_page is not None:
        yield "its struct page:"
        yield from (f"  {line}" for line in _lines(explanation.of_page))


def _mention(mention: Mention, allowed_now: bool | None) -> Iterator[str]:
    times = f" (and in {mention.times - 1} more lines)" if mention.times > 1 else ""
    yield f"log: {mention.line}{times}"
    for detail in mention.details:
        yield f"log: {detail}"
    if allowed_now is not None:
        now = "allow" if allowed_now else "forbid"
        yield f"the page tables in the dump {now} this {mention.access}" + (
            ": they have changed since" if allowed_now else ", too"
        )


def _walk(explanation: Explanation) -> str:
    rows = [
        (
            step.level.name,
            f"{step.raw_address:x}",
            "not in the dump" if step.raw is None else f"{step.raw:016x}",
            "" if step.raw is None else flag_names(step.raw, step.level),
            step.access,
        )
        for step in explanation.steps
    ]
    headers = ("level", "at physical", "entry", "flags", "leaves")
    table = tabulate(rows, headers, tablefmt="plain", disable_numparse=True)
    entry = explanation.entry
    if entry is not None and entry.problem is not None:
        table += f"\nmapped to no memory: {entry.level.name}: {entry.problem.value}"
    return table


def _page(page: StructPage) -> Iterator[str]:
    where = ""
    if page.offset:
        names = " or ".join(page.members) or "padding"
        where = f", {page.offset} bytes in: {names}"
    yield f"struct page of PFN {page.pfn:#x} at {page.address:#x}{where}"
    if page.folio is not None:
        folio, judgement = page.folio
        yield (
            f"{page.role} of folio {folio.pfn:#x} ({folio.hstate}, order {folio.order}, "
            f"{folio.state.value}, {judgement.verdict.value}, layout {judgement.layout.value}), "
            f"in its vmemmap page {page.vmemmap_page}"
        )
    elif page.known:
        yield "of no HugeTLB folio"
    else:
        yield "of a HugeTLB folio or not: the head pages that tell are not in the dump"
    if page.other is not None:
        yield f"of {ABOUT[page.other]}"


def _frame(explanation: Explanation, frame: int) -> Iterator[str]:
    offset = (explanation.what.address or explanation.what.physical or 0) % PAGE_SIZE
    state = explanation.frame_state or "its struct page is not in the dump"
    yield f"physical {(frame << PAGE_SHIFT) + offset:#x}, frame {frame:#x}: {state}"
    yield from _mapping(explanation.mapping)
    if not explanation.complete:
        yield "perhaps backs more vmemmap: not all of its page tables could be looked through"


def _mapping(mapping: ReverseMap) -> Iterator[str]:
    if mapping.keeper:
        yield f"kept by {mapping.keeper}"
    # A zone's tail frame is behind the same pages of many folios.
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
        yield f"backs vmemmap in {mapping.count - len(mapping.mappers)} more places"


# As what JSON is made of.


def document(explanation: Explanation) -> dict[str, Any]:
    """An explanation as what JSON is made of; addresses are hex strings."""
    mention, page, entry = explanation.mention, explanation.page, explanation.entry
    return {
        "what": explanation.what.text,
        "place": explanation.place.name.lower().replace("_", "-"),
        "line": None if mention is None else mention.line,
        "details": [] if mention is None else list(mention.details),
        "access": None if mention is None else mention.access,
        "allowed_now": explanation.allowed_now,
        "walk": [
            {
                "level": step.level.name,
                "entry": None if step.raw is None else hex(step.raw),
                "entry_address": hex(step.raw_address),
                "flags": [] if step.raw is None else flag_names(step.raw, step.level).split("|"),
                "access": str(step.access),
            }
            for step in explanation.steps
        ],
        "problem": None if entry is None or entry.problem is None else entry.problem.value,
        "page": None if page is None else _page_document(page),
        "frame": explanation.frame,
        "frame_state": explanation.frame_state,
        "seen_by": [
            {
                "folio": mapper.folio,
                "vmemmap_pages": format_ranges(mapper.pages) or None,
                "address": hex(mapper.address),
                "pfns": list(mapper.pfns),
            }
            for mapper in explanation.mapping.mappers
        ],
        "seen_by_count": explanation.mapping.count,
        "kept_by": explanation.mapping.keeper or None,
        "read": explanation.read or None,
        "write": explanation.write or None,
        "of_page": None if explanation.of_page is None else document(explanation.of_page),
        "incomplete": explanation.incomplete,
    }


def _page_document(page: StructPage) -> dict[str, Any]:
    folio = page.folio
    return {
        "pfn": page.pfn,
        "address": hex(page.address),
        "offset": page.offset,
        "members": page.members,
        "folio": None if folio is None else folio.folio.pfn,
        "order": None if folio is None else folio.folio.order,
        "hstate": None if folio is None else folio.folio.hstate,
        "vmemmap_page": page.vmemmap_page,
        "role": page.role or None,
        "verdict": None if folio is None else folio.judgement.verdict.value,
        "layout": None if folio is None else folio.judgement.layout.value,
        "other": page.other,
    }
