# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is analysed: dumps that are built once, and how each is opened."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import drgn

from tests.bench.host import Host, add_host_debuginfo
from vmcores.recipe import cache
from vmcores.recipe.dump import dump
from vmcores.recipe.errors import MissingError


@dataclass(frozen=True)
class Target:
    """A dump."""

    name: str
    about: str
    build: Callable[[Path], object]
    """Fills a directory with a vmcore and what it takes to open it."""
    every: int = 1
    """The plain script follows the vmemmap pages of every so many folios; its time is scaled."""
    fresh: str | None = None
    """The target that it is compared with: the same, but never in use."""
    compressed: bool = False
    """Whether reading it means to decompress it."""

    def built(self, parent: Path) -> Path:
        """
        :param parent: Directory in which targets are kept.
        :return: The target's directory, built if need be.
        """

        def build(directory: Path) -> None:
            print(f"{self.name}: building {self.about}", file=sys.stderr, flush=True)
            self.build(directory)

        return cache.once(parent / self.name, build)


def open_target(directory: Path) -> drgn.Program:
    """The program of a target's vmcore, with its types and symbols as far as there are any."""
    prog = drgn.Program()
    prog.set_core_dump(str(directory / "vmcore"))
    if not is_real(directory):
        add_host_debuginfo(prog, directory / "host.json")
    elif vmlinux(directory):
        prog.load_debug_info([str(vmlinux(directory))])
    return prog


def is_real(directory: Path) -> bool:
    """Whether a target is a real kernel."""
    return (directory / "guest.json").exists()


def vmlinux(directory: Path) -> Path | None:
    """A real kernel's debuginfo, if the archive had it."""
    path = json.loads((directory / "guest.json").read_text())["vmlinux"]
    return Path(path) if path and Path(path).exists() else None


def _guest(directory: Path) -> None:
    try:
        dump("6.12", "big", directory, symbols=True)
    except MissingError:
        dump("6.12", "big", directory)


def _host(count: int, order: int = 9, gib: int = 0, aged: bool = False) -> Callable[[Path], None]:
    def build(directory: Path) -> None:
        host = Host(count, order, gib, aged)
        host.write_elf(directory / "vmcore")
        host.write_debuginfo(directory / "host.json")

    return build


def _kdump(count: int) -> Callable[[Path], None]:
    def build(directory: Path) -> None:
        host = Host(count)
        host.write_kdump(directory / "vmcore")
        host.write_debuginfo(directory / "host.json")

    return build


def _hosts(count: int, every: int) -> tuple[Target, Target]:
    """A host with folios of 2 MiB as it was booted, and one that has been in use since."""
    name, about = f"host-{count}", f"a host, {count:,} folios of 2 MiB"
    return (
        Target(name, about, _host(count), every),
        Target(f"aged-{count}", f"{about}, aged", _host(count, aged=True), every, fresh=name),
    )


FULL = (
    Target("guest", "a real 6.12 guest of 128 GiB, 60,000 folios of 2 MiB", _guest),
    *_hosts(10_000, 1),
    *_hosts(100_000, 10),
    *_hosts(500_000, 10),
    Target("gigantic", "a host of 1 TiB, 1,000 folios of 1 GiB", _host(1_000, 18, 1024), 50),
    Target(
        "kdump",
        "a host in a zlib-compressed kdump, 10,000 folios of 2 MiB",
        _kdump(10_000),
        compressed=True,
    ),
)

SMALL = (
    Target("small-host", "a host, 200 folios of 2 MiB", _host(200), 10),
    Target(
        "small-aged",
        "the same, aged",
        _host(200, aged=True),
        10,
        fresh="small-host",
    ),
    Target("small-gigantic", "a host, 2 folios of 1 GiB", _host(2, 18), 2),
    Target(
        "small-kdump",
        "a host in a zlib-compressed kdump, 100 folios of 2 MiB",
        _kdump(100),
        compressed=True,
    ),
)
