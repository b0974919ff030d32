# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A private apt: every suite that has a kernel for us, and none of the machine's own state touched.

It takes the mirrors (and with them proxies and credentials) from the machine's own apt
configuration, but keeps its sources, lists and caches to itself. It needs no root.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache as keep
from pathlib import Path

from vmcores.recipe import cache
from vmcores.recipe.errors import MissingError, RecipeError
from vmcores.recipe.tools import need, run

EXPERIMENTAL = "experimental"
SUITES = (
    *("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"),
    EXPERIMENTAL,  # apt takes nothing from it where another suite has it, too
)
SECURITY_SUITES = ("bullseye-security", "bookworm-security", "trixie-security")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

#: Seconds after which the lists of packages are fetched anew.
LISTS_AGE = 24 * 3600


def packages(pattern: str, suite: str | None = None) -> list[str]:
    """
    Return the names of all packages that match a regular expression, in no special order.

    :param suite: only those of this suite
    """
    options = _of_suite(suite) if suite else ()
    listing = _apt("apt-cache", *options, "search", "--names-only", pattern)
    return [line.split(" ", 1)[0] for line in listing.splitlines()]


def newest(package: str, suite: str) -> str:
    """Return NAME=VERSION of the newest package of this name that a suite has; or MissingError."""
    listing = _apt("apt-cache", *_of_suite(suite), "madison", package)
    if "|" not in listing:
        raise MissingError(f"package {package} is not in {suite}")
    return f"{package}={listing.split('|')[1].strip()}"


def unpack(package: str, only: str | None = None) -> Path:
    """
    Download a package, without its dependencies, and unpack it.

    :param package: NAME for its newest version, or NAME=VERSION
    :param only: unpack only the files that match this pattern of tar's (``*`` matches slashes too)
    :returns: the directory of the unpacked files (kept in the cache); see version()
    :raises MissingError: there is no such package, or the archive does not have it any more
    """

    def build(directory: Path) -> None:
        deb = _download(package, directory)
        _extract(deb, directory, only)
        # PACKAGE_VERSION_ARCHITECTURE.deb, with the colon of an epoch escaped
        (directory / ".version").write_text(deb.name.split("_")[1].replace("%3a", ":") + "\n")
        deb.unlink()

    return cache.once(cache.root() / "packages" / package, build)


def unpack_closure(*names: str, suite: str | None = None) -> Path:
    """
    Unpack packages and all they depend on, together, into one directory; see unpack().

    :param suite: take what this suite has, such as ``trixie``, and not the newest
    """

    def build(directory: Path) -> None:
        status = directory / "status"
        status.touch()  # nothing is installed, as far as apt is concerned: it fetches all
        private = [f"Dir::State::status={status}", f"Dir::Cache::archives={directory}/debs"]
        if suite is not None:
            private.append(f"APT::Default-Release={suite}")
        (directory / "debs" / "partial").mkdir(parents=True)
        options = [word for option in private for word in ("-o", option)]
        wanted = ("install", "--download-only", "--yes", "--no-install-recommends", *names)
        try:
            _apt("apt-get", *options, *wanted)
        except RecipeError as error:
            raise MissingError(f"{' '.join(names)}: {error}") from error
        for deb in sorted((directory / "debs").glob("*.deb")):
            run(["dpkg-deb", "-x", str(deb), str(directory)])
        shutil.rmtree(directory / "debs")

    kept = "+".join(names) + (f"@{suite}" if suite else "")
    return cache.once(cache.root() / "closures" / kept, build)


def version(unpacked: Path) -> str:
    """Return the version of a package that unpack() unpacked."""
    return (unpacked / ".version").read_text().strip()


def _download(package: str, directory: Path) -> Path:
    try:
        _apt("apt-get", "download", package, cwd=directory)
    except RecipeError as error:
        raise MissingError(f"package {package} cannot be fetched: {error}") from error
    return next(directory.glob("*.deb"))


