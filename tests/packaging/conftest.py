# SPDX-License-Identifier: LGPL-2.1-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging import build
from tests.packaging.environment import Environment

EPOCH = 1_700_000_000
"""The time of the archives, in seconds since 1970."""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has who has cloned the repository, run some tests, and edited a file."""
    clone = build.copy_source(tmp_path_factory.mktemp("clone") / "drgn-vmemmap")
    (clone / "tests" / "__pycache__").mkdir()
    for left in ("tests/__pycache__/support.cpython-311.pyc", "tests/a.py.orig", "contrib/.b.swp"):
        (clone / left).write_bytes(b"")
    return clone


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment to build in."""
    return Environment(tmp_path_factory.mktemp("builder") / "venv")


@pytest.fixture(scope="session")
def built(source: Path, builder: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a source distribution and of the wheel that was built from it."""
    output = tmp_path_factory.mktemp("built")
    build.build(builder, source, output, EPOCH)
    return output


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return build.only(built, "*.whl")


@pytest.fixture(scope="session")
def sdist(built: Path) -> Path:
    return build.only(built, "*.tar.gz")


@pytest.fixture(scope="session")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, installed with what it requires, and with nothing else."""
    environment = Environment(tmp_path_factory.mktemp("plain") / "venv")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="session")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, installed with all extras that its tests need."""
    environment = Environment(tmp_path_factory.mktemp("complete") / "venv")
    environment.install(f"{wheel}[test]")
    return environment


@pytest.fixture(scope="session")
def bundle(plain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "drgn_vmemmap"
    assert plain.run("drgn-vmemmap", "bundle", path).returncode == 0
    return path
