# SPDX-License-Identifier: LGPL-2.1-or-later

"""The difference of two reports as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from drgn_vmemmap import examine
from drgn_vmemmap.analysis.comparable import comparable
from drgn_vmemmap.analysis.difference import Change, Difference, difference
from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.output.difference import render
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

FIRST, SECOND, THIRD, FOURTH = (FIRST_FOLIO + 512 * number for number in range(4))


def document_of(*folios: Folio) -> dict[str, Any]:
    return document(examine(Image(Machine(folios=folios)).prog), folios=True)


@pytest.fixture(scope="module")
def found() -> Difference:
    """One folio was optimized, one went, one appeared, and one is used."""
    before = document_of(Folio(FIRST, remapped=False), Folio(SECOND), Folio(FOURTH))
    after = document_of(Folio(FIRST), Folio(THIRD), replace(Folio(FOURTH), state=State.ACTIVE))
    return difference(comparable(before, "A"), comparable(after, "B"))


def paragraphs(found: Difference) -> list[list[str]]:
    return [part.splitlines() for part in "".join(render(found, "table")).split("\n\n")]


def test_each_change_is_a_line_and_each_number_a_row(found: Difference) -> None:
    changes, totals, summary = paragraphs(found)
    optimized, went, appeared, changed = changes
    assert optimized.startswith(f"optimized: folio {FIRST:#x}: flag_optimized False -> True, ")
    assert "reuse_frame none -> 0x" in optimized and "shared none -> 1-7" in optimized
    assert optimized.endswith("freed 0 -> 7")
    assert went == f"went: folio {SECOND:#x}: hugepages-2048kB, free, optimized"
    assert appeared == f"appeared: folio {THIRD:#x}: hugepages-2048kB, free, optimized"
    assert changed.startswith(f"changed: folio {FOURTH:#x}: state free -> active")
    heading, _, *rows = (row.split() for row in totals)
    assert heading == ["total", "before", "after"]
    assert rows[:3] == [
        ["optimized", "2", "3", "+1"],
        ["unoptimized", "1", "0", "-1"],
        ["freed", "14", "21", "+7"],
    ]
    assert summary == ["1 optimized, 1 went, 1 appeared, 1 changed"]


def test_the_same_is_in_the_document(found: Difference) -> None:
    shown = json.loads("".join(render(found, "json")))
    assert (shown["differs"], shown["complete"]) == (True, True)
    assert shown["totals"]["optimized"] == {"before": 2, "after": 3}
    assert [change["kind"] for change in shown["changes"]] == [
        *("optimized", "went", "appeared", "changed")
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    (
        (None, "none"),
        ("", "none"),
        (0, "0"),
        (False, "False"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 60 + "..."),
        ("\x1b[2J", "\\x1b[2J"),
    ),
)
def test_a_value_of_a_folio_is_shown_without_what_a_terminal_obeys(
    found: Difference, value: object, words: str
) -> None:
    change = Change(FIRST, "changed", {"state": value}, {"state": "free"}, ["state"])
    ((line,), *_) = paragraphs(found._replace(changes=[change]))
    assert line == f"changed: folio {FIRST:#x}: state {words} -> free"


@pytest.mark.parametrize(("value", "words"), ((255, "0xff"), ("ff", "ff"), (None, "none")))
def test_a_reuse_frame_is_shown_in_hexadecimal_if_it_is_a_number(
    found: Difference, value: object, words: str
) -> None:
    fields = {"reuse_frame": value, "freed": 255}
    change = Change(FIRST, "changed", fields, fields, [*fields])
    ((line,), *_) = paragraphs(found._replace(changes=[change]))
    assert line.endswith(f": reuse_frame {words} -> {words}, freed 255 -> 255")


@pytest.mark.parametrize(
    ("hosts", "two_boots", "words"),
    (
        (("one", "other"), True, "two hosts, one and other: "),
        (("one", "one"), True, "two boots of one kernel: "),
        (("one", ""), True, "two boots of one kernel: "),
        (("", "other"), False, ""),
        (("", ""), False, ""),
    ),
)
def test_two_hosts_are_named_where_both_are_known(
    found: Difference, hosts: tuple[str, str], two_boots: bool, words: str
) -> None:
    shown = paragraphs(found._replace(hosts=hosts, two_boots=two_boots))
    assert len(shown) == 3 + bool(words)
    assert shown[0][0].startswith(words or "optimized: ")


NONE: dict[str, Any] = {"changes": [], "totals": {}}
UNKNOWN = [FIRST, SECOND]


@pytest.mark.parametrize(
    ("parts", "lines"),
    (
        ({}, ["no difference"]),
        ({"totals": {"freed": (7, 0)}}, ["no folio differs"]),
        ({"totals": {"freed": (7, 0)}, "same_kernel": False}, ["the reports differ"]),
        (
            {"unknown": UNKNOWN},
            ["no difference is known", "2 folios cannot be compared"],
        ),
        (
            {"incomplete": (True, False)},
            [
                "no difference is known",
                "A is incomplete: what is missing cannot be compared, nor can totals and rules",
            ],
        ),
        (
            {"incomplete": (True, True), "unknown": UNKNOWN[:1]},
            [
                "no difference is known",
                "A and B are incomplete: 1 folio cannot be compared, nor can totals and rules",
            ],
        ),
        (
            {"outside": (1, 2)},
            [
                "no difference is known",
                "B is narrowed: 1 folio of A cannot be compared",
                "A is narrowed: 2 folios of B cannot be compared",
                "totals and rules are not compared",
            ],
        ),
        (
            {"outside": (0, 2), "totals": {"freed": (7, 7)}},
            ["no difference is known", "A is narrowed: 2 folios of B cannot be compared"],
        ),
        (
            {"outside": (1, 0), "incomplete": (False, True)},
            [
                "no difference is known",
                "B is incomplete: what is missing cannot be compared, nor can totals and rules",
                "B is narrowed: 1 folio of A cannot be compared",
            ],
        ),
    ),
)
def test_the_last_lines_say_what_is_not_known(
    found: Difference, parts: dict[str, Any], lines: list[str]
) -> None:
    assert paragraphs(found._replace(**{**NONE, **parts}))[-1] == lines
