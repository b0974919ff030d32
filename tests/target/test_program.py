# SPDX-License-Identifier: LGPL-2.1-or-later

"""The path of a dump, on a drgn that does not know it."""

from __future__ import annotations

import sys

from tests.support import run, vmcore

SCRIPT = """
import sys, types
import drgn
from drgn_vmemmap.target.program import dump_path
files = [open(path, "rb") for path in sys.argv[1:]]
print(dump_path(types.SimpleNamespace(flags=drgn.ProgramFlags(0), cache={})))
"""


def test_the_only_dump_that_is_open_is_the_programs() -> None:
    dump = vmcore("head-reuse").resolve()
    assert run(sys.executable, "-c", SCRIPT, dump, __file__).stdout == f"{dump}\n"


def test_of_two_open_dumps_none_is_taken_for_the_programs() -> None:
    dumps = vmcore("head-reuse"), vmcore("shared-tail")
    assert run(sys.executable, "-c", SCRIPT, *dumps).stdout == "None\n"
