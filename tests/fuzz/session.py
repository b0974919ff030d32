# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Fuzzes one target with atheris, which is guided by what is executed of the package.

Run by :mod:`tests.fuzz.__main__`; the arguments are the target's name, and libFuzzer's own.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import atheris

# Comparisons of strings guide it, too; the hook for regular expressions lacks some methods.
atheris.enabled_hooks.add("str")

with atheris.instrument_imports(include=["drgn_vmemmap"]):
    import drgn_vmemmap

    for module in pkgutil.walk_packages(drgn_vmemmap.__path__, "drgn_vmemmap."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

from tests.fuzz.answers import limit_memory  # noqa: E402
from tests.fuzz.targets import TARGETS  # noqa: E402


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    program, name, *options = sys.argv
    run = TARGETS[name].run
    run(next(TARGETS[name].seeds()))
    limit_memory()
    atheris.Setup([program, f"-max_len={TARGETS[name].length}", *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
