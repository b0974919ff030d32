# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: ``python3 -m vmcores.recipe``, from the root of the repository."""

from __future__ import annotations

import argparse
import contextlib
import sys

from vmcores.recipe import kernels
from vmcores.recipe.dump import boot, dump
from vmcores.recipe.errors import RecipeError
from vmcores.recipe.record import RECORDED, record
from vmcores.recipe.scenarios import SCENARIOS


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 not (one line on stderr says why)."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "lines":
            _print_lines()
        elif options.command == "scenarios":
            _print_scenarios()
        elif options.command == "record":
            for name in options.names or RECORDED:
                print(record(name))
        elif options.command == "boot":
            _boot(options)
        else:
            made = dump(options.line, options.scenario, options.output, options.symbols)
            print(made.vmcore)
    except RecipeError as error:
        print(f"vmcores.recipe: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m vmcores.recipe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lines", help="list the kernel lines that the archive has")
    commands.add_parser("scenarios", help="list the scenarios")
    command = commands.add_parser("record", help="make the vmcores of this directory again")
    command.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    command = commands.add_parser("boot", help="boot a kernel and leave it running, until Ctrl-C")
    _add_guest(command)
    command = commands.add_parser("dump", help="boot a kernel, set up a scenario, dump it")
    _add_guest(command)
    command.add_argument("--symbols", action="store_true", help="fetch the debuginfo too (300 MB)")
    return parser


def _add_guest(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--line",
        required=True,
        help="6.12, newest, newest-with-symbols, experimental; 6.12-amd64, 6.12-rt-amd64",
    )
    command.add_argument("--scenario", default="basic", choices=SCENARIOS, metavar="NAME")
    command.add_argument("--output", required=True, metavar="DIRECTORY")


def _boot(options: argparse.Namespace) -> None:
    with boot(options.line, options.scenario, options.output) as guest:
        print(f"drgn --qemu {guest.debug_socket}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            guest.wait()


def _print_lines() -> None:
    for line in kernels.lines():
        release = kernels.resolve(line)
        symbols = "symbols" if release.symbols_package else "-"
        modules = "modules" if release.modules_package else "-"
        print(f"{line:6} {release.name:36} {modules:8} {symbols}")


def _print_scenarios() -> None:
    for scenario in SCENARIOS.values():
        print(f"{scenario.name:16} {scenario.about}")


if __name__ == "__main__":
    sys.exit(main())
