# SPDX-License-Identifier: LGPL-2.1-or-later

"""``diff``: which folios changed between two reports or dumps, and how."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import DIFFER, DONE, INCOMPLETE, NAME
from drgn_vmemmap.cli.result import write

if TYPE_CHECKING:
    from drgn_vmemmap.analysis.comparable import Comparable


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=arguments.nonempty, metavar="A")
    parser.add_argument("after", type=arguments.nonempty, metavar="B")
    arguments.add_format(parser, ("table", "json"))
    arguments.add_output(parser)
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: None) -> int:
    from drgn_vmemmap.analysis.difference import difference
    from drgn_vmemmap.output.difference import render

    before, after = (_load(path, options.system_map) for path in (options.before, options.after))
    found = difference(before, after)
    write(render(found, options.format), options.output)
    if found.differs:
        return DIFFER
    return DONE if found.complete else INCOMPLETE


def _load(path: str, system_map: str | None) -> Comparable:
    """
    A report to compare.

    :param path: A JSON report, or a dump, which is analysed without debugging symbols.
    :raises CannotAnalyse: if it is neither.
    :raises OSError: if it cannot be read.
    """
    from drgn_vmemmap.analysis.comparable import comparable, load_document, looks_like_json
    from drgn_vmemmap.analysis.document import document
    from drgn_vmemmap.api import verify
    from drgn_vmemmap.errors import CannotAnalyse
    from drgn_vmemmap.target.program import open_dump

    with open(path, "rb") as file:
        if looks_like_json(file.peek(64)):
            return comparable(load_document(file, path), path)
    try:
        prog = open_dump(path)
    except CannotAnalyse as error:
        raise CannotAnalyse(f"this is neither a JSON report nor a dump: {error}") from error
    return comparable(document(verify(prog, system_map=system_map), folios=True), path)


COMMAND = Command(
    name="diff",
    help="which folios changed between two reports or two dumps, and how",
    description="A and B are JSON reports with their folios, or dumps. Shows which folios "
    "appeared, went, were optimized, restored or changed in another way, and the totals. Of two "
    "different kernels, it compares savings and rules, not PFNs. The exit code is 1 if there is a "
    "difference, and 3 if none is known, but not everything could be compared.",
    examples=(f"{NAME} diff vmcore.1 vmcore.2", f"{NAME} diff before.json after.json"),
    add_arguments=_add_arguments,
    run=_run,
    needs_program=False,
    dumps=lambda options: (options.before, options.after),
)
