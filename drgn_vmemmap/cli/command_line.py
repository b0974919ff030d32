# SPDX-License-Identifier: LGPL-2.1-or-later

"""From the words of a command line to the exit code of a command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import options
from drgn_vmemmap.cli.command import Command, Parser, nearest, subparsers
from drgn_vmemmap.cli.exit_codes import DONE, INCOMPLETE, exit_code_of, warn
from drgn_vmemmap.cli.parser import COMMANDS, DEFAULT, parser

if TYPE_CHECKING:
    import drgn

# These need no command.
_ALONE = ("-h", "--help", "-V", "--version", "--print-completion")


def run(arguments: Sequence[str], prog: drgn.Program) -> int:
    """
    Run a command line on a program.

    :param arguments: Everything after the name of this tool.
    :return: The exit code. Whatever goes wrong is reported in one line on standard error.
    """
    try:
        return execute(parse(arguments), prog)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else DONE


def execute(options: argparse.Namespace, prog: drgn.Program | None) -> int:
    """
    Run a parsed command.

    :param options: Result of :func:`parse()`.
    :param prog: The target; ``None`` if the command needs none.
    :return: The exit code.
    """
    command: Command = options.command
    return exit_code_of(lambda: _run(command, options, prog))


def _run(command: Command, options: argparse.Namespace, prog: drgn.Program | None) -> int:
    """Run a command; where it fails or is incomplete, say so if its dump is cut off."""
    from drgn_vmemmap.cli.inputs import keep_inputs
    from drgn_vmemmap.errors import CannotAnalyse

    keep_inputs(options)
    try:
        code = command.run(options, prog)
    except CannotAnalyse as error:
        cut_off = _cut_off(prog)
        raise (type(error)(f"{cut_off}; {error}") if cut_off else error) from error
    cut_off = _cut_off(prog) if code == INCOMPLETE else None
    if cut_off:
        warn(cut_off)
    return code


def _cut_off(prog: drgn.Program | None) -> str | None:
    """What is missing at the end of a program's dump, in words; ``None`` if nothing is."""
    from drgn_vmemmap.errors import printable
    from drgn_vmemmap.target.open_files import dump_path
    from drgn_vmemmap.target.program import what_is_cut_off

    path = None if prog is None else dump_path(prog)
    if path is None or not os.path.isfile(path):
        return None
    reason = what_is_cut_off(path)
    return None if reason is None else f"{printable(path)} {reason}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """
    :param arguments: Everything after the name of this tool, without drgn's options. Options of a
        command can stand before it.
    :return: The options, among them ``command``.
    :raises SystemExit: for ``--help``, or a wrong command line.
    """
    known = parser()
    target, rest = options.split(arguments)
    if target.given:
        option, _ = target.given[0]
        known.error(f"drgn has opened its target already: {option} belongs before the script")
    words, child = _without_child(rest)
    words = _command_first(known, words)
    if child and _takes_words(known, words[0]):
        words, child = [*words, "--", *child], None
    parsed, unknown = known.parse_known_args(words)
    command = subparsers(known)[parsed.command.name]
    if unknown:
        command.error(_unknown_words(unknown, takes_files=not parsed.command.needs_program))
    if child is not None and not parsed.command.takes_child:
        command.error(f"{parsed.command.name} takes no command after --")
    if child == []:
        command.error("a command must follow after --")
    parsed.child = child or []
    return parsed


def _without_child(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Our own words, and those after ``--``, if it is there: most often those of a command."""
    if "--" not in arguments:
        return arguments, None
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]


def _takes_words(known: Parser, name: str) -> bool:
    """Whether a command takes words, such as files: after ``--``, they may begin with a hyphen."""
    parser = subparsers(known).get(name)
    return parser is not None and bool(parser._get_positional_actions())


def _command_first(known: Parser, arguments: list[str]) -> list[str]:
    """The same command line, with its command in front of all options."""
    position = _position_of_command(known, arguments)
    if position is None:
        alone = bool(arguments) and arguments[0].partition("=")[0] in _ALONE
        return arguments if alone else [DEFAULT.name, *arguments]
    name = arguments[position]
    if name not in COMMANDS:
        known.error(_unknown_command(name))
    return [name, *arguments[:position], *arguments[position + 1 :]]


def _position_of_command(known: Parser, arguments: list[str]) -> int | None:
    """Index of the first word that is neither an option nor the value of one."""
    with_value = _options_with_value(known)
    is_value = False
    for position, word in enumerate(arguments):
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = _takes_next_word(word, with_value)
        else:
            return position
    return None


def _options_with_value(known: Parser) -> set[str]:
    return {
        name
        for each in (known, *subparsers(known).values())
        for action in each._get_optional_actions()
        if action.nargs != 0
        for name in action.option_strings
    }


def _takes_next_word(word: str, with_value: set[str]) -> bool:
    """Whether an option, or an unambiguous beginning of a long one, takes the next word."""
    if word.startswith("--"):
        return any(name.startswith(word) for name in with_value)
    return word in with_value


def _unknown_words(words: list[str], takes_files: bool) -> str:
    if os.path.isfile(words[0]) and not takes_files:
        return f"{words[0]!r} is a file: to analyse it, give it with -c"
    return f"unrecognized arguments: {' '.join(words)}"


def _unknown_command(name: str) -> str:
    if os.path.isfile(name):
        return f"{name!r} is not a command but a file: to analyse it, give it with -c"
    return f"there is no command {name!r}; {nearest(name, COMMANDS)}"
