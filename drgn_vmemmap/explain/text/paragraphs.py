# SPDX-License-Identifier: LGPL-2.1-or-later

"""Text that all lines of a log begin with: a logger's words, numbers, marks, or an indent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from drgn_vmemmap.explain.text.prefixes import (
    without_common_start,
    without_marks,
    without_numbers,
    without_quotes,
)

# Lines around a log in a post: fences of Markdown, tags of HTML, and empty lines.
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})|\s*</?\w+>\s*$|\s*$")


def bare_lines(lines: Sequence[str]) -> Iterator[str]:
    """Lines without the text that nearly all of them, or all in a paragraph, begin with."""
    bare = _bare(lines)
    if bare is not lines:
        yield from bare
        return
    for is_apart, group in groupby(lines, key=lambda line: bool(_FENCE.match(line))):
        paragraph = list(group)
        yield from paragraph if is_apart else _bare(_without_indent(paragraph))


def _bare(lines: Sequence[str]) -> Sequence[str]:
    return without_common_start(without_marks(without_numbers(lines)))


def _without_indent(lines: Sequence[str]) -> Sequence[str]:
    """Lines of a paragraph without its quote marks, and without the indent of all of them."""
    lines = [_without_quotes(line) for line in lines]
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    least = min(indents, key=len)
    if not all(indent.startswith(least) for indent in indents):
        return lines
    return [line[len(least) :] for line in lines]


def _without_quotes(line: str) -> str:
    """A line without quote marks; where it was cut after a space, it still ends in one."""
    return without_quotes(line) + line[len(line.rstrip(" ")) :]
