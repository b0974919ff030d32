# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is found in a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drgn_vmemmap.explain.log.mention import Mentions
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.explain.text_only.report import TextReport, text_only
from drgn_vmemmap.explain.text_only.statements import Certainty, Statement

Said = Sequence[tuple[Certainty, str]]
"""How certain each statement is, and a part of its text."""


def mentions_in(lines: Iterable[str]) -> Mentions:
    """What lines name."""
    return find_mentions(read_text("\n".join(lines).encode()).lines)


def report_on(lines: Iterable[str]) -> TextReport:
    """What lines prove without a dump."""
    return text_only(read_text("\n".join(lines).encode()).lines)


def assert_said(found: Sequence[Statement], expected: Said) -> None:
    """Assert that these statements were made, in this order, and no other ones."""
    assert [how for how, _ in found] == [how for how, _ in expected], found
    for (_, text), (_, part) in zip(found, expected):
        assert part in text
