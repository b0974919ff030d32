# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The parser of all entry points, made from the table of commands.

The manual page and the completion of shells are made from it, too.
"""

from __future__ import annotations

import argparse
from functools import cache
from typing import Any, NoReturn

from drgn_vmemmap import __version__
from drgn_vmemmap.cli import (
    bundle,
    diff,
    explain,
    extract,
    map,
    options,
    report,
    rules,
    verify,
    watch,
)
from drgn_vmemmap.cli.command import Command, Parser, with_examples
from drgn_vmemmap.cli.exit_codes import DONE, NAME, exit_code_of
from drgn_vmemmap.cli.result import write

DEFAULT = report.COMMAND

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        DEFAULT,
        verify.COMMAND,
        explain.COMMAND,
        rules.COMMAND,
        map.COMMAND,
        watch.COMMAND,
        diff.COMMAND,
        extract.COMMAND,
        bundle.COMMAND,
    )
}
"""All commands, by name."""

_EXAMPLES = (
    f"{NAME} -c vmcore",
    f"{NAME} -c vmcore verify",
    f"{NAME} -c vmcore explain ffb7415cc008b174",
    f"{NAME} -k watch",
)


@cache
def parser() -> Parser:
    """The parser of all command lines, the same each time."""
    parser = Parser(
        prog=NAME,
        usage=f"{NAME} [-c VMCORE | -k | --qemu ADDRESS] [COMMAND] [OPTIONS]",
        description=with_examples(
            "Show, verify and explain what HugeTLB vmemmap optimization (HVO) did to a kernel.",
            _EXAMPLES,
        ),
        epilog=f"Without a command: {DEFAULT.name}. '{NAME} COMMAND --help' shows the options of a "
        "command; they can stand before or after it.\n\n"
        "Exit codes: 0 done, 1 verify or map found errors, watch --until or watch -- COMMAND saw a "
        "rule broken, or diff found a difference, 2 wrong usage, or this target cannot be "
        "analysed, 3 incomplete: something needed is not in the dump or was not recognised, or the "
        "analysis was interrupted.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"{NAME} {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh"),
        help="print a completion script for a shell",
    )
    options.add_shown(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    for command in COMMANDS.values():
        _add(subparsers, command)
    return parser


def _add(subparsers: argparse._SubParsersAction[Parser], command: Command) -> None:
    subparser = subparsers.add_parser(
        command.name,
        prog=f"{NAME} {command.name}",
        usage=None if command.usage is None else f"%(prog)s {command.usage}",
        help=command.help,
        description=with_examples(command.description, command.examples),
    )
    command.add_arguments(subparser)
    subparser.set_defaults(command=command)


class _Completion(argparse.Action):
    """Prints a completion script."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        try:
            from drgn_vmemmap.cli.completion import completion
        except ImportError:
            parser.error("completion needs shtab: pip install shtab (Debian: python3-shtab)")

        def write_script() -> int:
            write(completion(parser, DEFAULT.name, values), None)
            return DONE

        parser.exit(exit_code_of(write_script))
