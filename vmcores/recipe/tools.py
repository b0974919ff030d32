# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs of this machine that the recipe runs, and the Debian packages they come in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmcores.recipe.errors import RecipeError, ToolError

#: Program -> Debian package. vmcores/README.md carries the same list, for people and for CI.
PACKAGES = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "qemu-system-x86_64": "qemu-system-x86",
}

#: Where administrators' programs live; a plain user's PATH may lack them.
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def need(program: str) -> str:
    """Return the path of a program, or raise ToolError that says which package to install."""
    path = shutil.which(program) or shutil.which(program, path=_SBIN)
    if path is None:
        package = PACKAGES.get(program, program)
        raise ToolError(f"{program} is not installed: apt-get install {package}")
    return path


def run(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """
    Run a program to its end.

    :param command: the program (see need()) and its arguments
    :returns: what it wrote to its standard output
    :raises RecipeError: it failed; the message is the last line it wrote to standard error
    """
    done = subprocess.run(
        [need(command[0]), *command[1:]],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RecipeError(f"{' '.join(command[:2])}: {lines[-1]}")
    return done.stdout
