# SPDX-License-Identifier: LGPL-2.1-or-later

"""Comfort at the shell: help with examples, completion, a manual page."""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from drgn_vmemmap import cli

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).parent / "drgn-vmemmap"


def vmemmap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True)


def commands() -> list[str]:
    actions = cli.parser()._actions
    (commands,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return list(commands.choices)


@pytest.mark.parametrize("command", commands())
def test_the_help_of_each_command_has_an_example_of_it(command: str) -> None:
    done = vmemmap(command, "--help")
    assert done.returncode == 0
    _, _, examples = done.stdout.partition("examples:\n")
    assert command in examples or command == "report"
    assert examples.strip()


def test_bash_takes_the_completion() -> None:
    script = vmemmap("--print-completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    defined = script + "\ncomplete -p drgn-vmemmap"
    done = subprocess.run(["bash"], input=defined, text=True, capture_output=True, check=True)
    assert "drgn-vmemmap" in done.stdout


@pytest.mark.parametrize("shell", ("bash", "zsh"))
def test_the_completion_knows_each_command_and_its_options(shell: str) -> None:
    script = vmemmap("--print-completion", shell).stdout
    assert all(command in script for command in commands())
    assert "--folios" in script and "--dmesg" in script


def test_without_shtab_completion_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['shtab'] = None; from drgn_vmemmap.cli import parse"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}; parse(['--print-completion', 'bash'])"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == cli.CANNOT
    assert len(done.stderr.splitlines()) == 1
    assert "drgn-vmemmap[completion]" in done.stderr


def test_the_wheel_has_a_manual_page_with_each_command(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "."]
    subprocess.run([*command, source], check=True, cwd=tmp_path, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (page,) = (name for name in archive.namelist() if name.endswith("/drgn-vmemmap.1"))
        text = archive.read(page).decode()
    assert all(f"drgn\\-vmemmap {command}" in text for command in commands())
