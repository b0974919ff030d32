# SPDX-License-Identifier: LGPL-2.1-or-later

"""The benchmark still works; how fast anything is makes no difference here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import runners
from tests.bench.targets import Target

TARGETS = ("small-aged", "small-kdump")


@pytest.mark.long
def test_the_small_benchmark_ends_with_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One runner has a process of its own, as all have; the others are run in this one."""
    in_a_process = bench._run

    def run(runner: str, target: Target, directory: Path, fresh: Path | None) -> runners.Result:
        if (runner, target.name) == ("verify", TARGETS[0]):
            return in_a_process(runner, target, directory, fresh)
        return runners.RUNNERS[runner](directory, target.every, fresh)

    monkeypatch.setattr(bench, "_run", run)
    monkeypatch.setattr(runners, "TIMES", 1)
    command = ["tests.bench", "--small", "--directory", str(tmp_path), *TARGETS]
    monkeypatch.setattr(sys, "argv", command)
    assert bench.main() == 0
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert rows["as in the reference report"][-len(TARGETS) :] == ["all"] * len(TARGETS)
    assert rows["folios"][1:] == ["200", "100"]
    assert "drgn-vmemmap --help" in shown
    assert {"table", "json", "jsonl", "csv"} <= set(rows)
