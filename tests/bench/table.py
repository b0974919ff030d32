# SPDX-License-Identifier: LGPL-2.1-or-later

"""The figures as tables, each goal beside its figure."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import drgn
from tabulate import tabulate

from tests.bench.listing import GOALS, Listing
from tests.bench.startup import WITH_GOAL, Timing

Results = Mapping[str, Mapping[str, Any]]
"""Of one target: what each runner found."""


class Goal(NamedTuple):
    limit: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def beside(self, figure: float) -> str:
        """A figure, and whether it is as it should be."""
        met = figure >= self.limit if self.at_least else figure <= self.limit
        digits = 2 if self.limit < 2 else 1
        return f"{figure:.{digits}f} {'met' if met else 'MISSED'}"


class Row(NamedTuple):
    name: str
    figure: Callable[[Results], Any]
    goal: Goal | None = None


def header() -> str:
    """When and where."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in cpuinfo if "model name" in line), "unknown")
    return (
        f"{datetime.date.today()}, {model}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, drgn {drgn.__version__}; seconds of processor time"
    )


def listings(measured: Iterable[Listing]) -> str:
    """The table of what listing a folio costs."""
    rows = []
    for listing in measured:
        limits = GOALS[listing.format]
        costs = (listing.microseconds, listing.bytes)
        cells = [
            f"{cost:.1f}" if limit is None else Goal(limit, False).beside(cost)
            for cost, limit in zip(costs, limits)
        ]
        rows.append((listing.format, *cells, f"{listing.first_rows:.2f}"))
    headers = ("listing as", "microseconds a folio", "bytes a folio", "first rows after")
    align = ("left", "right", "right", "right")
    return tabulate(rows, headers, colalign=align, disable_numparse=True)


def targets(results: Mapping[str, Results], goals: bool) -> str:
    """
    The table of all targets.

    :param results: By the target's name.
    :param goals: Whether the targets are so large that the goals are meant for them.
    """
    shown = _ROWS if goals else [row._replace(goal=None) for row in _ROWS]
    cells = [[_cell(row, of_target) for of_target in results.values()] for row in shown]
    rows = [(row.name, row.goal, *of_row) for row, of_row in zip(shown, cells)]
    align = ("left", "left", *("right" for _ in results))
    return tabulate(rows, ("", "goal", *results), colalign=align, disable_numparse=True)


def startup(timings: Sequence[Timing]) -> str:
    """The table of the commands' times."""
    goal = Goal(2, False)
    rows = [
        (
            each.vmcore,
            each.command,
            goal if each.command in WITH_GOAL else None,
            f"{each.seconds * 1000:.0f}",
            goal.beside(each.over_bare) if each.command in WITH_GOAL else f"{each.over_bare:.1f}",
        )
        for each in timings
    ]
    headers = ("", "", "goal", "ms", "over drgn's bare start")
    align = ("left", "left", "left", "right", "right")
    return tabulate(rows, headers, colalign=align, disable_numparse=True)


def _cell(row: Row, results: Results) -> str:
    try:
        figure = row.figure(results)
    except KeyError:
        return "-"
    if isinstance(figure, str):
        return figure
    return row.goal.beside(figure) if row.goal else f"{figure:,.{_decimals(figure)}f}"


def _decimals(figure: float) -> int:
    """Three digits of it."""
    return 0 if isinstance(figure, int) or figure >= 100 else 2 if figure >= 1 else 4


def _seconds(runner: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["seconds"]


def _floor(runner: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["floor"]


def _over_floor(runner: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["seconds"] / results[runner]["floor"]


def _ratio(runner: str, other: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["seconds"] / results[other]["seconds"]


def _each(runner: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["seconds"] / results[runner]["folios"] * 1e6


def _over_fresh(runner: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["seconds"] / results[runner]["fresh"]


def _over_decompression(runner: str) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        if not results["target"]["compressed"]:
            raise KeyError("compressed")
        return _over_floor(runner)(results)

    return figure


def _memory(runner: str) -> Callable[[Results], float]:
    return lambda results: results[runner]["memory"] / 1024


def _equal(results: Results) -> str:
    differing = results["reference"]["differing"]
    return f"{differing} DIFFER" if differing else "all"


_FLOOR, _MIB = Goal(3, False), Goal(150, False)
_FRESH, _DECOMPRESSION = Goal(1.1, False), Goal(1.2, False)

_ROWS = (
    Row("folios", lambda results: results["report"]["folios"]),
    Row("vmemmap pages", lambda results: results["report"]["vmemmap_pages"]),
    Row("crash's vtop, seconds", _seconds("crash")),
    Row("- scaled from so many pages", lambda results: results["crash"]["sample"]),
    Row("plain script, seconds", _seconds("plain")),
    Row("- scaled from so many folios", lambda results: results["plain"]["sample"]),
    Row("report, seconds", _seconds("report")),
    Row("- its floor, seconds", _floor("report")),
    Row("- in so many reads", lambda results: results["report"]["reads"]),
    Row("- of so many MiB", lambda results: results["report"]["mebibytes"]),
    Row("verify, seconds", _seconds("verify")),
    Row("- its floor, seconds", _floor("verify")),
    Row("- in so many reads", lambda results: results["verify"]["reads"]),
    Row("- of so many MiB", lambda results: results["verify"]["mebibytes"]),
    Row("plain / report", _ratio("plain", "report"), Goal(30, True)),
    Row("plain / verify", _ratio("plain", "verify"), Goal(15, True)),
    Row("report / floor", _over_floor("report"), _FLOOR),
    Row("verify / floor", _over_floor("verify"), _FLOOR),
    Row("report / decompression", _over_decompression("report"), _DECOMPRESSION),
    Row("verify / decompression", _over_decompression("verify"), _DECOMPRESSION),
    Row("report / that of the fresh host", _over_fresh("report"), _FRESH),
    Row("verify / that of the fresh host", _over_fresh("verify"), _FRESH),
    Row("report, folios a second", lambda results: int(1e6 / _each("report")(results))),
    Row("report, microseconds a folio", _each("report")),
    Row("verify, microseconds a folio", _each("verify")),
    Row("report, MiB beyond drgn's", _memory("report"), _MIB),
    Row("verify, MiB beyond drgn's", _memory("verify"), _MIB),
    Row("as in the reference report", _equal),
)
