# SPDX-License-Identifier: LGPL-2.1-or-later

"""Each example of the help is a command line, and what it says of defaults is so."""

from __future__ import annotations

import shlex

import pytest

from drgn_vmemmap.cli import command_line, manual, options
from drgn_vmemmap.cli import parser as parsers
from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.parser import COMMANDS, parser

COMMAND_LINES = [
    *parsers._EXAMPLES,
    *(command for _, command in manual._EXAMPLES),
    *(example for command in COMMANDS.values() for example in command.examples),
]


@pytest.mark.parametrize("example", COMMAND_LINES)
def test_an_example_is_a_command_line(example: str) -> None:
    words = shlex.split(example.partition(" < ")[0])
    if words[0] == "drgn":
        words = words[words.index("drgn_vmemmap") :]
    _, ours = options.split(words[1:])
    name = command_line.parse(ours).command.name
    assert name in ours or name == "report"


def test_without_a_command_it_is_report_and_without_a_format_a_table() -> None:
    assert command_line.parse([]).command.name == "report"
    for name, command in subparsers(parser()).items():
        if "--format" in command._option_string_actions:
            needed = ["a", "b"] if name == "diff" else []
            assert command_line.parse([name, *needed]).format == "table"
