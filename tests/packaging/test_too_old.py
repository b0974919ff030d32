# SPDX-License-Identifier: LGPL-2.1-or-later

"""A drgn that is too old is named in one line; one that is old is as good as the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.environment import Environment
from tests.packaging.reports import is_recorded
from tests.support import VMCORES, refused

ENTRY_POINTS = (
    ("drgn-vmemmap", "-c", VMCORES[0]),
    ("drgn-vmemmap", "-c", VMCORES[0], "verify", "--format", "json"),
    ("python", "-m", "drgn_vmemmap", "-c", VMCORES[0]),
    ("drgn", "-q", "-c", VMCORES[0], "{bundle}"),
    ("python", "{bundle}", "-c", VMCORES[0]),
    ("python", "-c", "import drgn_vmemmap; drgn_vmemmap.verify"),
    ("python", "-c", "from drgn_vmemmap.helpers import for_each_hugetlb_folio"),
)


@pytest.fixture(scope="module")
def debian_12(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The drgn that Debian 12 has; pip would not install it with the wheel."""
    return with_drgn("0.0.22", wheel, tmp_path_factory.mktemp("old") / "venv")


@pytest.fixture(scope="module")
def before_0_1(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return with_drgn("0.0.33", wheel, tmp_path_factory.mktemp("old") / "venv")


def with_drgn(version: str, wheel: Path, directory: Path) -> Environment:
    environment = Environment(directory)
    environment.install("--no-deps", f"drgn=={version}", wheel)
    environment.install("tabulate")
    return environment


@pytest.mark.parametrize("command", ENTRY_POINTS, ids=lambda command: " ".join(map(str, command)))
def test_drgn_0_0_22_is_refused_at_each_entry_point(
    debian_12: Environment, bundle: Path, command: tuple[str, ...]
) -> None:
    words = [str(word).format(bundle=bundle) for word in command]
    refused(debian_12.run(*words), 2, "needs drgn 0.0.31 or later", "0.0.22")


@pytest.mark.parametrize("path", VMCORES, ids=lambda path: path.stem)
def test_drgn_0_0_33_gives_the_recorded_report(before_0_1: Environment, path: Path) -> None:
    done = before_0_1.run("drgn-vmemmap", "-c", path, "verify", "--format", "json")
    assert is_recorded(done.stdout, path.stem)


def test_the_prompt_of_drgn_0_0_33_has_the_command(before_0_1: Environment) -> None:
    ask = 'from drgn.commands import run_command; run_command(prog, "vmemmap | head -n 1")'
    done = before_0_1.run("drgn", "-q", "-c", VMCORES[0], "-e", ask)
    report = before_0_1.run("drgn-vmemmap", "-c", VMCORES[0]).stdout
    first_line = report.splitlines(keepends=True)[0]
    assert done.stderr == ""
    assert done.stdout == first_line
