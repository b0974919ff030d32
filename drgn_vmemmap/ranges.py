# SPDX-License-Identifier: LGPL-2.1-or-later

"""Ranges of PFNs, of vmemmap pages, or of cells of a map."""

from __future__ import annotations

from collections.abc import Iterable


def joined(ranges: Iterable[range]) -> list[range]:
    """Ranges in ascending order, without empty ones: those that touch or overlap are one."""
    found: list[range] = []
    for each in sorted(filter(None, ranges), key=lambda each: each.start):
        if found and each.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, each.stop))
        else:
            found.append(each)
    return found
