# SPDX-License-Identifier: LGPL-2.1-or-later

"""What logs have beside the oops: lines of drivers, other reports on it, and what people add."""

from __future__ import annotations

from collections.abc import Sequence

from drgn_vmemmap.explain.mention import Mentions
from drgn_vmemmap.explain.mentions import find_mentions
from drgn_vmemmap.explain.text.lines import read_text
from tests.explain.logs import OOPS


def read(lines: Sequence[str]) -> Mentions:
    return find_mentions(read_text("\n".join(lines).encode()).lines)


def test_a_drivers_version_is_no_first_line_of_a_boot() -> None:
    first = ("Linux version 6.12.117 (x) #1 SMP", "Command line: ro nokaslr")
    found = read([*first, "X25: Linux Version 0.2", "Memory failure: 0x2ec5: x", *OOPS])
    assert [boot.release for boot in found.boots if boot.release] == ["6.12.117"]
    assert all(mention.boot.memory_is_fixed for mention in found.named)
