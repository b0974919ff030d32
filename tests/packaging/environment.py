# SPDX-License-Identifier: LGPL-2.1-or-later

"""Fresh environments, which see nothing of the one that the tests run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import BIN, run

TIMEOUT = 900
"""Seconds that an installation or a test suite may take."""


def environ() -> dict[str, str]:
    """This process's environment variables without what leads to its Python, or changes drgn."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DRGN_", "PYTEST_", "PYTHON", "VIRTUAL_ENV"))
    }
    kept["PATH"] = os.pathsep.join(
        directory for directory in kept["PATH"].split(os.pathsep) if Path(directory) != BIN
    )
    return kept


class Environment:
    """A virtual environment with nothing in it but what a test installs."""

    def __init__(self, directory: Path) -> None:
        """
        :param directory: Where to make it; it must not exist.
        """
        self.directory = directory
        self.bin = directory / "bin"
        check(sys.executable, "-m", "venv", directory, env=environ(), cwd=directory.parent)

    def install(self, *requirements: str | Path) -> None:
        """Install what pip is given, such as ``drgn==0.1.0`` or the path of a wheel."""
        check(self.bin / "pip", "install", "--quiet", *requirements, **self.options())

    def installed(self) -> dict[str, str]:
        """The versions of what is installed, by name."""
        listing = check(self.bin / "pip", "list", "--format", "json", **self.options()).stdout
        return {package["name"].lower(): package["version"] for package in json.loads(listing)}

    def run(
        self, program: str | Path, *arguments: object, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a program, first looked for in the environment, outside of the repository.

        :param options: Of :func:`subprocess.run()`.
        """
        return run(self.bin / program, *arguments, **{**self.options(), **options})

    def options(self) -> dict[str, Any]:
        """Options of :func:`subprocess.run()` for whatever is run in this environment."""
        variables = environ()
        variables["PATH"] = f"{self.bin}{os.pathsep}{variables['PATH']}"
        return {"env": variables, "cwd": self.directory, "timeout": TIMEOUT}


def check(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """
    Run a command that must succeed; if it does not, what it printed is shown.

    :param options: Of :func:`subprocess.run()`.
    """
    done = run(*command, **{"timeout": TIMEOUT, **options})
    if done.returncode:
        shown = " ".join(map(str, command))
        raise AssertionError(f"{shown}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done
