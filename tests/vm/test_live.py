# SPDX-License-Identifier: LGPL-2.1-or-later

"""A running guest, looked at from outside through QEMU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vmcores.recipe import MissingError, kernels, scenarios
from vmcores.recipe.guest import Guest

COMMAND = Path(sys.executable).parent / "drgn-vmemmap"


def vmemmap(*arguments: object) -> str:
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(*target: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(vmemmap(*target, "--folios", "--format", "json"))
    return document


@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_a_running_guest_gives_the_report_of_its_dump(line: str, tmp_path: Path) -> None:
    try:
        kernel = kernels.fetch(line)
    except MissingError as error:
        pytest.skip(f"{line}: {error}")
    with Guest(kernel, scenarios.named("basic"), tmp_path / "console.log") as guest:
        guest.wait_for("ready")
        live = report("--qemu", guest.debug_socket)
        vmemmap("--qemu", guest.debug_socket, "extract", tmp_path / "extract")
        guest.dump(tmp_path / "vmcore")
    assert live["totals"]["optimized"] == 64
    assert live["kernel"].pop("live") is True
    movement = live.pop("movement")
    assert (movement["moved"], movement["transient"]) == (0, 0)
    for vmcore in ("extract", "vmcore"):
        dumped = report("-c", tmp_path / vmcore)
        assert dumped["kernel"].pop("live") is False
        assert dumped.pop("movement") is None
        assert dumped == live
