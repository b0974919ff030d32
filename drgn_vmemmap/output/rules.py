# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules, for a person and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator

from drgn_vmemmap.output.terminal import MINIMUM_WIDTH, Style
from drgn_vmemmap.rules.rule import Rule


def render(rules: Iterable[Rule], format_name: str, style: Style) -> Iterator[str]:
    """
    :param format_name: ``table`` or ``json``.
    :return: Pieces of text, which ends with a newline.
    """
    if format_name == "json":
        yield json.dumps([_document(rule) for rule in rules], indent=1) + "\n"
        return
    for number, rule in enumerate(rules):
        yield "\n" if number else ""
        yield f"{rule.name}: {style.severity(rule.severity)}\n"
        for title, text in _parts(rule):
            yield _wrapped(title, text)


def _document(rule: Rule) -> dict[str, object]:
    return {
        "rule": rule.name,
        "severity": rule.severity.value,
        "requires": rule.requires,
        "meaning": rule.meaning,
        "needs": rule.needs.value,
        "verify_only": rule.verify_only,
        "source": rule.source,
    }


def _parts(rule: Rule) -> Iterator[tuple[str, str]]:
    commands = "verify" if rule.verify_only else "report and verify"
    yield "must hold", rule.requires
    yield "if not", rule.meaning
    yield "checked by", f"{commands}, against {rule.needs.value}"
    yield "kernel", rule.source


def _wrapped(title: str, text: str) -> str:
    indent = "  " + title.ljust(12)
    return (
        textwrap.fill(
            text,
            MINIMUM_WIDTH,
            initial_indent=indent,
            subsequent_indent=" " * len(indent),
            break_long_words=False,
        )
        + "\n"
    )
