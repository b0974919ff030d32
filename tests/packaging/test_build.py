# SPDX-License-Identifier: LGPL-2.1-or-later

"""Wheel and source distribution: they build wherever a user builds them, and hold all."""

from __future__ import annotations

import email
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from drgn_vmemmap import __version__
from tests.packaging import build
from tests.packaging.conftest import EPOCH
from tests.packaging.environment import Environment, check

UNPACKAGED = (".ci/", ".gitignore")
"""What of the repository a source distribution leaves out."""


def test_the_wheel_holds_the_package_its_licence_and_its_manual_page(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = [
        name
        for name in build.tracked()
        if name.startswith("drgn_vmemmap/") and not name.endswith("README.md")
    ]
    assert sorted(name for name in names if name.startswith("drgn_vmemmap/")) == sorted(package)
    assert any(name.endswith(".dist-info/licenses/COPYING") for name in names)
    assert any(name.endswith("/share/man/man1/drgn-vmemmap.1") for name in names)


def test_the_wheel_requires_drgn_and_tabulate_alone(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
    required = metadata.get_all("Requires-Dist") or []
    assert [r for r in required if "extra ==" not in r] == ["drgn>=0.0.31", "tabulate"]
    assert metadata["Version"] == __version__
    assert metadata["License"] == "LGPL-2.1-or-later"
    assert metadata["Requires-Python"] == ">=3.9"


def test_the_source_distribution_holds_all_of_the_repository(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if member.isfile()]
    names = {name.partition("/")[2] for name in files}
    expected = {name for name in build.tracked() if not name.startswith(UNPACKAGED)}
    assert expected - names == set()
    # Nothing that a run of the tests or an editor left, either.
    generated = {name for name in names - expected if ".egg-info/" in name}
    assert names - expected - generated == {"PKG-INFO", "setup.cfg"} - expected


def test_the_package_index_would_take_both(built: Path, builder: Environment) -> None:
    builder.install("twine")
    done = builder.run("twine", "check", "--strict", *built.iterdir())
    assert done.returncode == 0, done.stdout


def test_pip_builds_the_same_wheel(
    wheel: Path, source: Path, builder: Environment, tmp_path: Path
) -> None:
    again = build.wheel_by_pip(builder, source, tmp_path)
    assert contents(again) == contents(wheel)


def test_neither_time_nor_umask_nor_directory_change_what_is_built(
    built: Path, source: Path, builder: Environment, tmp_path: Path
) -> None:
    copy = shutil.copytree(source, tmp_path / "elsewhere" / "source", copy_function=shutil.copy)
    again = tmp_path / "of another length"
    umask = os.umask(0o077)
    try:
        for path in copy.rglob("*"):
            path.chmod(path.stat().st_mode & ~0o077)
        build.build(builder, copy, again, EPOCH)
    finally:
        os.umask(umask)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in built.iterdir()
    }


def test_what_an_earlier_build_left_is_not_packed(
    wheel: Path, source: Path, builder: Environment, tmp_path: Path
) -> None:
    copy = shutil.copytree(source, tmp_path / "source")
    left = copy / "build" / "lib" / "drgn_vmemmap"
    left.mkdir(parents=True)
    (left / "left.py").touch()
    again = build.wheel_by_pip(builder, copy, tmp_path)
    assert contents(again) == contents(wheel)


def test_debians_own_tools_build_the_same_files(
    wheel: Path, sdist: Path, source: Path, tmp_path: Path
) -> None:
    missing = build.missing_on_debian()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    build.build_without_isolation(build.DEBIAN, build.unpack(sdist, tmp_path / "source"), tmp_path)
    again = contents(build.only(tmp_path, "*.whl"))
    assert package_of(again) == package_of(contents(wheel))
    assert "data/share/doc/drgn-vmemmap/COPYING" in {name.partition(".data/")[2] for name in again}


def test_the_newest_setuptools_builds_without_isolation_and_without_a_warning(
    wheel: Path, source: Path, builder: Environment, tmp_path: Path
) -> None:
    builder.install("build", "setuptools", "--upgrade")
    command = (builder.bin / "python", "-m", "build", "--no-isolation", "--wheel")
    done = check(*command, "--outdir", tmp_path, source, **builder.options())
    assert contents(build.only(tmp_path, "*.whl")) == contents(wheel)
    assert "deprecat" not in (done.stdout + done.stderr).lower()


def contents(wheel: Path) -> dict[str, bytes]:
    """What is in a wheel, without the list of it and the name of the tool that made it."""
    archive = zipfile.ZipFile(wheel)
    return {
        name: archive.read(name)
        for name in archive.namelist()
        if not name.endswith((".dist-info/RECORD", ".dist-info/WHEEL"))
    }


def package_of(contents: dict[str, bytes]) -> dict[str, bytes]:
    """What is installed of a wheel's content, without its metadata."""
    return {name: data for name, data in contents.items() if ".dist-info/" not in name}
