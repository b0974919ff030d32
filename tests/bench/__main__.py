# SPDX-License-Identifier: LGPL-2.1-or-later

"""The benchmark's command line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench import startup, table
from tests.bench.listing import listings
from tests.bench.runners import RUNNERS, Result
from tests.bench.targets import FULL, SMALL, Target

DIRECTORY = Path("build", "bench")


def main() -> int:
    """
    Run what was asked for, and print the tables.

    :return: 1 if a report is not the reference's; no time makes a difference.
    """
    options = _parser().parse_args()
    known = {target.name: target for target in (SMALL if options.small else FULL)}
    unknown = [name for name in options.targets if name not in known]
    if unknown:
        _parser().error(f"no target {unknown[0]}; there are: {', '.join(known)}")
    chosen = [known[name] for name in options.targets or known]
    results = {target.name: _measure(target, known, options.directory) for target in chosen}
    print(table.header())
    for target in chosen:
        print(f"{target.name}: {target.about}")
    print(f"\n{table.targets(results, goals=not options.small)}")
    for target in chosen:
        why = results[target.name]["crash"].get("why")
        if why:
            print(f"\n{target.name}: no vtop, as {why}")
    timings = startup.timings(1, startup.VMCORES[-1:]) if options.small else startup.timings(10)
    print(f"\n{table.startup(timings)}")
    print(f"\n{table.listings(listings(1000 if options.small else 500_000))}")
    return int(any(of_target["reference"]["differing"] for of_target in results.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all of them")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where dumps are kept")
    parser.add_argument("--small", action="store_true", help="small targets, to see that it works")
    return parser


def _measure(target: Target, known: Mapping[str, Target], parent: Path) -> dict[str, Result]:
    directory = target.built(parent)
    fresh = known[target.fresh].built(parent) if target.fresh else None
    results = {name: _run(name, target, directory, fresh) for name in RUNNERS}
    return {**results, "target": {"compressed": target.compressed}}


def _run(runner: str, target: Target, directory: Path, fresh: Path | None) -> Result:
    """Run one runner in a process of its own."""
    print(f"{target.name}: {runner}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.bench.runners", runner]
    command += [str(directory), str(target.every), str(fresh or "")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: Result = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    sys.exit(main())
