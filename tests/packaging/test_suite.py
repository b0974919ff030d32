# SPDX-License-Identifier: LGPL-2.1-or-later

"""The tests of the source distribution, run on the installed wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.packaging import build
from tests.packaging.environment import Environment, check

LEFT_OUT = ("tests/packaging", "tests/browser", "tests/vm")
"""What needs more than Python's packages."""

WHERE = "import drgn_vmemmap; print(drgn_vmemmap.__file__)"


def test_the_suite_passes_on_the_installed_package(
    complete: Environment, sdist: Path, tmp_path: Path
) -> None:
    source = build.unpack(sdist, tmp_path / "sdist")
    shutil.rmtree(source / "drgn_vmemmap")  # so that only the installed package can be imported
    options = {**complete.options(), "cwd": source}
    python = complete.bin / "python"
    package = Path(check(python, "-c", WHERE, **options).stdout.strip())
    assert package.parent.parent.name == "site-packages"
    ignored = [f"--ignore={directory}" for directory in LEFT_OUT]
    done = check(python, "-m", "pytest", "-n", "auto", "-q", *ignored, "tests", **options)
    print(done.stdout)
