# SPDX-License-Identifier: LGPL-2.1-or-later

"""What users do to build the package, each in another way."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from tests.packaging.environment import Environment, check, environ
from tests.support import ROOT, run

DEBIAN = Path("/usr/bin/python3")
"""Debian's own Python, which sees Debian's own tools."""
DEBIAN_PACKAGES = ("build", "setuptools", "wheel")
"""What a build with Debian's own tools needs: python3-build, …"""


def copy_source(directory: Path) -> Path:
    """
    Copy what the repository holds, and nothing that was built or installed there.

    :param directory: Where to; it must not exist.
    """
    for name in tracked():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return directory


def tracked() -> list[str]:
    """The files of the repository that are there, by their paths in it."""
    listing = check("git", "ls-files", "-z", cwd=ROOT).stdout
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def wheel_by_pip(environment: Environment, source: Path, output: Path) -> Path:
    """Build in isolation, as ``pip wheel`` and ``pip install`` do."""
    pip = (environment.bin / "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", output)
    check(*pip, source, **environment.options())
    return only(output, "*.whl")


def build(environment: Environment, source: Path, output: Path, epoch: int | None = None) -> None:
    """Build a source distribution, and from it a wheel, in isolation."""
    environment.install("build")
    options = environment.options()
    if epoch is not None:
        options["env"]["SOURCE_DATE_EPOCH"] = str(epoch)
    check(environment.bin / "python", "-m", "build", "--outdir", output, source, **options)


def build_without_isolation(python: Path, source: Path, output: Path) -> None:
    """Build a source distribution and a wheel with the tools that a Python has."""
    command = (python, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", output)
    check(*command, source, env=environ(), cwd=source.parent)


def unpack(sdist: Path, directory: Path) -> Path:
    """
    Unpack a source distribution.

    :return: The directory in which its files are.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(directory)
    (source,) = directory.iterdir()
    return source


def only(directory: Path, pattern: str) -> Path:
    """The one file in a directory whose name matches."""
    (path,) = directory.glob(pattern)
    return path


def missing_on_debian() -> list[str]:
    """Debian's packages that a build with Debian's own tools lacks here."""
    if not DEBIAN.exists():
        return ["python3"]
    ask = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return [
        f"python3-{name}"
        for name in DEBIAN_PACKAGES
        if run(DEBIAN, "-c", ask, name, env=environ(), cwd="/").returncode
    ]
