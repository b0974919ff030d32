# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The shell's two entry points: run by drgn as its script, or run drgn with itself as the script.

The second becomes the first, so that drgn's own options mean what they mean there.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from drgn_vmemmap.cli import command_line, options
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, NAME, fail
from drgn_vmemmap.requirements import check_drgn

# How long QEMU may take to greet, in seconds; a monitor that is free answers at once.
_PATIENCE = 5.0


def main() -> None:
    """
    Run the command line of this process.

    :raises SystemExit: always, with the exit code.
    """
    prog = _program_of_drgn()
    if prog is not None:
        sys.exit(command_line.run(sys.argv[1:], prog))
    target, arguments = options.split(sys.argv[1:])
    parsed = command_line.parse(arguments)
    if parsed.command.needs_program:
        sys.exit(_run_drgn([*_with_defaults(target), _this_script(), *arguments]))
    sys.exit(command_line.execute(parsed, None))


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
    """What drgn is to run: the bundle, or the package's ``__main__.py``."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    bundle = os.path.dirname(package)
    return bundle if os.path.isfile(bundle) else os.path.join(package, "__main__.py")


def _run_drgn(arguments: Sequence[str]) -> int:
    """
    Run drgn's command line in this process.

    Its message for a target that it cannot open becomes one line and our exit code.
    """
    from drgn_vmemmap.target.program import is_cut_off

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
        return exit_.code or DONE
    except ImportError as error:
        return fail(CANNOT, f"drgn cannot be used: {error}; install it")
    except Exception as error:
        return _cannot_open(str(error))
    return DONE


def _is_silent(path: str) -> bool:
    """Whether nobody answers at a socket: drgn would wait for ever, deaf to Ctrl-C."""
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
    return fail(
        CANNOT, f"cannot open this target: {reason}; give a vmcore with -c, or see '{NAME} --help'"
    )


def _with_defaults(arguments: Sequence[str]) -> list[str]:
    """Leave to drgn only what we need of it, unless the user said otherwise."""
    added = []
    if not {"--main-symbols", "--no-default-symbols"}.intersection(arguments):
        added.append("--main-symbols")
    if not {"--log-level", "-q", "--quiet"}.intersection(arguments):
        # What keeps us from working is reported in our own line.
        added += ["--log-level", "none"]
    return [*added, *arguments]
