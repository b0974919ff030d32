# SPDX-License-Identifier: LGPL-2.1-or-later

"""The kernel developer's recipe, as far as it goes without a guest."""

from __future__ import annotations

import re
import runpy
import sys
from typing import NoReturn

import pytest

from tests.support import ROOT, run

KERNEL = ROOT / "contrib" / "kernel"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (
        (("nothing",), "no such kernel tree or image"),
        (("contrib",), "no kernel was built here"),
        (("COPYING", "--scenario", "none"), "no scenario none"),
        (("COPYING", "--scenario", "owners", "--inside"), "has programs of its own"),
        (("COPYING", "--inside", "--", "report", "--hstate", "a b"), "plain words"),
    ),
)
def test_what_cannot_be_booted_gets_one_line(arguments: tuple[str, ...], reason: str) -> None:
    done = run(sys.executable, KERNEL / "check_kernel.py", *arguments, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("check_kernel: ") and reason in line


def test_ctrl_c_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> NoReturn:
        raise KeyboardInterrupt

    script = runpy.run_path(str(KERNEL / "check_kernel.py"))
    monkeypatch.setitem(script["main"].__globals__, "kernel", interrupt)
    monkeypatch.setattr(sys, "argv", ["check_kernel.py", "COPYING"])
    assert script["main"]() == 130
    assert capsys.readouterr().err == "check_kernel: interrupted\n"


def test_each_option_of_the_configuration_is_set_once() -> None:
    lines = (KERNEL / "hvo.config").read_text().splitlines()
    options = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"CONFIG_[A-Z0-9_]+=y", option) for option in options)
    assert len(options) == len(set(options)) > 10
