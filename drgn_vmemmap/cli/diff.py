# SPDX-License-Identifier: LGPL-2.1-or-later

"""``diff``: which folios changed between two reports or dumps, and how."""

from __future__ import annotations

import argparse

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import DIFFER, DONE, NAME
from drgn_vmemmap.cli.result import write


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A")
    parser.add_argument("after", metavar="B")
    arguments.add_format(parser, ("table", "json"))
    arguments.add_output(parser)
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: None) -> int:
    from drgn_vmemmap.analysis.difference import difference, load
    from drgn_vmemmap.output.difference import render

    before, after = (load(path, options.system_map) for path in (options.before, options.after))
    found = difference(before, after)
    write(render(found, options.format), options.output)
    return DIFFER if found.differs else DONE


COMMAND = Command(
    name="diff",
    help="which folios changed between two reports or two dumps, and how",
    description="A and B are JSON reports with their folios, or dumps. Shows which folios "
    "appeared, went, were optimized or restored, or changed otherwise, and the totals. The "
    "exit code is 1 if there is a difference.",
    examples=(f"{NAME} diff vmcore.1 vmcore.2", f"{NAME} diff before.json after.json"),
    add_arguments=_add_arguments,
    run=_run,
    needs_program=False,
)
