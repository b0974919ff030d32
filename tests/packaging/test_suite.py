# SPDX-License-Identifier: LGPL-2.1-or-later

"""The tests of the source distribution, run on the installed wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.packaging import build
from tests.packaging.environment import Environment, check
from tests.support import run

WHERE = "import drgn_vmemmap; print(drgn_vmemmap.__file__)"


LIMIT = 3600
"""Seconds that it may take."""


def test_the_suite_passes_on_the_installed_package(
    complete: Environment, sdist: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = build.unpack(sdist, tmp_path / "sdist")
    guide = (source / "drgn_vmemmap" / "README.md").read_bytes()
    shutil.rmtree(source / "drgn_vmemmap")  # so that only the installed package can be imported
    (source / "drgn_vmemmap").mkdir()
    (source / "drgn_vmemmap" / "README.md").write_bytes(guide)
    options = {**complete.options(), "cwd": source, "timeout": LIMIT}
    # Random kernels are drawn by "make test"; here, a few will do.
    options["env"] = {**options["env"], "VMEMMAP_EXAMPLES": "10"}
    python = complete.bin / "python"
    package = Path(check(python, "-c", WHERE, **options).stdout.strip())
    assert package.parent.parent.name == "site-packages"
    with capfd.disabled():  # it takes minutes, and shows what it does
        done = run(
            *(python, "-m", "pytest", "-n", "auto", "--dist", "worksteal", "-m", "not long"),
            **{**options, "capture_output": False},
        )
    assert done.returncode == 0
