#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Boot a kernel under QEMU, let it set up pools of HugeTLB folios, and check what HVO did to them.

KERNEL is a kernel tree that was built, a bzImage, or, as debian:6.12, a line of Debian's kernels.
The check is "drgn-vmemmap verify" from the host, through QEMU; or within the guest, on its own
/proc/kcore, with --inside. The exit code is that of drgn-vmemmap; 2 also when the kernel does not
boot. Other commands of drgn-vmemmap stand after "--":

  check_kernel.py ~/linux
  check_kernel.py ~/linux --scenario gigantic -- verify --format ktap
  check_kernel.py debian:newest --inside -- report --folios
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from vmcores.recipe import kernels, scenarios
from vmcores.recipe.errors import RecipeError
from vmcores.recipe.guest import Guest
from vmcores.recipe.inside import Tool
from vmcores.recipe.kernels import Kernel
from vmcores.recipe.scenarios import Scenario

USAGE = 2
INTERRUPTED = 130
DEBIAN = "debian:"


def kernel(name: str) -> Kernel:
    """
    Find a kernel.

    :raises RecipeError: if there is none of this name.
    """
    if name.startswith(DEBIAN):
        return kernels.fetch(name.removeprefix(DEBIAN))
    path = Path(name)
    if path.is_dir():
        return _built(path)
    if not path.is_file():
        raise RecipeError(f"{name}: no such kernel tree or image")
    return Kernel(path.name, "", path, modules=None, config=None, symbols=None)


def _built(tree: Path) -> Kernel:
    """The kernel that was built in a tree."""
    image = tree / "arch" / "x86" / "boot" / "bzImage"
    release = tree / "include" / "config" / "kernel.release"
    if not image.exists() or not release.exists():
        raise RecipeError(f"{tree}: no kernel was built here: make bzImage")
    symbols = tree / "vmlinux"
    return Kernel(
        release.read_text().strip(),
        "",
        image,
        modules=tree,
        config=tree / ".config",
        symbols=symbols if symbols.exists() else None,
    )


def check_from_host(guest: Guest, words: Sequence[str]) -> int:
    """
    Check a guest through QEMU.

    :return: The exit code.
    """
    from drgn_vmemmap.cli.launcher import run

    sys.argv = ["drgn-vmemmap", "--qemu", str(guest.debug_socket), *words]
    try:
        return run()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else USAGE


def inside(scenario: Scenario, words: Sequence[str]) -> Scenario:
    """
    A scenario whose guest checks itself when all is set up.

    :raises RecipeError: if the scenario's own programs leave no place for the tool.
    """
    if scenario.programs is not None:
        raise RecipeError(f"scenario {scenario.name} has programs of its own: check from the host")
    if any(set(word) & set(' "=,') for word in words):
        raise RecipeError("--inside takes plain words only")
    # The kernel passes words of its command line that it does not know to init, as variables.
    passed = f"setup={scenario.script} check={','.join(words)}"
    return replace(
        scenario,
        script="check.sh",
        programs=Tool(),
        command_line=f"{scenario.command_line} {passed}",
        deadline=max(scenario.deadline, 600),
    )


def print_checked(guest: Guest) -> int:
    """
    Print what a guest found in itself.

    :return: The exit code.
    """
    said = guest.wait_for("checked")
    for stream, key in (sys.stdout, "output"), (sys.stderr, "errors"):
        for line in said.get(key, ()):
            print(line.removeprefix("|"), file=stream)
    return int(said["checked"][0])


def run(options: argparse.Namespace) -> int:
    chosen, scenario = kernel(options.kernel), scenarios.named(options.scenario)
    if options.inside:
        scenario = inside(scenario, options.words)
    with Guest(chosen, scenario, options.console) as guest:
        if options.inside:
            return print_checked(guest)
        if "fw_cfg" not in guest.wait_for("ready"):
            raise RecipeError(
                "this kernel cannot give QEMU its VMCOREINFO (CONFIG_FW_CFG_SYSFS): use --inside"
            )
        return check_from_host(guest, options.words)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="check_kernel.py KERNEL [OPTION…] [-- COMMAND…]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kernel", metavar="KERNEL")
    parser.add_argument(
        "--scenario", default="basic", help='"python3 -m vmcores.recipe scenarios" lists them'
    )
    parser.add_argument("--inside", action="store_true", help="let the guest check itself")
    parser.add_argument(
        "--console",
        type=Path,
        default=Path("console.log"),
        metavar="FILE",
        help="what the guest prints (console.log)",
    )
    return parser


def main() -> int:
    ours, words = _split(sys.argv[1:])
    options = parser().parse_args(ours)
    options.words = words or ["verify"]
    try:
        return run(options)
    except (RecipeError, OSError) as error:
        print(f"check_kernel: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("check_kernel: interrupted", file=sys.stderr)
        return INTERRUPTED


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before "--", and those after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
