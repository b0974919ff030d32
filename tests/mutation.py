# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Mutation testing: would the tests notice if an operator, a number or a condition were another?

``python -m tests.mutation`` changes one place at a time in a copy of the package, runs the tests
that the place concerns, and prints each change that no test noticed. Mutants are chosen at
random, by a seed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome
from tabulate import tabulate

from tests.support import ROOT

SUBJECTS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "paging": (("paging/*.py",), ("paging", "hvo", "vmemmap", "explain/test_walks.py")),
    "folios": (("hugetlb/*.py",), ("hugetlb", "rules", "analysis", "damage")),
    "layouts and verdicts": (
        ("hvo/*.py", "kernel/layout.py", "analysis/judging.py"),
        ("hvo", "rules", "analysis"),
    ),
    "rules": (("rules/*.py", "analysis/checks/*.py"), ("rules", "analysis", "damage")),
    "frames": (("vmemmap/*.py",), ("vmemmap", "rules", "analysis", "damage")),
    "reverse map": (
        ("explain/dump/mappers.py", "explain/dump/places.py"),
        ("explain/test_frames.py", "explain/test_places.py", "explain/test_walks.py"),
    ),
    "log parser": (
        ("explain/text/*.py", "explain/log/*.py"),
        ("explain",),
    ),
}
"""Files of the package, and the tests that must notice a change in them."""

_TIMEOUT = 900

# "is" and "==" are the same for what is compared here.
_SAME = {("Is", "Eq"), ("IsNot", "NotEq"), ("Eq", "Is"), ("NotEq", "IsNot")}


class Mutant(NamedTuple):
    """A change of one place, and whether a test noticed it."""

    subject: str
    killed: bool
    diff: str


def mutants_of(files: Sequence[Path]) -> Iterator[MutationSpec]:
    """All changes that may make a difference."""
    annotations = {path: _annotations(path) for path in files}
    with use_db(":memory:", WorkDB.Mode.create) as work:
        init(files, work, {})
        for item in work.work_items:
            (mutation,) = item.mutations
            replaced = tuple(mutation.operator_name.split("_")[1:])
            line, column = mutation.start_pos
            in_annotation = any(
                start <= (line, column) < end for start, end in annotations[mutation.module_path]
            )
            if replaced not in _SAME and not in_annotation:
                yield mutation


def _annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a file has types, which are not evaluated."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.AnnAssign, ast.arg)):
            found.append(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node.returns)
    return [
        ((each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0))
        for each in found
        if each is not None
    ]


def tried(subject: str, number: int, seed: int) -> Iterator[Mutant]:
    """Try some mutants of a subject, in the current directory."""
    patterns, tests = SUBJECTS[subject]
    files = sorted(path for each in patterns for path in Path("drgn_vmemmap").glob(each))
    everything = sorted(mutants_of(files), key=lambda each: (each.module_path, each.start_pos))
    chosen = random.Random(f"{seed} {subject}").sample(everything, min(number, len(everything)))
    places = " ".join(f"tests/{each}" for each in tests)
    command = f"{sys.executable} -m pytest -x -q -p no:randomly -p no:cacheprovider {places}"
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    for mutation in chosen:
        result = mutate_and_test([mutation], command, _TIMEOUT)
        killed = result.test_outcome is not TestOutcome.SURVIVED
        yield Mutant(subject, killed, result.diff or "")


def main() -> int:
    """Try mutants, and print those that lived."""
    parser = argparse.ArgumentParser(description="Mutation testing of what the project is about.")
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), help=", ".join(SUBJECTS))
    parser.add_argument("--number", type=int, default=25, help="mutants of each subject (25)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("VMEMMAP_EXAMPLES", "5")
    mutants: list[Mutant] = []
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / ROOT.name
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "build"))
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        for subject in options.subjects:
            for mutant in tried(subject, options.number, options.seed):
                mutants.append(mutant)
                print(f"{subject}: killed" if mutant.killed else mutant.diff, flush=True)
    rows = []
    for subject in options.subjects:
        killed = [mutant.killed for mutant in mutants if mutant.subject == subject]
        rows.append((subject, len(killed), sum(killed), len(killed) - sum(killed)))
    print(tabulate(rows, ("subject", "mutants", "killed", "lived")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
