# SPDX-License-Identifier: LGPL-2.1-or-later

"""A command: its arguments, its help, and the function that runs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, fail, write_output

_EXAMPLES = "examples:"


class Command(NamedTuple):
    """
    A command of the command line.

    Modules that only a running command needs are imported by :attr:`run`, so that ``--help``
    does not wait for them.
    """

    name: str
    help: str
    """One line for the list of commands."""
    description: str
    examples: tuple[str, ...]
    """Command lines that show how it is used."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    """Adds the command's own arguments to its parser."""
    run: Callable[[argparse.Namespace, Any], int]
    """Runs the command with its options and a :class:`drgn.Program`; returns the exit code."""
    needs_program: bool = True
    """Whether it analyses a target. Otherwise the program is ``None``."""
    usage: str | None = None
    """Its usage after its name, where that cannot be seen from its arguments."""
    takes_child: bool = False
    """Whether another command can follow after ``--``; :attr:`run` finds it in ``child``."""
    can_do_without: Callable[[argparse.Namespace], bool] = lambda options: False
    """Whether these options allow it to run with no target, if the user names none."""
    dumps: Callable[[argparse.Namespace], Sequence[str]] = lambda options: ()
    """Paths that it opens as dumps, other than its target."""


class Parser(argparse.ArgumentParser):
    """A parser that reports a wrong command line in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, **options})

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse hides that help cannot be written."""
        if file is not sys.stdout:
            super()._print_message(message, file)
        elif write_output(message) != DONE:
            self.exit(CANNOT)

    def error(self, message: str) -> NoReturn:
        self.exit(fail(CANNOT, f"{message}; see '{self.prog} --help'"))


def nearest(name: str, names: Iterable[str]) -> str:
    """A question whether the nearest of some names is meant; all names if none is near."""
    import difflib

    names = list(names)
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"


def subparsers(parser: argparse.ArgumentParser) -> dict[str, Parser]:
    """The parsers of the commands, by name."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


class _Formatter(argparse.HelpFormatter):
    """Keeps paragraphs apart, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            part if part.startswith(_EXAMPLES) else fill(part, width, indent)
            for part in text.split("\n\n")
        )


def with_examples(description: str, examples: tuple[str, ...]) -> str:
    """A description, followed by examples."""
    return f"{description}\n\n" + "\n  ".join((_EXAMPLES, *examples))
