# SPDX-License-Identifier: LGPL-2.1-or-later

"""What it costs to list folios, beyond the report itself."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.output.report import View, render
from tests.synthetic.pages import many

GOALS = {"table": (20.0, 300.0), "json": (12.0, 300.0), "jsonl": (12.0, 300.0), "csv": (8.0, None)}
"""Microseconds and bytes that a folio may cost in a format."""

_TIMES = 3


class Listing(NamedTuple):
    """What a format costs."""

    format: str
    microseconds: float
    """Of processor time, for a folio."""
    bytes: float
    """At the peak, for a folio."""
    first_rows: float
    """Seconds of processor time until the first ten folios are written."""


def listings(count: int) -> Iterator[Listing]:
    """
    :param count: How many folios are listed.
    """
    report = many(count)
    report.findings = []
    for format_name in GOALS:
        runs = [_run(report, format_name) for _ in range(_TIMES)]
        seconds, first = (min(times) for times in zip(*runs))
        yield Listing(format_name, seconds / count * 1e6, _peak(report, format_name) / count, first)


def _run(report: Report, format_name: str) -> tuple[float, float]:
    """Seconds until everything is written, and until the first folios are."""
    gc.collect()
    start, first = time.process_time(), 0.0
    for number, _ in enumerate(render(report, format_name, View(folios=True))):
        if number == 20:
            first = time.process_time() - start
    return time.process_time() - start, first


def _peak(report: Report, format_name: str) -> int:
    tracemalloc.start()
    for _ in render(report, format_name, View(folios=True)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
