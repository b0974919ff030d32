# SPDX-License-Identifier: LGPL-2.1-or-later

"""README.md and its tables, which tests compare with the tool and with kernels."""

from __future__ import annotations

import re

from tests.support import ROOT

README = (ROOT / "README.md").read_text()

NO_LIMIT = (99,)
"""Above the version of each kernel."""


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading, without the marks of code."""
    _, _, text = README.partition(f"\n| {first} |")
    rows = text.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in row.split("|")[1:-1]] for row in rows]


def version(release: str) -> tuple[int, ...]:
    """The version and the patch level of a release, such as v5.14."""
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


def layout_of(release: str) -> str:
    """The layout that the table has for a release of a kernel with HVO."""
    found = []
    for name, kernels, *_ in table("layout"):
        bounds = [version(bound) for bound in re.findall(r"v[\d.]+", kernels)]
        first, last = (*bounds, NO_LIMIT, NO_LIMIT)[:2]
        if first <= version(release) <= last:
            found.append(name)
    (name,) = found
    return name
