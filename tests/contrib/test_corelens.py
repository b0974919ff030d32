# SPDX-License-Identifier: LGPL-2.1-or-later

"""The module for corelens, in a checkout of drgn-tools: set DRGN_TOOLS to one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, recorded, run, vmcore, vmemmap

RUN = """
import sys
import drgn
from drgn_tools.corelens import all_corelens_modules

module = all_corelens_modules()["vmemmap"]
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
given = sys.argv[2:]
for arguments in [module._parse_args(given)] if given else module._default_args():
    module.run(prog, arguments)
"""
"""As corelens does when it has opened a vmcore, but without asking for debuginfo."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of drgn-tools into which the module was dropped."""
    if "DRGN_TOOLS" not in os.environ:
        pytest.skip("set DRGN_TOOLS to a checkout of drgn-tools")
    checkout = tmp_path_factory.mktemp("drgn-tools")
    package = checkout / "drgn_tools"
    shutil.copytree(Path(os.environ["DRGN_TOOLS"]) / "drgn_tools", package)
    shutil.copy(ROOT / "contrib" / "corelens" / "vmemmap.py", package)
    return checkout


def corelens(
    checkout: Path, *arguments: str, script: str = RUN
) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-c", script, vmcore("shared-tail"), *arguments)
    return run(*command, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)})


def expected(checkout: Path, *arguments: str) -> str:
    """What the tool itself says; a dump is named as seen from the current directory."""
    return vmemmap("-c", vmcore("shared-tail"), *arguments, cwd=checkout).stdout


def test_a_report_has_what_verify_says(checkout: Path) -> None:
    done = corelens(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected(checkout, "verify")


def test_another_command_is_run_with_its_options(checkout: Path) -> None:
    command = ("report", "--folios", "--pfn", hex(recorded("shared-tail")["folios"][0]["pfn"]))
    done = corelens(checkout, *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected(checkout, *command)


def test_what_is_wrong_with_a_command_is_one_line(checkout: Path) -> None:
    done = corelens(checkout, "report", "--nonsense")
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


def test_where_the_tool_is_not_installed_corelens_goes_on(checkout: Path) -> None:
    # drgn imports the plugin when it makes a program.
    hide = 'module, sys.modules["drgn_vmemmap.cli"] = all_corelens_modules()["vmemmap"], None'
    script = RUN.replace('module = all_corelens_modules()["vmemmap"]', hide)
    assert script != RUN
    done = corelens(checkout, script=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("drgn-vmemmap cannot be imported: ")
    assert len(done.stdout.splitlines()) == 1
