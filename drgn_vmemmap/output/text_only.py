# SPDX-License-Identifier: LGPL-2.1-or-later

"""Statements on a text, as text and as what JSON is made of."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from drgn_vmemmap.analysis.document import preamble
from drgn_vmemmap.explain.text_only.report import Account, TextReport
from drgn_vmemmap.explain.text_only.statements import Statement
from drgn_vmemmap.output.logged import mention_lines, unnamed_faults

_WIDTH = 100


def render(report: TextReport, format_name: str) -> str:
    """
    :param format_name: ``table`` or ``json``.
    """
    if format_name == "json":
        return json.dumps(document(report), indent=1) + "\n"
    return "\n".join(_lines(report)) + "\n"


def _lines(report: TextReport) -> Iterator[str]:
    if not report.accounts and not report.unnamed:
        yield "the text names no fault and no page"
    for account in report.accounts:
        yield from _account(account)
        yield ""
    for number, statements in enumerate(report.boots, 1):
        yield "the boot" if len(report.boots) == 1 else f"boot {number}"
        yield from _statements(statements)
        yield ""
    if report.unnamed:
        yield unnamed_faults(report.unnamed)
    if report.dropped:
        yield f"{report.dropped} more addresses and PFNs in the text were not explained"
    if report.collect:
        yield "what to collect next"
        for item in report.collect:
            yield from _wrapped("- ", item)


def _account(account: Account) -> Iterator[str]:
    mention = account.mention
    yield f"{mention.kind.value} {mention.value:#x}"
    yield from (f"  {line}" for line in mention_lines(mention))
    yield from _statements(account.statements)


def _statements(statements: Iterable[Statement]) -> Iterator[str]:
    for certainty, text in statements:
        yield from _wrapped(f"{certainty.value + ':':9}", text)


def _wrapped(label: str, text: str) -> list[str]:
    indent = " " * (2 + len(label))
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"  {label}", subsequent_indent=indent, break_on_hyphens=False
    )


def document(report: TextReport) -> dict[str, Any]:
    """A report as what JSON is made of; numbers are hex strings."""
    return {
        **preamble(),
        "text_only": [
            {
                "kind": account.mention.kind.value,
                "value": hex(account.mention.value),
                "line": account.mention.line,
                "details": account.mention.details,
                "access": account.mention.access,
                "statements": _statement_documents(account.statements),
            }
            for account in report.accounts
        ],
        "boots": [_statement_documents(statements) for statements in report.boots],
        "collect": report.collect,
        "not_explained": report.dropped,
        "faults_without_address": report.unnamed,
        "other_architectures": sorted(report.architectures),
    }


def _statement_documents(statements: Iterable[Statement]) -> list[dict[str, str]]:
    return [{"certainty": each.certainty.value, "text": each.text} for each in statements]
