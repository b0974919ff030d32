# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Each Python and each drgn that the tool runs with must give the same reports, to the byte.

``python -m tests.packaging.matrix matrix`` tries all pairs, ``… corners`` the oldest and the newest
of both; either tries the bundle under Debian's own drgn, with nothing else there. The installed
package verifies each recorded vmcore, and the bundle one of them; under Debian's drgn, each.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from tests.packaging import build
from tests.packaging.environment import Environment, check, environ
from tests.packaging.interpreters import VERSIONS, Interpreter, find, unpacked
from tests.packaging.reports import is_recorded, without_path
from tests.support import VMCORES, run
from vmcores.recipe import apt
from vmcores.recipe.errors import RecipeError

NEWEST = "newest"
DRGNS = ("0.0.31", "0.0.33", "0.1.0", NEWEST)
"""The oldest drgn, those between which something changed for the tool, and the newest."""

CORNERS = {("3.9", "0.0.31"), ("3.9", NEWEST), ("3.13", "0.0.31"), (VERSIONS[-1], NEWEST)}
"""The oldest and the newest of both; drgn 0.0.31 has no wheel for Python 3.14."""

DEBIAN = {"bookworm": "Debian 12", "trixie": "Debian 13", "sid": "Debian sid"}
"""Suites whose drgn the bundle runs with."""

REFUSED = "needs drgn 0.0.31 or later"
"""What a drgn before the oldest gets."""


@dataclass
class Cell:
    """What one Python with one drgn made of the recorded vmcores."""

    drgn: str = ""
    """The version of drgn."""
    outputs: dict[str, set[str]] = field(default_factory=dict)
    """The reports by vmcore."""
    refused: int = 0
    """How often drgn was too old."""
    wrong: list[str] = field(default_factory=list)
    problem: str = ""
    """Why nothing was tried."""

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        if self.wrong:
            return "WRONG"
        if self.refused:
            return "refused"
        return f"{len(self.outputs)} same"


