# SPDX-License-Identifier: LGPL-2.1-or-later

"""Comfort at the shell: help with examples, and completion."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.exit_codes import CANNOT
from drgn_vmemmap.cli.parser import parser
from tests.support import COMMAND, ROOT, answer, run, vmemmap

COMMANDS = subparsers(parser())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_of_it(command: str) -> None:
    done = answer(command, "--help")
    assert done.returncode == 0
    _, _, samples = done.stdout.partition("examples:\n")
    assert command in samples or command == "report"
    assert samples.strip()


@cache
def completion(shell: str) -> str:
    """The script that is printed for a shell."""
    return answer("--print-completion", shell).stdout


def test_bash_takes_the_completion() -> None:
    script = vmemmap("--print-completion", "bash").stdout
    assert script == completion("bash")
    run("bash", "-n", input=script, check=True)
    defined = script + "\ncomplete -p drgn-vmemmap"
    done = run("bash", input=defined, check=True)
    assert "drgn-vmemmap" in done.stdout


@pytest.mark.parametrize("shell", ("bash", "zsh"))
def test_the_completion_knows_each_command_and_its_options(shell: str) -> None:
    script = completion(shell)
    assert all(command in script for command in COMMANDS)
    assert "--folios" in script and "--dmesg" in script


def completed(*words: str) -> list[str]:
    """What bash makes of the last word of a command line."""
    script = completion("bash")
    ask = """
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_drgn_vmemmap && echo "${COMPREPLY[*]}"
"""
    command = ("bash", "-c", script + ask, "drgn-vmemmap", "drgn-vmemmap", *words)
    done = run(*command, cwd=ROOT, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    (
        (("-c", "vmcores/head-reuse.v"), "vmcores/head-reuse.vmcore"),
        (("-c", "vmcores/head-reuse.vmcore", "ver"), "verify"),
        (("-k", "report", "--fol"), "--folios"),
        (("verify", "--qe"), "--qemu"),
        (("verify", "-o", "Make"), "Makefile"),
        (("bundle", "Make"), "Makefile"),
    ),
)
def test_drgns_options_and_files_are_completed_too(words: tuple[str, ...], expected: str) -> None:
    assert completed(*words) == [expected]


def test_without_a_command_the_options_of_report_are_completed() -> None:
    assert completed("--fol") == ["--folios"]
    assert completed("--format", "prom") == ["prometheus"]


def test_completion_that_cannot_be_written_is_reported_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [str(COMMAND), "--print-completion", "bash"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == CANNOT
    assert done.stderr == "drgn-vmemmap: No space left on device\n"


def test_a_reader_who_has_seen_enough_of_the_completion_is_no_error() -> None:
    command = f"{COMMAND} --print-completion bash | head -n 1"
    done = run("bash", "-o", "pipefail", "-c", command)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_shtab_completion_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['shtab'] = None"
    parse = "from drgn_vmemmap.cli.command_line import parse"
    code = f"{hidden}; {parse}; parse(['--print-completion', 'bash'])"
    done = run(sys.executable, "-c", code)
    assert done.returncode == CANNOT
    assert len(done.stderr.splitlines()) == 1
    assert "pip install shtab" in done.stderr
