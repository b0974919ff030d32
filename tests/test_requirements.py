# SPDX-License-Identifier: LGPL-2.1-or-later

"""A Python or a drgn that is too old is refused in one line."""

from __future__ import annotations

import ast
import glob
import importlib.metadata
import os
import re
import sys
from pathlib import Path

import pytest

from drgn_vmemmap import requirements
from drgn_vmemmap.cli.manual import _DESCRIPTION
from tests.support import PACKAGE, refused, run

FIRST = ("__init__.py", "__main__.py", "requirements.py")
"""The modules that run before the check."""


@pytest.mark.parametrize("name", FIRST)
def test_what_runs_before_the_check_is_python_3_6(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text(), feature_version=(3, 6))
    futures = (n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__")
    assert not [*futures]  # "annotations" came with Python 3.7


def interpreters() -> list[str]:
    """Programs of Python before 3.9 that this machine has."""
    versions = ("3.6", "3.7", "3.8")
    found = []
    for version in versions:
        pyenv = f"{os.environ.get('PYENV_ROOT', os.path.expanduser('~/.pyenv'))}/versions"
        found += glob.glob(f"{pyenv}/{version}.*/bin/python{version}")
        found += glob.glob(f"/usr/bin/python{version}")
    return found


@pytest.mark.parametrize(
    "arguments",
    (
        ("-m", "drgn_vmemmap", "-c", "vmcore"),
        (PACKAGE / "__main__.py", "--help"),
        ("-c", "import drgn_vmemmap"),
        ("-c", "from drgn_vmemmap.cli.launcher import main"),
        ("-c", "import drgn_vmemmap.plugin"),
    ),
    ids=str,
)
def test_an_old_python_is_refused_at_each_entry_point(arguments: tuple[str | Path, ...]) -> None:
    old = interpreters()
    if not old:
        pytest.skip("no Python before 3.9 is installed")
    for python in old:
        refused(run(python, "-B", *arguments, cwd=PACKAGE.parent), 2, "needs Python 3.9 or later")


def test_an_old_drgn_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("drgn.__version__", "0.0.22+12.g1234")
    with pytest.raises(SystemExit) as ended:
        requirements.check_drgn()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "drgn-vmemmap: needs drgn 0.0.31 or later; "
        "this is drgn 0.0.22+12.g1234: pip install --upgrade drgn\n"
    )


def test_the_manual_page_names_the_oldest_python_and_drgn() -> None:
    python, drgn = (".".join(map(str, each)) for each in (requirements.PYTHON, requirements.DRGN))
    assert f"drgn {drgn} or later and Python {python} or later" in _DESCRIPTION[1]


def test_the_oldest_drgn_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drgn.__version__", "0.0.31")
    requirements.check_drgn()
    monkeypatch.setattr("drgn.__version__", "0.1.0")
    requirements.check_drgn()


@pytest.mark.parametrize(
    ("extra", "library"),
    (
        ("extract", "kdumpling 0.4.0"),
        ("html", "jinja2"),
        ("completion", "shtab"),
        ("progress", "tqdm"),
        ("zstd", "backports.zstd"),
    ),
)
def test_the_manual_page_names_what_is_required_beyond_drgn(extra: str, library: str) -> None:
    (required,) = (
        requirement
        for requirement in importlib.metadata.requires("drgn-vmemmap") or ()
        if re.search(f"extra == ['\"]{extra}['\"]", requirement)
    )
    assert required.startswith(library.replace(" ", "=="))
    assert library in _DESCRIPTION[1]


def test_a_missing_drgn_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "drgn", None)
    with pytest.raises(SystemExit) as ended:
        requirements.check_drgn()
    assert ended.value.code == 2
    assert "pip install drgn" in capsys.readouterr().err
