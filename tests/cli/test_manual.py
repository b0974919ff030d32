# SPDX-License-Identifier: LGPL-2.1-or-later

"""The manual page of the source is the one that the parser and the rules make."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.manual import _ENVIRONMENT, manual
from drgn_vmemmap.cli.parser import COMMANDS, parser
from drgn_vmemmap.rules.rule import RULES
from tests.support import PACKAGE, ROOT

PAGE = ROOT / "man" / "drgn-vmemmap.1"
NAME = re.compile(r'"([A-Z_]{4,})"')
"""The name of an environment variable."""


def plain(text: str) -> str:
    """What roff shows of some text."""
    return text.replace("\\-", "-")


def test_the_manual_page_is_up_to_date() -> None:
    assert PAGE.read_text() == manual(), "run 'make manual'"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_options_and_examples(name: str) -> None:
    page = plain(manual())
    assert f".SS \\fB{name}\\fR" in page
    assert all(example in page for example in COMMANDS[name].examples)
    actions = subparsers(parser())[name]._actions
    options = [option for action in actions for option in action.option_strings]
    assert all(f"\\fB{option}\\fR" in page for option in options)


def test_each_rule_has_its_severity_and_meaning() -> None:
    page = plain(manual())
    assert all(f"\\fB{rule}\\fR (" in page for rule in RULES)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_roff_understands_all_of_it() -> None:
    command = ["groff", "-man", "-Tutf8", "-ww"]
    done = subprocess.run(command, input=manual(), capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_each_variable_that_is_read_is_listed() -> None:
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines()]
    read = [name for line in lines if "os.environ" in line for name in NAME.findall(line)]
    assert {*read} == {*", ".join(names for names, _ in _ENVIRONMENT).split(", ")}