def _extract(deb: Path, directory: Path, only: str | None) -> None:
    if only is None:
        run(["dpkg-deb", "-x", str(deb), str(directory)])
        return
    # Streamed, because the symbols of a kernel unpack to several gigabytes.
    archive = [need("dpkg-deb"), "--fsys-tarfile", str(deb)]
    taker = [need("tar"), "-x", "-C", str(directory), "--wildcards", only]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as source:
        taken = subprocess.run(taker, stdin=source.stdout, stderr=subprocess.PIPE, check=False)
    if taken.returncode or source.returncode:
        raise MissingError(f"{deb.name} holds no {only}")


def _apt(program: str, *arguments: str, cwd: Path | None = None) -> str:
    options = [word for option in _private() for word in ("-o", option)]
    return run([program, *options, *arguments], cwd=cwd)


@keep
def _private() -> tuple[str, ...]:
    """Return the options of the private apt, with its lists of packages fetched and fresh."""
    home = cache.root() / "apt"
    options = (
        f"Dir::Etc::sourcelist={home}/sources.list",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={home}/lists",
        f"Dir::Cache={home}/cache",
        # Some images of Debian switch these two off, which makes every question slow.
        "Dir::Cache::pkgcache=pkgcache.bin",
        "Dir::Cache::srcpkgcache=srcpkgcache.bin",
        "APT::Sandbox::User=",
        "Acquire::Languages=none",
        "Acquire::Retries=3",
    )
    with cache.lock(home):
        _refresh(home, options)
    return options


def _refresh(home: Path, options: tuple[str, ...]) -> None:
    stamp, sources, wanted = home / "updated", home / "sources.list", _sources(SUITES)
    # An earlier version of this recipe may have had other suites.
    is_same = sources.exists() and sources.read_text() == wanted
    if is_same and stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_AGE:
        return
    for name in ("lists/partial", "cache/archives/partial"):
        (home / name).mkdir(parents=True, exist_ok=True)
    sources.write_text(wanted)
    try:
        run(["apt-get", *(word for option in options for word in ("-o", option)), "update"])
    except RecipeError as error:
        # One suite that has gone away takes nothing from the others; no list at all does.
        if not any((home / "lists").glob("*_Packages*")):
            raise
        print(f"vmcores.recipe: some suites could not be fetched: {error}", file=sys.stderr)
    stamp.touch()


def _of_suite(suite: str) -> tuple[str, ...]:
    """Return the options with which apt-cache knows one suite alone."""
    _private()  # the lists are there
    home = cache.root() / "apt"
    with cache.lock(home):
        sources = home / f"{suite}.list"
        sources.write_text(_sources((suite,), security=()))
    names = (f"Dir::Etc::sourcelist={sources}", f"Dir::Cache::pkgcache={suite}.bin")
    return tuple(word for name in names for word in ("-o", name))


def _sources(suites: Sequence[str], security: Sequence[str] = SECURITY_SUITES) -> str:
    """Return a sources.list with these suites on the machine's mirrors."""
    mirrors = _mirrors()
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    lines = []
    for kind, names in (("archive", suites), ("security", security)):
        for suite in names if kind in mirrors else ():
            lines.append(f"deb {signed}{mirrors[kind]} {suite} main\n")
    return "".join(lines)


@keep
def _mirrors() -> dict[str, str]:
    """Return the addresses of the Debian archives, also of security, that this machine uses."""
    # Asked this way, apt itself reads its configuration, in whichever format it is written.
    addresses = run(["apt-get", "update", "--print-uris"])
    mirrors: dict[str, str] = {}
    for mirror, suite in re.findall(r"'(\S+)/dists/(\S+)/InRelease'", addresses):
        if re.search(r"debian-security$|-security$", mirror + " " + suite):
            mirrors.setdefault("security", mirror)
        elif suite.split("-")[0] in (*SUITES, "stable", "testing", "unstable", "oldstable"):
            mirrors.setdefault("archive", mirror)
    if "archive" not in mirrors:
        raise RecipeError("apt's configuration on this machine names no mirror of Debian")
    return mirrors