class Trial:
    """Runs the wheel and the bundle."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        builder = Environment(directory / "builder")
        source = build.copy_source(directory / "source")
        self.wheel = build.wheel_by_pip(builder, source, directory)
        builder.install(self.wheel)
        self.bundle = directory / "drgn_vmemmap"
        check(builder.bin / "drgn-vmemmap", "bundle", self.bundle, **builder.options())

    def cell(self, python: Interpreter, version: str, drgn: str) -> Cell:
        """Try a Python with a drgn of the package index."""
        site = self.directory / version / drgn
        wanted = "drgn" if drgn == NEWEST else f"drgn=={drgn}"
        try:
            self._install(version, site, wanted)
        except AssertionError as error:
            if "No matching distribution" not in str(error):
                raise
            return Cell(problem="no wheel")
        (information,) = site.glob("drgn-*.dist-info")
        cell = Cell(information.stem.split("-")[1])
        both = {"PYTHONPATH": f"{site}:{self._package(version)}"}
        for vmcore in VMCORES:
            self._try(cell, python, vmcore, both, "-m", "drgn_vmemmap", "-q", "-c", vmcore)
        only_drgn = {"PYTHONPATH": str(site)}
        for vmcore in VMCORES[:1]:
            bundle = ("-m", "drgn", "-q", "-c", vmcore, self.bundle)
            self._try(cell, python, vmcore, only_drgn, *bundle)
        return cell

    def debian(self, suite: str) -> Cell:
        """Try the bundle with the drgn of a suite of Debian."""
        try:
            root = apt.unpack_closure("python3-drgn", suite=suite)
        except RecipeError as error:
            return Cell(problem=str(error))
        python = unpacked(root, "python3", suite)
        ask = (*python.command, "-c", "import drgn; print(drgn.__version__)")
        cell = Cell(check(*ask, env={**environ(), **python.variables}).stdout.strip())
        for vmcore in VMCORES:
            self._try(cell, python, vmcore, {}, "-m", "drgn", "-q", "-c", vmcore, self.bundle)
        return cell

    def _package(self, version: str) -> Path:
        """The directory of the wheel and what it requires but drgn, for a Python."""
        with self._lock:
            directory = self.directory / version / "package"
            if not directory.exists():
                self._install(version, directory, str(self.wheel), "tabulate")
            return directory

    def _install(self, version: str, directory: Path, *requirements: str) -> None:
        """Install for a Python that need not have pip, nor run here."""
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        what = ("--python-version", version, "--only-binary", ":all:", "--no-deps")
        check(*pip, *what, "--target", directory, *requirements, env=environ())

    def _try(
        self,
        cell: Cell,
        python: Interpreter,
        vmcore: Path,
        variables: Mapping[str, str],
        *command: object,
    ) -> None:
        words = (*python.command, "-s", "-B", *command, "verify", "--format", "json")
        environment = {**environ(), **python.variables, **variables}
        done = run(*words, env=environment, cwd=self.directory, timeout=600)
        if is_too_old(cell.drgn) and done.returncode == 2 and is_refusal(done.stderr):
            cell.refused += 1
        elif done.returncode or done.stderr or not is_recorded(done.stdout, vmcore.stem):
            shown = " ".join(map(str, command))
            lines = (done.stderr or done.stdout).strip().splitlines() or [""]
            cell.wrong.append(f"{shown}: exit code {done.returncode}: {lines[-1][:200]}")
        else:
            cell.outputs.setdefault(vmcore.stem, set()).add(without_path(done.stdout))


def is_too_old(drgn: str) -> bool:
    return tuple(map(int, re.findall(r"\d+", drgn)[:3])) < (0, 0, 31)


def is_refusal(message: str) -> bool:
    """Whether a message is the one line that a drgn that is too old gets."""
    return REFUSED in message and len(message.splitlines()) == 1


def pairs(which: str) -> Iterator[tuple[str, str]]:
    for version in VERSIONS:
        for drgn in DRGNS:
            if which == "matrix" or (version, drgn) in CORNERS:
                yield version, drgn


def main(which: str) -> int:
    """
    Try all, and print the table.

    :param which: ``matrix`` or ``corners``.
    :return: The exit code: 1 if a report is not as it should be, or nothing could be tried.
    """
    wanted = list(pairs(which))
    pythons = {version: find(version) for version, _ in wanted}
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as pool:
        trial = Trial(Path(directory))
        jobs = {}
        for version, drgn in wanted:
            python = pythons[version]
            if python is not None:
                jobs[version, drgn] = pool.submit(trial.cell, python, version, drgn)
        for suite in DEBIAN:
            jobs[suite, ""] = pool.submit(trial.debian, suite)
        cells = {pair: job.result() for pair, job in jobs.items()}
    print(table(pythons, cells))
    return judge(cells)


def table(pythons: Mapping[str, Interpreter | None], cells: Mapping[tuple[str, str], Cell]) -> str:
    """A row for each Python, a column for each drgn, and a row for each drgn of Debian."""
    newest = {cell.drgn for (_, drgn), cell in cells.items() if drgn == NEWEST and cell.drgn}
    rows = []
    for version, python in pythons.items():
        if python is None:
            rows.append([version, "missing: neither pyenv, this machine nor Debian has it"])
            continue
        row = [cells.get((version, drgn), "-") for drgn in DRGNS]
        rows.append([version, python.origin, *map(str, row)])
    headers = ["Python", "from", *DRGNS[:-1], " or ".join(sorted(newest)) or NEWEST]
    debian = [
        [name, cells[suite, ""].drgn, str(cells[suite, ""])] for suite, name in DEBIAN.items()
    ]
    return "\n\n".join(
        (
            "recorded vmcores whose reports are the same, by Python and drgn",
            tabulate(rows, headers, disable_numparse=True),
            tabulate(debian, ["bundle alone under", "drgn", "reports"], disable_numparse=True),
        )
    )


def judge(cells: Mapping[tuple[str, str], Cell]) -> int:
    """Print what is wrong, and return the exit code."""
    wrong = [
        f"{' '.join(pair).strip()}: {line}" for pair, cell in cells.items() for line in cell.wrong
    ]
    for vmcore in VMCORES:
        outputs = {text for cell in cells.values() for text in cell.outputs.get(vmcore.stem, ())}
        if len(outputs) != 1:
            wrong.append(f"{vmcore.stem}: {len(outputs)} different reports")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
