# SPDX-License-Identifier: LGPL-2.1-or-later

"""Explanations as what JSON is made of; addresses are hex strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drgn_vmemmap.analysis.document import preamble
from drgn_vmemmap.explain.dump.contents import PageContents
from drgn_vmemmap.explain.dump.explained_log import Foreign, LogExplanation
from drgn_vmemmap.explain.dump.explanation import Explanation, Logged, StructPage
from drgn_vmemmap.explain.dump.mappers import ReverseMap
from drgn_vmemmap.hvo.verdict import format_ranges
from drgn_vmemmap.paging.x86_64 import flag_names


def full_document(
    explanations: Sequence[Explanation], log: LogExplanation | None
) -> dict[str, Any]:
    """
    :param explanations: Of what was asked for by itself.
    :param log: Of what a log names.
    """
    found = [*explanations, *(() if log is None else log.explanations)]
    return {
        **preamble(),
        "explanations": [document(explanation) for explanation in found],
        "others": None if log is None else len(log.others),
        "other_names": [] if log is None else [each.query.text for each in log.others],
        "other_boot": [] if log is None else [_foreign_document(each) for each in log.foreign],
        "not_explained": 0 if log is None else log.dropped,
        "faults_without_address": 0 if log is None else log.unnamed,
        "other_architectures": [] if log is None else sorted(log.architectures),
    }


def document(explanation: Explanation) -> dict[str, Any]:
    """An explanation."""
    page, entry, logged = explanation.page, explanation.entry, explanation.logged
    mention = None if logged is None else logged.mention
    table = explanation.mapping.table
    return {
        "what": explanation.query.text,
        "place": explanation.kind.name.lower().replace("_", "-"),
        "line": None if mention is None else mention.line,
        "message": None if mention is None or mention.message is None else mention.message.name,
        "details": [] if mention is None else list(mention.details),
        "access": None if mention is None else mention.access,
        "allowed_now": None if logged is None else logged.allowed_now,
        "causes": [] if logged is None else list(logged.causes),
        "logged_walk": [] if logged is None else _logged_walk(logged),
        "logged_frame": None if logged is None or logged.leaf is None else logged.leaf.frame,
        "logged_frame_reuse_of": None if logged is None else logged.reuse_frame_of,
        "logged_page": None if logged is None else _contents_document(logged.contents),
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
        "seen_by": _mappers(explanation.mapping),
        "seen_by_count": explanation.mapping.count,
        "kept_by": explanation.mapping.keeper or None,
        "table_over": None if table is None else {"level": table[0], "address": hex(table[1])},
        "read": explanation.read or None,
        "write": explanation.write or None,
        "of_page": None if explanation.of_page is None else document(explanation.of_page),
        "incomplete": explanation.incomplete,
    }


def _mappers(mapping: ReverseMap) -> list[dict[str, Any]]:
    return [
        {
            "folio": mapper.folio,
            "vmemmap_pages": format_ranges(mapper.pages) or None,
            "address": hex(mapper.address),
            "pfns": list(mapper.pfns),
        }
        for mapper in mapping.mappers
    ]


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
        "other": page.special,
        "memory": page.place.name.lower().replace("_", "-"),
        "contents": _contents_document(page.contents),
        "failed_pfns": [] if page.failed is None else page.failed.pfns,
    }


def _contents_document(contents: PageContents | None) -> dict[str, Any] | None:
    if contents is None:
        return None
    return {
        "flags": hex(contents.flags),
        "flag_names": contents.flag_names,
        "page_type": contents.page_type,
        "refcount": contents.refcount,
        "mapcount": contents.mapcount,
        "mapping": None if contents.mapping is None else hex(contents.mapping),
        "compound_info": None if contents.link is None else hex(contents.link),
        "head": contents.head,
        "of_folio": {name: hex(value) for name, value in contents.of_folio},
    }


def _logged_walk(logged: Logged) -> list[dict[str, Any]]:
    return [
        {
            "level": entry.level,
            "then": hex(entry.then),
            "now": None if entry.now is None else hex(entry.now),
            "same": entry.is_same,
        }
        for entry in logged.entries
    ]


def _foreign_document(foreign: Foreign) -> dict[str, Any]:
    return {
        "kind": foreign.mention.kind.value,
        "value": hex(foreign.mention.value),
        "line": foreign.mention.line,
        "why": foreign.why,
        "pfn": foreign.pfn,
    }
