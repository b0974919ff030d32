# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel line ("6.12") in, the files of its newest Debian package out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

from vmcores.recipe import apt
from vmcores.recipe.errors import MissingError

#: The flavour with the smallest packages; it has all that a virtual machine needs.
FLAVOUR = "cloud-amd64"

#: All flavours of Debian's kernels for x86-64.
FLAVOURS = (FLAVOUR, "amd64", "rt-amd64")

#: Not a line's number but a question: the newest line, the newest that still has symbols.
NEWEST, NEWEST_WITH_SYMBOLS = "newest", "newest-with-symbols"

#: What the suite "experimental" has: mostly the release candidate of the next line.
EXPERIMENTAL = apt.EXPERIMENTAL


@dataclass(frozen=True)
class Release:
    """One kernel that the archive lists: its name as ``uname -r`` has it, and its packages."""

    name: str
    packages: tuple[str, ...]

    @property
    def line(self) -> str:
        """The first two numbers: "6.12"."""
        return ".".join(self.name.split(".")[:2])

    @property
    def symbols_package(self) -> str | None:
        """The package with the debuginfo, or None where the archive has none (any more)."""
        return self._first("linux-image-{}-dbg")

    @property
    def image_package(self) -> str | None:
        """The package with the bootable image."""
        return self._first("linux-binary-{}", "linux-image-{}", "linux-image-{}-unsigned")

    @property
    def modules_package(self) -> str | None:
        """The package with the modules; for some releases it is gone and the image is not."""
        if self._first("linux-binary-{}") is None:
            return self.image_package
        return self._first("linux-modules-{}")

    @property
    def config_package(self) -> str | None:
        """The package with the configuration it was built with."""
        return self._first("linux-base-{}") or self.image_package

    def _first(self, *patterns: str) -> str | None:
        names = (pattern.format(self.name) for pattern in patterns)
        return next((name for name in names if name in self.packages), None)


@dataclass(frozen=True)
class Kernel:
    """A kernel on this machine's disk."""

    release: str
    package: str  #: the image's package and its version, as apt writes it: NAME=VERSION
    image: Path
    modules: Path | None  #: a directory somewhere under which the modules are
    config: Path | None
    symbols: Path | None  #: vmlinux with debuginfo; only when it was asked for


def lines() -> list[str]:
    """Return all kernel lines that the archive has, oldest first."""
    return sorted({release.line for release in releases()}, key=_order)


@cache
def releases(flavour: str = FLAVOUR, suite: str | None = None) -> tuple[Release, ...]:
    """
    Return all kernels that the archive has an image of, oldest first.

    :param suite: only those of this suite, release candidates among them
    """
    found: dict[str, set[str]] = {}
    # Release candidates have the names that elsewhere the packages have that follow a line.
    number = r"\d+\.\d+" if suite == EXPERIMENTAL else r"\d+\.\d+\.\d"
    name = re.compile(rf"linux-[a-z]+-({number}[^-]*(?:-\d[^-]*)?-{flavour})(?:-dbg|-unsigned)?")
    for package in apt.packages(r"^linux-(image|binary|modules|base)-[0-9].*-amd64", suite):
        match = name.fullmatch(package)
        if match:
            found.setdefault(match[1], set()).add(package)
    known = (Release(name, tuple(sorted(packages))) for name, packages in found.items())
    return tuple(
        sorted(
            (release for release in known if release.image_package), key=lambda r: _order(r.name)
        )
    )


def resolve(line: str, symbols: bool = False) -> Release:
    """
    Find the newest release of a line.

    :param line: "6.12", "newest", "newest-with-symbols" or "experimental"; with a flavour after
        it, such as "6.12-rt-amd64", if it is not FLAVOUR
    :param symbols: only a release whose debuginfo is there as well
    :raises MissingError: the archive has no such release
    """
    number, flavour = _split(line)
    symbols = symbols or number == NEWEST_WITH_SYMBOLS
    any_line = number in (NEWEST, NEWEST_WITH_SYMBOLS, EXPERIMENTAL)
    suite = EXPERIMENTAL if number == EXPERIMENTAL else None
    fitting = [
        release
        for release in releases(flavour, suite)
        if (any_line or release.line == number) and (release.symbols_package or not symbols)
    ]
    if not fitting:
        wanted = f"kernel line {line}" + (" with symbols" if symbols else "")
        raise MissingError(f"{wanted}: not in the archive (there are: {', '.join(lines())})")
    # Where some packages of a release are gone already, an older complete one serves better.
    return max(
        fitting, key=lambda release: (release.modules_package is not None, fitting.index(release))
    )


def _split(line: str) -> tuple[str, str]:
    """The parts of LINE or LINE-FLAVOUR."""
    for flavour in sorted(FLAVOURS, key=len, reverse=True):
        if line.endswith(f"-{flavour}"):
            return line[: -len(flavour) - 1], flavour
    return line, FLAVOUR


def fetch(line: str, symbols: bool = False) -> Kernel:
    """Download the newest kernel of a line; parameters and errors as in resolve()."""
    release = resolve(line, symbols)
    suite = EXPERIMENTAL if _split(line)[0] == EXPERIMENTAL else None

    def unpack(package: str, only: str | None = None) -> Path:
        # One release candidate's packages have the names of the one's before.
        return apt.unpack(apt.newest(package, suite) if suite else package, only)

    assert release.image_package  # releases() lists no other
    boot = unpack(release.image_package)
    modules = unpack(release.modules_package) if release.modules_package else None
    config = unpack(release.config_package) if release.config_package else None
    return Kernel(
        release=release.name,
        package=f"{release.image_package}={apt.version(boot)}",
        image=_find(boot, f"vmlinuz-{release.name}", "vmlinuz"),
        modules=modules,
        config=_find_or_none(config, f"config-{release.name}", "config"),
        symbols=_symbols(release, unpack) if symbols else None,
    )


def _symbols(release: Release, unpack: Callable[[str, str], Path]) -> Path:
    assert release.symbols_package
    unpacked = unpack(release.symbols_package, "*/vmlinux*")
    return _find(unpacked, f"vmlinux-{release.name}", "vmlinux")


def _find(directory: Path, *names: str) -> Path:
    found = _find_or_none(directory, *names)
    if found is None:
        raise MissingError(f"package {directory.name} has no {names[0]}")
    return found


def _find_or_none(directory: Path | None, *names: str) -> Path | None:
    for name in names if directory else ():
        for path in sorted(directory.rglob(name)) if directory else ():
            if path.is_file():
                return path
    return None


def _order(version: str) -> list[tuple[tuple[int, ...], int]]:
    """Return a key that sorts version strings as dpkg does."""
    return [
        ((*tuple(_rank(char) for char in text), 0), int(digits or 0))
        for text, digits in re.findall(r"(\D*)(\d*)", version)
    ]


def _rank(char: str) -> int:
    # dpkg: a tilde before the end of the string, letters before all other characters.
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256
