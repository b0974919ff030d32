# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The shell's two entry points: run by drgn as its script, or run drgn with itself as the script.

The second becomes the first, so that drgn's own options mean what they mean there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from drgn_vmemmap.cli import command_line, crashes, opening, options, process
from drgn_vmemmap.cli.exit_codes import DONE, exit_code_of, warn
from drgn_vmemmap.cli.inputs import keep_inputs
from drgn_vmemmap.cli.options import DrgnOptions
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.requirements import check_drgn

# drgn's plugin that has crash's commands, for its prompt. Loading it takes a tenth of the time of a
# short command.
_PROMPT_PLUGIN = "crash_commands"
_DISABLED_PLUGINS = "DRGN_DISABLE_PLUGINS"

_until_opened = contextlib.ExitStack()
"""Undoes what is to hold only until drgn has opened the target."""


def main() -> NoReturn:
    """
    Run the command line of this process, and end it.

    :raises SystemExit: with the exit code, as a script of drgn, whose process may go on.
    """
    process.occupy_standard_streams()
    process.buffer_standard_output()
    process.see_how_children_end()
    prog = _program_of_drgn()
    with process.little_garbage_collection():
        if prog is not None:
            _until_opened.close()
            process.let_interrupts_raise()
            sys.exit(command_line.run(sys.argv[1:], prog))
        process.let_interrupts_end_this_process()
        process.end(run())


def run() -> int:
    """
    Run the command line of a process in which drgn has opened no program.

    :return: The exit code.
    :raises SystemExit: if the usage is wrong.
    """
    target, arguments = options.split(sys.argv[1:])
    parsed = command_line.parse(arguments)
    command = parsed.command
    if command.needs_program and (opening.is_named(target) or not command.can_do_without(parsed)):
        return exit_code_of(lambda: _run_drgn(target, parsed, arguments))
    dumps = command.dumps(parsed)
    if dumps and opening.is_named(target):
        warn(f"{command.name} needs no target: the one that is named is ignored")
    crashes.continue_in_child(dumps)
    process.let_interrupts_raise()
    return command_line.execute(parsed, None)


def _program_of_drgn() -> Any:
    """The program that drgn opened before it ran this script, if it did."""
    drgn = sys.modules.get("drgn")
    if drgn is None:
        return None
    check_drgn()
    try:
        return drgn.get_default_prog()
    except drgn.NoDefaultProgramError:
        return None


def _this_script() -> str:
    """The script that drgn is to run: the bundle, or the package's ``__main__.py``."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    bundle = os.path.dirname(package)
    return bundle if os.path.isfile(bundle) else os.path.join(package, "__main__.py")


def _run_drgn(target: DrgnOptions, parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    """
    Run drgn's command line in this process, which runs this one again as its script.

    :param parsed: The options among the arguments.
    :raises CannotAnalyse: if drgn cannot open the target. Its message becomes one line.
    """
    keep_inputs(parsed, target.values("--vmcoreinfo"))
    opening.check(target)
    crashes.continue_in_child(target.values(*opening.CORE))
    sys.argv = ["drgn", *_defaults(target), *target.words(), _this_script(), *arguments]
    _disable_prompt_plugin()
    try:
        with _until_opened, _refusing_usage():
            runpy.run_module("drgn", run_name="__main__")
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            raise opening.failure(target, exit_.code) from None
        code = exit_.code or DONE
    except ImportError as error:
        raise CannotAnalyse(f"drgn cannot be used: {error}; install it") from error
    except _WrongUsage as error:
        raise CannotAnalyse(f"drgn: {error}; see 'drgn --help'") from error
    except Exception as error:
        raise opening.failure(target, str(error)) from error
    unused = opening.unused_symbols(target)
    if unused is not None:
        warn(unused)
    return code


def _disable_prompt_plugin() -> None:
    """Add a plugin to those that drgn is not to load, until the target is open."""
    before = os.environ.get(_DISABLED_PLUGINS)
    os.environ[_DISABLED_PLUGINS] = ",".join(filter(None, (before, _PROMPT_PLUGIN)))
    if before is None:
        _until_opened.callback(os.environ.pop, _DISABLED_PLUGINS)
    else:
        _until_opened.callback(os.environ.__setitem__, _DISABLED_PLUGINS, before)


class _WrongUsage(Exception):
    """drgn's parser refuses an option; the message says why."""


@contextlib.contextmanager
def _refusing_usage() -> Iterator[None]:
    """Let parsers that are not ours raise an exception: drgn's would print all of its options."""

    def refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise _WrongUsage(message)

    before = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = refuse  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = before  # type: ignore[method-assign]


def _defaults(target: DrgnOptions) -> list[str]:
    """
    Options that leave to drgn only what we need of it, and tell it what it would not find out,
    unless the user said otherwise.
    """
    from drgn_vmemmap.target.kdump_names import is_nameless

    added = []
    if not target.has("--main-symbols", "--no-default-symbols"):
        added.append("--main-symbols")
    if not target.has("--log-level", "-q", "--quiet"):
        # If a command fails, it says so in one line of its own.
        added += ["--log-level", "none"]
    if not target.has("--architecture") and any(map(is_nameless, target.values(*opening.CORE))):
        added += ["--architecture", "x86_64"]
    return added
