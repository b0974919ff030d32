# SPDX-License-Identifier: LGPL-2.1-or-later

"""Completion scripts for shells, made from the parser by shtab."""

from __future__ import annotations

import argparse
import copy

import shtab

from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.options import target_parser

_FILES = ("FILE", "VMCORE", "VMLINUX", "A", "B")


def completion(parser: argparse.ArgumentParser, default: str, shell: str) -> str:
    """
    :param parser: The parser of all command lines.
    :param default: The command whose options can stand without a command.
    :param shell: ``bash`` or ``zsh``.
    :return: A script for that shell.
    """
    parser = copy.deepcopy(parser)
    commands = subparsers(parser)
    # drgn's options may stand anywhere.
    for known in (parser, *commands.values()):
        _add_options(known, target_parser())
    _add_options(parser, commands[default])
    for known in (parser, *commands.values()):
        for action in known._actions:
            _complete_file(action)
    return shtab.complete(parser, shell)


def _add_options(parser: argparse.ArgumentParser, options: argparse.ArgumentParser) -> None:
    """Give a parser those options of another one that it does not have."""
    for action in options._get_optional_actions():
        if not parser._option_string_actions.keys() & set(action.option_strings):
            parser._add_action(action)


def _complete_file(action: argparse.Action) -> None:
    if action.metavar in _FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar == "DIR":
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
