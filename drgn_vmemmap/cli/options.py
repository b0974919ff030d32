# SPDX-License-Identifier: LGPL-2.1-or-later

"""drgn's own options: which target, and which debugging symbols."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from drgn_vmemmap.cli.arguments import nonempty
from drgn_vmemmap.cli.command import Parser
from drgn_vmemmap.cli.exit_codes import NAME

# The options that --help shows.
_SHOWN = {
    "-c/--core": ("VMCORE", "a vmcore"),
    "-k/--kernel": (None, "the running kernel, which is the default"),
    "--qemu": ("ADDRESS", "a guest, by the address of its QMP socket"),
    "-s/--symbols": ("VMLINUX", "debugging symbols; the dump's own BTF is used without them"),
}

_OTHERS = {
    None: """
        -q/--quiet --main-symbols --no-default-symbols --no-default-debug-directories
        --no-default-debug-link-directories --no-default-kernel-directories
    """,
    "FILE": """
        --extra-symbols --vmcoreinfo --debug-directory --debug-link-directory --kernel-directory
    """,
    "WORD": "--architecture --log-level --try-symbols-by --no-symbols-by",
}


class DrgnOptions(NamedTuple):
    """drgn's options, as they were given."""

    given: Sequence[tuple[str, str | None]]
    """Each option, and its value if it takes one."""

    def values(self, *names: str) -> list[str]:
        """The values of some options."""
        return [value for name, value in self.given if name in names and value is not None]

    def has(self, *names: str) -> bool:
        """Whether one of some options was given."""
        return any(name in names for name, _ in self.given)

    def words(self) -> list[str]:
        """The options as words of a command line."""
        return [word for name, value in self.given for word in _words(name, value)]


def _words(name: str, value: str | None) -> tuple[str, ...]:
    if value is None:
        return (name,)
    if not value.startswith("-"):
        return name, value
    # In a word of its own, it would be taken for an option.
    return (f"{name}={value}" if name.startswith("--") else name + value,)


def split(arguments: Sequence[str]) -> tuple[DrgnOptions, list[str]]:
    """
    Separate drgn's options from ours, wherever they stand before ``--``.

    :return: drgn's options, and our arguments.
    :raises SystemExit: if one of drgn's options lacks its value.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    known, rest = target_parser().parse_known_args(arguments[:end])
    return DrgnOptions(known.given), [*rest, *arguments[end:]]


@cache
def target_parser() -> Parser:
    """The parser of the options that are handed to drgn, the same each time."""
    parser = Parser(prog=NAME, add_help=False, allow_abbrev=False)
    parser.set_defaults(given=())
    add_shown(parser)
    for metavar, options in _OTHERS.items():
        for names in options.split():
            _add(parser, names, metavar, "handed to drgn")
    return parser


def add_shown(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``--help`` shows."""
    group = parser.add_argument_group(
        "target (for these and drgn's other options, see drgn --help)"
    )
    for names, (metavar, help_) in _SHOWN.items():
        _add(group, names, metavar, help_)


def _add(parser: argparse._ActionsContainer, names: str, metavar: str | None, help_: str) -> None:
    parser.add_argument(
        *names.split("/"),
        action=_Keep,
        nargs=0 if metavar is None else None,
        type=nonempty,
        default=argparse.SUPPRESS,
        metavar=metavar,
        help=help_,
    )


class _Keep(argparse.Action):
    """Keeps an option as it was given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Any = None,
    ) -> None:
        given = (option_string, None if self.nargs == 0 else values)
        namespace.given = (*namespace.given, given)
