# SPDX-License-Identifier: LGPL-2.1-or-later

"""
setuptools' build backend, with archives that depend on the source and on nothing else.

If ``SOURCE_DATE_EPOCH`` is set (https://reproducible-builds.org/specs/source-date-epoch/), a wheel
and a source distribution have that time, no owner, and modes that do not depend on the umask.
Without it they are as setuptools makes them. A wheel never holds what an earlier build left
in the source.
"""

from __future__ import annotations

import configparser
import contextlib
import gzip
import io
import os
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

Settings = Any
"""Configuration settings, as a frontend passes them."""

# The first time that a zip archive can hold.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """See PEP 517."""
    with _fresh_build_directory():
        name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    epoch = _epoch()
    if epoch is not None:
        _normalize_zip(Path(wheel_directory, name), epoch)
    return name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """See PEP 517."""
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    epoch = _epoch()
    if epoch is not None:
        _normalize_tar(Path(sdist_directory, name), epoch)
    return name


@contextlib.contextmanager
def _fresh_build_directory() -> Iterator[None]:
    """Have setuptools build in a new directory: it packs whatever is in the one that it uses."""
    with tempfile.TemporaryDirectory() as directory:
        path, own = Path(directory, "settings.cfg"), os.environ.get("DIST_EXTRA_CONFIG")
        settings = configparser.RawConfigParser()
        settings.read_dict({"build": {"build_base": f"{directory}/build"}})
        if own is not None:
            settings.read(own)  # a packager's own settings win
        with path.open("w") as file:
            settings.write(file)
        os.environ["DIST_EXTRA_CONFIG"] = str(path)
        try:
            yield
        finally:
            del os.environ["DIST_EXTRA_CONFIG"]
            if own is not None:
                os.environ["DIST_EXTRA_CONFIG"] = own


def _epoch() -> int | None:
    """Seconds since 1970 that the archives are to have."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return None if epoch is None else int(epoch)


def _mode(mode: int) -> int:
    """The permissions of a file that its owner may execute or not."""
    return 0o755 if mode & 0o100 else 0o644


def _normalize_zip(path: Path, epoch: int) -> None:
    date = max(_ZIP_EPOCH, time.gmtime(epoch)[:6])
    normal = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(normal, "w") as new:
        for member in old.infolist():  # sorted, and what describes the wheel at its end
            info = zipfile.ZipInfo(member.filename, date)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100000 | _mode(member.external_attr >> 16)) << 16
            new.writestr(info, old.read(member))
    path.write_bytes(normal.getvalue())


def _normalize_tar(path: Path, epoch: int) -> None:
    normal = io.BytesIO()
    with (
        tarfile.open(path) as old,
        gzip.GzipFile(filename="", mode="wb", fileobj=normal, mtime=epoch) as compressed,
        tarfile.TarFile(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            info = tarfile.TarInfo(member.name)
            info.type, info.size, info.mtime = member.type, member.size, epoch
            info.mode = 0o755 if member.isdir() else _mode(member.mode)
            new.addfile(info, old.extractfile(member))
    path.write_bytes(normal.getvalue())
