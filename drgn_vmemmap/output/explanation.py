# SPDX-License-Identifier: LGPL-2.1-or-later

"""Explanations as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from drgn_vmemmap.explain.dump.explained_log import LogExplanation
from drgn_vmemmap.explain.dump.explanation import AddressKind, Explanation, StructPage
from drgn_vmemmap.explain.dump.places import NOT_IN_USE, Place
from drgn_vmemmap.output.explanation_document import full_document
from drgn_vmemmap.output.logged import contents_lines, logged_lines, mapping_lines, rest_of_log
from drgn_vmemmap.output.terminal import MINIMUM_WIDTH
from drgn_vmemmap.paging.mapping import Problem
from drgn_vmemmap.paging.x86_64 import flag_names
from drgn_vmemmap.vmemmap.special import ABOUT

_GAP = "  "
"""What tabulate writes between columns."""

_INDENTED = 6
"""Characters before a table, at most."""

_WITHOUT_STRUCT_PAGE = (Place.NO_MEMMAP, Place.NO_PART)


def render(
    explanations: Sequence[Explanation], log: LogExplanation | None, format_name: str
) -> str:
    """
    :param explanations: Of what was asked for by itself.
    :param log: Of what a log names; ``None`` without a log.
    :param format_name: ``table`` or ``json``.
    """
    if format_name == "json":
        return json.dumps(full_document(explanations, log), indent=1) + "\n"
    parts = [text(explanation) for explanation in explanations]
    if log is not None:
        parts += [text(explanation) for explanation in log.explanations]
        parts.append("\n".join(rest_of_log(log)) + "\n")
    return "\n".join(parts)


def text(explanation: Explanation) -> str:
    """
    :return: A paragraph for a terminal.
    """
    return "\n".join(_lines(explanation)) + "\n"


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.query.text}: {explanation.kind.value}"
    yield from (f"  {line}" for line in _facts(explanation))


def _facts(explanation: Explanation) -> Iterator[str]:
    if explanation.logged is not None:
        yield from logged_lines(explanation.logged)
    if explanation.steps:
        yield from _walk(explanation).splitlines()
    if explanation.page is not None and explanation.of_page is None:
        yield from _page(explanation.page)
        if explanation.lacks_contents:
            yield "the content of this struct page is not in the dump"
        if _lacks_struct_page(explanation):
            yield "the access needed a struct page that does not exist"
    if explanation.frame is not None and explanation.kind is not AddressKind.BEYOND_MEMORY:
        yield from _frame(explanation, explanation.frame)
    if explanation.read:
        yield f"a read there {explanation.read}"
    if explanation.write:
        yield f"a write there {explanation.write}"
    if explanation.of_page is not None:
        yield "its struct page:"
        yield from (f"  {line}" for line in _lines(explanation.of_page))


def _lacks_struct_page(explanation: Explanation) -> bool:
    """Whether the kernel faulted on the struct page of what has none."""
    page, logged = explanation.page, explanation.logged
    is_fault = logged is not None and logged.mention.is_fault
    return is_fault and page is not None and page.place in _WITHOUT_STRUCT_PAGE


def _walk(explanation: Explanation) -> str:
    rows = [
        (
            step.level.name,
            f"{step.raw_address:x}",
            "not in the dump" if step.raw is None else f"{step.raw:016x}",
            str(step.access),
            "" if step.raw is None else flag_names(step.raw, step.level),
        )
        for step in explanation.steps
    ]
    rows.insert(0, ("level", "physical", "entry", "WUXG", "flags"))
    beside = sum(max(map(len, column)) + len(_GAP) for column in list(zip(*rows))[:-1])
    width = MINIMUM_WIDTH - _INDENTED - beside
    cells = [(*row[:-1], _wrapped(row[-1], width)) for row in rows]
    table = tabulate(cells, tablefmt="plain", disable_numparse=True)
    entry = explanation.entry
    if entry is not None and entry.problem is not None:
        problem = f"{entry.level.name}: {entry.problem.value}"
        if entry.problem is Problem.UNREADABLE:
            table += f"\nwhether it is mapped is not known: {problem}"
        else:
            table += f"\nmapped to no memory: {problem}"
    return table


def _wrapped(flags: str, width: int) -> str:
    """Names joined by bars, in lines of a width in characters."""
    lines = [""]
    for name in flags.replace("|", "| ").split():
        if len(lines[-1] + name) > width:
            lines.append("")
        lines[-1] += name
    return "\n".join(lines)


def _page(page: StructPage) -> Iterator[str]:
    where = ""
    if page.offset == 1:
        # Nothing accesses this byte; it is how a tail's compound_head is written.
        where = ", with bit 0 set: as compound_head of a tail, it leads to its head"
    elif page.offset:
        names = " or ".join(page.members) or "padding"
        where = f", {page.offset} bytes in: {names}"
    yield f"struct page of PFN {page.pfn:#x} at {page.address:#x}{where}"
    if page.place is not Place.ONLINE:
        yield f"PFN {page.pfn:#x} {page.place.value}"
    if page.place in NOT_IN_USE:
        return
    if page.folio is not None:
        folio, judgement = page.folio
        yield (
            f"{page.role} of folio {folio.pfn:#x} ({folio.hstate}, order {folio.order}, "
            f"{folio.state.value}, {judgement.verdict.value}, layout {judgement.layout.value}), "
            f"in its vmemmap page {page.vmemmap_page}"
        )
        if page.failed is not None:
            yield f"of this folio, {page.failed.message}"
            if page.pfn in page.failed.pfns:
                yield f"PFN {page.pfn:#x} is one that failed: its folio's head records that"
    elif page.known:
        yield "of no HugeTLB folio"
    else:
        yield "perhaps of a HugeTLB folio: the head pages that would show it are not in the dump"
    if page.special is not None:
        yield f"of {ABOUT[page.special]}"
    if page.contents is not None:
        yield from contents_lines("it holds", page.contents, page.pfn)


def _frame(explanation: Explanation, frame: int) -> Iterator[str]:
    state = explanation.frame_state or "its struct page is not in the dump"
    yield f"physical {explanation.physical:#x}, frame {frame:#x}: {state}"
    yield from mapping_lines(explanation.mapping)
    if not explanation.complete:
        yield "it may back more vmemmap: not all page tables over the vmemmap could be read"
