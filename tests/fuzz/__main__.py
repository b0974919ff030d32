# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Fuzzes the targets one after the other, each for some seconds: ``make fuzz SECONDS=60``.

Inputs that reached something new are kept in ``build/fuzz``, and are where the next run begins.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS
from tests.support import ROOT

# A hang in C ends by libFuzzer's alarm.
_TIMEOUT = 120

_MEGABYTES = 3072


def fuzz(name: str, directory: Path, *limits: str) -> int:
    """
    Fuzz one target.

    :param directory: Where inputs are kept, and those that lead to a failure.
    :param limits: libFuzzer's options on how long.
    :return: The exit code; 0 if nothing failed.
    """
    corpus, seeds = directory / "corpus", directory / "seeds"
    for path in (corpus, seeds):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (seeds / str(number)).write_bytes(seed)
    options = (
        f"-artifact_prefix={directory}/",
        f"-timeout={_TIMEOUT}",
        f"-rss_limit_mb={_MEGABYTES}",
        "-print_final_stats=1",
    )
    command = (sys.executable, "-m", "tests.fuzz.session", name, *options, *limits)
    return subprocess.run((*command, corpus, seeds), cwd=ROOT).returncode


def main() -> int:
    """Run the command line; the exit code is 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seconds", type=int)
    parser.add_argument("target", nargs="*", help=", ".join(TARGETS))
    options = parser.parse_args()
    failed = []
    for name in options.target or TARGETS:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}; there are: {', '.join(TARGETS)}")
        print(f"fuzz: {name}", file=sys.stderr, flush=True)
        if fuzz(name, ROOT / "build" / "fuzz" / name, f"-max_total_time={options.seconds}"):
            failed.append(name)
    if failed:
        print(f"fuzz: failed: {', '.join(failed)}; see build/fuzz", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
