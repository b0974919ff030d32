# SPDX-License-Identifier: LGPL-2.1-or-later

"""What makes a shell complete our command lines, made from the parser by shtab."""

from __future__ import annotations

import shtab

from drgn_vmemmap.cli import commands as cli
from drgn_vmemmap.cli.launcher import target_parser


def completion(shell: str) -> str:
    """
    :param shell: ``bash`` or ``zsh``.
    :return: A script for that shell.
    """
    parser = cli.parser()
    commands = cli.commands(parser)
    # drgn's options may stand anywhere, and without a command those of report do.
    for options, parsers in (
        (target_parser(), (parser, *commands.values())),
        (commands["report"], (parser,)),
    ):
        for known in parsers:
            _add_options(known, options)
    for known in (parser, *commands.values()):
        for action in known._actions:
            if action.metavar == "FILE":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _add_options(parser: cli.Parser, options: cli.Parser) -> None:
    """Give a parser those options of another one that it does not have."""
    for action in options._get_optional_actions():
        if not parser._option_string_actions.keys() & set(action.option_strings):
            parser._add_action(action)
