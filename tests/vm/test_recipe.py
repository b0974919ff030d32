# SPDX-License-Identifier: LGPL-2.1-or-later

"""The kernel developer's recipe, followed: a kernel tree is booted and checked, in each way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, run
from vmcores.recipe import MissingError, kernels

SCRIPT = ROOT / "contrib" / "kernel" / "check_kernel.py"
NEWEST = "debian:newest"


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, SCRIPT, *arguments, timeout=900)


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian kernel, with its files where a kernel tree has them when it was built."""
    try:
        kernel = kernels.fetch("newest")
    except MissingError as error:
        pytest.skip(str(error))
    tree = tmp_path_factory.mktemp("linux")
    for name in ("arch/x86/boot", "include/config"):
        (tree / name).mkdir(parents=True)
    (tree / "arch/x86/boot/bzImage").symlink_to(kernel.image)
    (tree / "include/config/kernel.release").write_text(f"{kernel.release}\n")
    assert kernel.modules is not None
    for module in kernel.modules.rglob("qemu_fw_cfg.ko*"):
        (tree / module.name).symlink_to(module)
    return tree


def test_a_kernel_tree_is_checked_from_the_host(tree: Path, tmp_path: Path) -> None:
    words = ("--console", tmp_path / "console.log", "--", "verify", "--format", "json")
    found = report(check(tree, *words))
    release = (tree / "include/config/kernel.release").read_text().strip()
    assert (found["kernel"]["release"], found["kernel"]["live"]) == (release, True)
    assert (found["totals"]["folios"], found["totals"]["optimized"]) == (72, 64)


def test_a_kernel_tree_checks_itself(tree: Path, tmp_path: Path) -> None:
    words = ("--inside", "--console", tmp_path / "console.log", "--", "verify", "--format", "json")
    found = report(check(tree, *words))
    assert (found["kernel"]["live"], found["totals"]["optimized"]) == (True, 64)


def test_a_kernel_that_cannot_be_checked_says_what_it_lacks(tree: Path, tmp_path: Path) -> None:
    # The image alone: QEMU's note of VMCOREINFO is a module's work.
    done = check(tree / "arch/x86/boot/bzImage", "--console", tmp_path / "console.log")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "CONFIG_FW_CFG_SYSFS" in line


def test_the_configuration_names_options_that_kernels_have() -> None:
    text = (SCRIPT.parent / "hvo.config").read_text()
    wanted = {line.partition("=")[0] for line in text.splitlines() if line.startswith("CONFIG_")}
    config = kernels.fetch("newest").config
    assert config is not None
    set_ = {line.partition("=")[0] for line in config.read_text().splitlines()}
    assert wanted - set_ == set()
