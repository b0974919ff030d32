# SPDX-License-Identifier: LGPL-2.1-or-later

"""Explanations as text, and as what JSON is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tabulate import tabulate

from drgn_vmemmap.explain import Explainer, Explanation, StructPage, What
from drgn_vmemmap.kernel_log import Mention
from drgn_vmemmap.x86_64 import flag_names


def render(explainer: Explainer, whats: Iterable[What], log: list[str], format_name: str) -> str:
    """
    Explain what was asked for, and what a log names.

    :param log: Lines; what they name is explained if it concerns the vmemmap or a HugeTLB folio.
    :param format_name: ``table`` or ``json``.
    """
    found, others = explainer.explain_log(log)
    explained = [*((explainer.explain(what), None) for what in whats), *found]
    if format_name == "json":
        documents = [document(*both) for both in explained]
        return json.dumps({"explanations": documents, "others": others}, indent=1) + "\n"
    parts = [text(*both) for both in explained]
    if log:
        parts.append(f"{others} other addresses and PFNs in the log are of no HugeTLB folio\n")
    return "\n".join(parts)


def text(explanation: Explanation, mention: Mention | None = None) -> str:
    """
    :param mention: Where a log names it.
    :return: A paragraph for a terminal.
    """
    return "\n".join(_lines(explanation, mention)) + "\n"


def document(explanation: Explanation, mention: Mention | None = None) -> dict[str, Any]:
    """An explanation as what JSON is made of; addresses are hex strings."""
    page = explanation.page
    return {
        "what": explanation.what.text,
        "place": explanation.place,
        "line": None if mention is None else mention.line,
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
        "page": None if page is None else _page_document(page),
        "frame": explanation.frame,
        "frame_state": explanation.frame_state,
        "seen_by": explanation.seen_by,
        "read": explanation.read,
        "write": explanation.write,
    }


def _page_document(page: StructPage) -> dict[str, Any]:
    return {
        "pfn": page.pfn,
        "address": hex(page.address),
        "offset": page.offset,
        "members": page.members,
        "folio": None if page.folio is None else page.folio.folio.pfn,
        "vmemmap_page": page.vmemmap_page,
        "role": page.role,
        "verdict": None if page.folio is None else page.folio.judgement.verdict.value,
    }


def _lines(explanation: Explanation, mention: Mention | None) -> Iterator[str]:
    yield f"{explanation.what.text}: {explanation.place}"
    if mention is not None:
        times = f" (in {mention.times} lines)" if mention.times > 1 else ""
        yield f"  log: {mention.line}{times}"
    if explanation.steps:
        yield from (f"  {line}" for line in _walk(explanation).splitlines())
    if explanation.page is not None:
        yield from (f"  {line}" for line in _page(explanation.page))
    if explanation.frame is not None:
        state = f", {explanation.frame_state}" if explanation.frame_state else ""
        yield f"  frame {explanation.frame:#x}{state}"
        for seen in explanation.seen_by:
            yield f"  behind {seen}"
    if explanation.read:
        yield f"  a read there {explanation.read}"
        yield f"  a write there {explanation.write}"


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
    return tabulate(rows, headers, tablefmt="plain", disable_numparse=True)


def _page(page: StructPage) -> Iterator[str]:
    where = ""
    if page.offset:
        names = " or ".join(page.members) or "no member of interest"
        where = f", {page.offset} bytes in: {names}"
    yield f"struct page of PFN {page.pfn:#x} at {page.address:#x}{where}"
    if page.folio is None:
        yield "of no HugeTLB folio"
        return
    folio, judgement = page.folio
    yield (
        f"{page.role} of folio {folio.pfn:#x} ({folio.hstate}, {folio.state.value}, "
        f"{judgement.verdict.value}, layout {judgement.layout.value}), "
        f"in its vmemmap page {page.vmemmap_page}"
    )
