# SPDX-License-Identifier: LGPL-2.1-or-later

"""The benchmark still works; how fast anything is makes no difference here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TARGETS = ("small-aged", "small-kdump")


def test_the_small_benchmark_ends_with_its_tables(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--small",
        "--directory",
        str(tmp_path),
        *TARGETS,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["as in the reference report"][-len(TARGETS) :] == ["all"] * len(TARGETS)
    assert rows["folios"][1:] == ["200", "100"]
    assert "drgn-vmemmap --help" in done.stdout
    assert {"table", "json", "jsonl", "csv"} <= set(rows)
