# SPDX-License-Identifier: LGPL-2.1-or-later

"""The bundle: what is in it, and that the same source and Python give the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from drgn_vmemmap import __version__, bundle
from tests.support import PACKAGE, ROOT


@pytest.fixture(scope="module")
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(bundle.bundle()))


def test_it_holds_the_licences_of_the_project_and_of_what_comes_with_it(
    archive: zipfile.ZipFile,
) -> None:
    own = archive.read("licences/drgn-vmemmap/COPYING")
    assert own == (ROOT / "COPYING").read_bytes()
    assert b"Permission is hereby granted" in archive.read("licences/tabulate/LICENSE")


def test_it_holds_the_package_and_each_module_compiled(archive: zipfile.ZipFile) -> None:
    files = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    compiled = {f"{name}c" for name in files if name.endswith(".py")}
    found = {name for name in archive.namelist() if name.startswith("drgn_vmemmap/")}
    assert found == files | compiled


def test_it_holds_tabulate_and_no_optional_library(archive: zipfile.ZipFile) -> None:
    modules = {name.partition("/")[0].partition(".")[0] for name in archive.namelist()}
    assert modules == {"__main__", "drgn_vmemmap", "tabulate", "licences"}


def test_modules_compiled_for_another_python_are_compiled_anew(tmp_path: Path) -> None:
    path = tmp_path / "drgn_vmemmap"
    content = bundle.bundle()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w") as other:
        for name in archive.namelist():
            data = archive.read(name)
            other.writestr(name, b"\0\0\0\0" + data[4:] if name.endswith(".pyc") else data)
    done = subprocess.run([sys.executable, path, "--version"], capture_output=True, text=True)
    assert done.stdout == f"drgn-vmemmap {__version__}\n", done.stderr


def test_neither_time_nor_umask_nor_directory_change_it(tmp_path: Path) -> None:
    contents = []
    for umask, name in ((0o077, "one"), (0o022, "two")):
        directory = tmp_path / name
        directory.mkdir()
        before = os.umask(umask)
        try:
            bundle.write_bundle(str(directory / "drgn_vmemmap"))
        finally:
            os.umask(before)
        contents.append((directory / "drgn_vmemmap").read_bytes())
        assert (directory / "drgn_vmemmap").stat().st_mode & 0o777 == 0o777 & ~umask
    assert contents[0] == contents[1]


def test_a_part_without_its_licence_is_not_bundled() -> None:
    with pytest.raises(FileNotFoundError, match="licence of no-such-part"):
        bundle._licences("no-such-part")


def test_a_licence_that_others_left_beside_the_package_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "COPYING").write_text("another licence, of another package")
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "drgn_vmemmap" / "bundle.py"))
    own = (ROOT / "COPYING").read_bytes()
    assert own in bundle._licences("drgn-vmemmap").values()
    assert b"another licence" not in b"".join(bundle._licences("drgn-vmemmap").values())


def test_a_licence_is_found_where_distributions_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without RECORD, in the metadata.
    metadata = tmp_path / "one_part-1.0.dist-info"
    (metadata / "licenses").mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: one-part\nVersion: 1.0\n")
    (metadata / "licenses" / "LICENSE").write_text("one")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert bundle._licences("one-part") == {"licences/one-part/LICENSE": b"one"}
    # Compressed, as a package's documentation; or as Fedora's licences.
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    for directory in ("doc/python3-two-part", "licenses/three-part"):
        (tmp_path / "share" / directory).mkdir(parents=True)
    compressed = gzip.compress(b"two", mtime=0)
    (tmp_path / "share/doc/python3-two-part/COPYING.gz").write_bytes(compressed)
    (tmp_path / "share/licenses/three-part/LICENSE.md").write_bytes(b"three")
    assert bundle._licences("two-part") == {"licences/two-part/COPYING": b"two"}
    assert bundle._licences("three-part") == {"licences/three-part/LICENSE.md": b"three"}
