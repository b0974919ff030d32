# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The shell's two doors: run by drgn as its script, or run drgn with itself as the script.

The second is the first, so that drgn's own options mean what they mean there.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import struct
import sys
from collections.abc import Sequence
from typing import Any

from drgn_vmemmap.cli import commands as cli

# How long QEMU may take to greet, in seconds; a monitor that is free answers at once.
_PATIENCE = 5.0

# drgn's options: those without a value, and the others by what it is.
_TARGET_OPTIONS = {
    None: """
        -k/--kernel -q/--quiet --main-symbols --no-default-symbols --no-default-debug-directories
        --no-default-debug-link-directories --no-default-kernel-directories
    """,
    "FILE": """
        -c/--core --qemu -s/--symbols --extra-symbols --vmcoreinfo --debug-directory
        --debug-link-directory --kernel-directory
    """,
    "WORD": "--architecture --log-level --try-symbols-by --no-symbols-by",
}


def main() -> None:
    """
    Run the command line of this process.

    :raises SystemExit: always, with the exit code.
    """
    prog = _program_of_drgn()
    if prog is not None:
        sys.exit(cli.run(sys.argv[1:], prog))
    target, arguments = split(sys.argv[1:])
    options = cli.parse(arguments)
    if options.needs_program:
        sys.exit(_run_drgn([*_with_defaults(target), _this_script(), *arguments]))
    sys.exit(cli.execute(options, None))


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """
    Tell drgn's options from ours, wherever they stand.

    :return: drgn's arguments, and the command's.
    :raises SystemExit: if one of drgn's lacks its value.
    """
    known, rest = target_parser().parse_known_args(arguments)
    return known.target, rest


def target_parser() -> cli.Parser:
    """The parser of the options that are handed to drgn."""
    parser = cli.Parser(prog=cli.NAME, add_help=False, allow_abbrev=False)
    parser.set_defaults(target=[])
    for metavar, options in _TARGET_OPTIONS.items():
        for names in options.split():
            parser.add_argument(
                *names.split("/"),
                action=_Keep,
                nargs=0 if metavar is None else None,
                metavar=metavar,
                help="handed to drgn",
            )
    return parser


class _Keep(argparse.Action):
    """Keeps an option as it came."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Any = None,
    ) -> None:
        namespace.target += [option_string] if self.nargs == 0 else [option_string, values]


def _program_of_drgn() -> Any:
    """The program that drgn opened before it ran this script, if it did."""
    drgn = sys.modules.get("drgn")
    if drgn is None:
        return None
    try:
        return drgn.get_default_prog()
    except drgn.NoDefaultProgramError:
        return None


def _this_script() -> str:
    """What drgn is to run: the bundle, or the package's ``__main__.py``."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    bundle = os.path.dirname(package)
    return bundle if os.path.isfile(bundle) else os.path.join(package, "__main__.py")


def _run_drgn(arguments: Sequence[str]) -> int:
    """
    Run drgn's command line in this process.

    What it says of a target that it cannot open becomes one line and our exit code.
    """
    for option, address in zip(arguments, arguments[1:]):
        if option in ("-c", "--core") and is_cut_off(address):
            return _cannot_open("it is cut off before its first page")
        if option == "--qemu" and _is_silent(address):
            return _cannot_open(f"{address} says nothing: QEMU speaks to one client at a time")
    sys.argv = ["drgn", *arguments]
    try:
        runpy.run_module("drgn", run_name="__main__")
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            return _cannot_open(exit_.code)
        return exit_.code or cli.DONE
    except ImportError as error:
        return cli.fail(cli.CANNOT, f"drgn cannot be used: {error}; install it")
    except Exception as error:
        return _cannot_open(str(error))
    return cli.DONE


def is_cut_off(path: str) -> bool:
    """
    Tell a kdump-compressed file that ends within its bitmaps.

    libkdumpfile maps them, and the process would end by a bus error, not by an
    error that can be told. See ``struct disk_dump_header`` of makedumpfile.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(440)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False  # drgn says why
    if len(header) < 440 or not header.startswith(b"KDUMP   "):
        return False
    block_size, sub_header, bitmaps = struct.unpack_from("<3I", header, 428)
    return bool(size < (1 + sub_header + bitmaps) * block_size)


def _is_silent(path: str) -> bool:
    """Tell a socket at which nobody answers: drgn would wait for ever, deaf to Ctrl-C."""
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(path)
            connection.recv(1)
        except socket.timeout:
            return True
        except OSError:
            return False  # drgn says why, or knows what it is
    return False


def _cannot_open(message: str) -> int:
    from drgn_vmemmap.errors import printable

    if "Operation not permitted: '/proc/kcore'" in message:
        # open_kcore() of fs/proc/kcore.c; who merely is not root is refused by the file's mode.
        message = "this kernel lets nobody read its memory: it is locked down, or this a container"
    reason = re.sub(r"^(error: |\[Errno \d+\] )", "", printable(message.strip().splitlines()[-1]))
    return cli.fail(
        cli.CANNOT,
        f"cannot open this target: {reason}; give a vmcore with -c, or see 'drgn --help'",
    )


def _with_defaults(arguments: Sequence[str]) -> list[str]:
    """Leave to drgn only what we need of it, unless the user said otherwise."""
    added = []
    if not {"--main-symbols", "--no-default-symbols"}.intersection(arguments):
        added.append("--main-symbols")
    if not {"--log-level", "-q", "--quiet"}.intersection(arguments):
        # What keeps us from working is told in our own line.
        added += ["--log-level", "none"]
    return [*added, *arguments]
