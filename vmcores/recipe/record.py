# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vmcores that this directory keeps: small ones, cut from full dumps by the tool itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from vmcores.recipe.dump import Dump, dump

DIRECTORY = Path(__file__).parent.parent

#: Name of each: kernel line, scenario, file of the scenario's dump, and what else is extracted.
RECORDED: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "head-reuse": ("6.12", "basic", "vmcore", ()),
    "shared-tail": ("7.3", "basic", "vmcore", ()),
    "two-nodes-1GiB": ("6.12", "numa", "vmcore", ()),
    "hvo-off": ("6.1", "hvo-off", "vmcore", ()),
    "filtered-kdump": ("6.1", "kdump", "vmcore.lzo", ()),
    "oops": ("6.12", "oops", "vmcore", ("--log",)),
}


def record(name: str) -> Path:
    """
    Make a vmcore again, with its expected report and where it came from.

    :param name: a name out of RECORDED
    :returns: the vmcore
    """
    line, scenario, file, options = RECORDED[name]
    with tempfile.TemporaryDirectory() as directory:
        made = dump(line, scenario, directory)
        full_dump = made.vmcore.with_name(file)
        target = DIRECTORY / f"{name}.vmcore"
        target.unlink(missing_ok=True)
        made_of = _vmemmap(full_dump, "extract", "--compress", *options, str(target))
        taken = made_of.stderr.splitlines()
        full, cut = _report(full_dump), _report(target)
        if full != cut:
            raise AssertionError(f"{name}: the report of the full dump is another")
        target.with_suffix(".json").write_text(full)
        origin = _origin(made, full_dump, taken)
        target.with_suffix(".origin.json").write_text(json.dumps(origin, indent=1) + "\n")
    return target


def _report(vmcore: Path) -> str:
    """The JSON report of a vmcore, wherever it lies."""
    report = json.loads(_vmemmap(vmcore, "verify", "--format", "json").stdout)
    report["target"]["file"] = None
    return json.dumps(report, indent=1) + "\n"


def _origin(made: Dump, full_dump: Path, taken: list[str]) -> dict[str, object]:
    """Where a vmcore came from: the guest's own account, and what was cut out of how much."""
    left_out = ("vmlinux", "seconds", "folios")
    facts = {key: value for key, value in made.facts.items() if key not in left_out}
    return {
        **{key: value for key, value in facts.items() if value != []},
        "dump": full_dump.name,
        "dump_bytes": full_dump.stat().st_blocks * 512,  # without the holes
        "taken": [" ".join(line.split()) for line in taken[:-1]],
    }


def _vmemmap(vmcore: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        Path(sys.executable).parent / "drgn-vmemmap",
        "-c",
        vmcore,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True)
