# SPDX-License-Identifier: LGPL-2.1-or-later

"""drgn's options are handed to drgn."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from drgn_vmemmap.cli import crashes, launcher, options
from drgn_vmemmap.cli.exit_codes import DONE
from tests.support import DRGN, refused, run, vmcore, vmemmap

OPTIONS = options.target_parser()._option_string_actions
ANOTHER_PROCESS = {"-p", "--pid"}
OF_DRGN_ITSELF = {"-h", "--help", "-e", "--version"}


def test_the_other_options_are_all_of_drgns_but_for_processes() -> None:
    shown = run(DRGN, "--help").stdout
    of_drgn = set(re.findall(r"^  (-\w)\b", shown, re.MULTILINE))
    of_drgn |= set(re.findall(r"^  (?:-\w.*, )?(--[\w-]+)", shown, re.MULTILINE))
    assert of_drgn ^ OPTIONS.keys() == ANOTHER_PROCESS | OF_DRGN_ITSELF


def words_for_drgn(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """The words before the script with which drgn is run."""

    def end(*_: object, **__: object) -> NoReturn:
        raise SystemExit

    monkeypatch.setattr(crashes, "continue_in_child", lambda paths: None)
    monkeypatch.setattr("runpy.run_module", end)
    monkeypatch.setattr(sys, "argv", ["drgn-vmemmap", *words])
    assert launcher.run() == DONE
    return sys.argv[1 : sys.argv.index(launcher._this_script())]


@pytest.mark.parametrize("option", sorted(OPTIONS.keys() - {"--qemu"}))
def test_an_option_of_drgn_is_handed_to_it(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    takes_value = OPTIONS[option].nargs != 0
    value = str(vmcore("head-reuse")) if option in ("-c", "--core") else "/"
    given = [option, value] if takes_value else [option]
    words = words_for_drgn(monkeypatch, "verify", *given)
    start = words.index(option)
    assert words[start : start + len(given)] == given


def test_drgn_is_told_the_architecture_that_a_dump_by_qemu_does_not_show(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(vmcore("head-reuse").read_bytes())
    data[12 : 12 + 4 * 65] = bytes(4 * 65)
    path.write_bytes(data)
    words = words_for_drgn(monkeypatch, "-c", str(path))
    assert words[words.index("--architecture") + 1] == "x86_64"
    words = words_for_drgn(monkeypatch, "-c", str(path), "--architecture", "S390X")
    assert "x86_64" not in words
    assert "--architecture" not in words_for_drgn(monkeypatch, "-c", str(vmcore("head-reuse")))


def test_without_a_target_drgn_chooses_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"-c", "--core", "-k", "--qemu"} & {*words_for_drgn(monkeypatch, "verify")}
    assert "debug the running kernel (default)" in run(DRGN, "--help").stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    (
        (("--log-level", "nonsense"), "--log-level: invalid choice: 'nonsense'"),
        (("--main-symbols", "--no-default-symbols"), "not allowed with"),
    ),
)
def test_what_drgn_refuses_gets_one_line(words: Sequence[str], reason: str) -> None:
    refused(vmemmap("-c", vmcore("head-reuse"), *words), 2, reason)


def test_a_value_may_begin_as_an_option_does(tmp_path: Path, shown: str) -> None:
    (tmp_path / "-v").symlink_to(vmcore("head-reuse"))
    for option in ("--core=-v", "-c-v"):
        done = vmemmap(option, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1:] == shown.splitlines()[1:]
