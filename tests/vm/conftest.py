# SPDX-License-Identifier: LGPL-2.1-or-later

"""Guests for the tests, and at the end a table of what they showed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tabulate import tabulate

from tests.vm.dumps import shared
from vmcores.recipe import Dump, MissingError

HEADERS = ("kernel", "scenario", "folios", "optimized", "freed", "agreed")

LONGEST = ("test_watched", "test_live", "test_kdump", "examines_itself", "test_recipe")
"""In the names of tests that take long: first, so that no processor waits for them at the end."""

Boot = Callable[..., Dump]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))


@pytest.fixture(scope="session")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the dumps that all processes of this run share."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "dumps"


@pytest.fixture
def boot(dumps: Path, record_property: Callable[[str, object], None]) -> Boot:
    """Boots a kernel line in a scenario, and dumps it; a line that is gone is named and skipped."""

    def boot(line: str, scenario: str, symbols: bool = False) -> Dump:
        try:
            return shared(dumps, line, scenario, symbols)
        except MissingError as error:
            record_property("row", (line, scenario, "-", "-", "-", f"missing: {error}"))
            pytest.skip(f"{line}: {error}")

    return boot


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Tests that share a dump write the same row.
    rows = {tuple(row) for row in _rows(terminalreporter)}
    if rows:
        terminalreporter.write_line(tabulate(sorted(rows), HEADERS))
    for report in terminalreporter.stats.get("passed", ()):
        for name, text in report.user_properties:
            if name == "note":
                terminalreporter.write_line(text)


def _rows(terminalreporter: pytest.TerminalReporter) -> Iterator[list[str]]:
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            row = dict(getattr(report, "user_properties", ())).get("row")
            if row:
                yield [*map(str, row)] if outcome != "failed" else [*map(str, row[:5]), "NO"]
