# SPDX-License-Identifier: LGPL-2.1-or-later

"""Lines of a log without what all of them, or all in a paragraph, begin with."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.text.common_start import bare_lines


@pytest.mark.parametrize(
    ("lines", "bare"),
    (
        (["```", "    first", "      second", "```"], ["```", "first", "  second", "```"]),
        (["  first", "    second", "", "      third"], ["first", "  second", "", "third"]),
        (["\tfirst", "    second", "    third"], ["\tfirst", "    second", "    third"]),
        (["      first", "  second"], ["    first", "second"]),
        ([f"{number}\tline" for number in range(1, 9)], ["line"] * 8),
    ),
    ids=("fences", "paragraphs", "tabs and spaces", "less at the end", "numbers"),
)
def test_each_line_is_given_once_without_what_all_begin_with(
    lines: list[str], bare: list[str]
) -> None:
    assert [*bare_lines(lines)] == bare
