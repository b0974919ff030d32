# SPDX-License-Identifier: LGPL-2.1-or-later

"""
A hunt for defects in real kernels: all rules, after each thing that hosts do to their pools.

``python -m tests.vm.hunt [LINE...]`` boots each line of kernels that Debian has, in the scenario
"hunt", and prints what the rules say after each step. It takes some minutes for each line, so no
test runs it. What is found is either a defect of that kernel, to be described in
vmcores/README.md, or a false alarm, to be mended. Dumps with findings are left in the directory
given by ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from tests.support import vmemmap
from vmcores.recipe import kernels, scenarios
from vmcores.recipe.dump import complete_vmcoreinfo
from vmcores.recipe.errors import RecipeError
from vmcores.recipe.guest import Guest

FLAVOURS = ("6.1-amd64", "6.12-rt-amd64", "newest-amd64", "newest-rt-amd64", "experimental")


class Step(NamedTuple):
    """What the rules say after a step."""

    name: str
    code: int
    """Exit code of ``verify``."""
    folios: str
    found: str
    """Rules of the errors and warnings, and how often each fired."""


def hunt(line: str, scenario: str, keep: Path) -> Iterator[Step]:
    """
    Boot a line, and check it after each step.

    :param keep: Directory for the dumps with findings.
    """
    kernel = kernels.fetch(line)
    keep.mkdir(parents=True, exist_ok=True)
    log = keep / f"{kernel.release}-{scenario}.log"
    with Guest(kernel, scenarios.named(scenario), log) as guest:
        seen = 0
        while "done" not in guest.words():
            said = guest.wait_for("step", seen + 1)["step"]
            seen += 1
            name = said[seen - 1].split()[0]
            guest.qmp.execute("stop")
            vmcore = keep / f"{kernel.release}-{scenario}-{name}"
            guest.dump(vmcore)
            complete_vmcoreinfo(vmcore, guest.words())
            step = checked(name, vmcore)
            # The guest's clock stood still, too: it is still where it said that it is.
            guest.qmp.execute("cont")
            if not step.found:
                vmcore.unlink()
            yield step
            if name == "empty":
                break
        for skipped in guest.words().get("skipped", ()):
            name, _, why = skipped.partition(" ")
            yield Step(name, 0, "-", f"skipped: {why}")


def checked(name: str, vmcore: Path) -> Step:
    """Check a dump."""
    done = vmemmap("-c", vmcore, "verify", "--format", "json", timeout=600)
    if done.returncode not in (0, 1, 3) or not done.stdout:
        return Step(name, done.returncode, "-", done.stderr.strip())
    report = json.loads(done.stdout)
    rules = Counter(f["rule"] for f in report["findings"] if f["severity"] != "info")
    totals = report["totals"]
    folios = f"{totals['folios']}, {totals['optimized']} optimized"
    found = ", ".join(f"{rule} ({count})" for rule, count in rules.items())
    return Step(name, done.returncode, folios, found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.hunt", description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="LINE", help="default: all, and some flavours")
    parser.add_argument("--scenario", default="hunt", choices=("hunt", "hunt-cma"))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "hunt"))
    options = parser.parse_args()
    is_sound = True
    for line in options.lines or (*kernels.lines(), *FLAVOURS):
        steps = []
        try:
            for step in hunt(line, options.scenario, options.keep):
                steps.append(step)
        except RecipeError as error:
            steps.append(Step("the guest ended", -1, "-", str(error)))
        print(line, tabulate(steps, Step._fields), sep="\n", flush=True)
        is_sound = is_sound and not any(step.code for step in steps)
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
