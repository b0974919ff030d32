# SPDX-License-Identifier: LGPL-2.1-or-later

"""``explain``: one address or PFN, down to the raw entries."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, INCOMPLETE, NAME, fail
from drgn_vmemmap.cli.result import write

if TYPE_CHECKING:
    import drgn


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="WHAT")
    parser.add_argument(
        "--dmesg", action="store_true", help="explain what the kernel's own log names"
    )
    parser.add_argument(
        "--stdin", action="store_true", help="explain what the text on standard input names"
    )
    arguments.add_format(parser, ("table", "json"))
    arguments.add_output(parser)
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.api import explainer
    from drgn_vmemmap.explain.mentions import lines
    from drgn_vmemmap.explain.query import parse
    from drgn_vmemmap.output.explanation import render
    from drgn_vmemmap.progress import TerminalProgress
    from drgn_vmemmap.target.kernel_log import read_kernel_log

    try:
        whats = [parse(text) for text in options.what]
    except ValueError as error:
        return fail(CANNOT, str(error))
    if not (whats or options.dmesg or options.stdin):
        return fail(CANNOT, "nothing to explain: give an address, --dmesg or --stdin")
    log = list(lines(sys.stdin.buffer.read())) if options.stdin else []
    with TerminalProgress() as progress:
        explains = explainer(prog, options.system_map, progress)
    code = DONE
    if options.dmesg:
        own = read_kernel_log(prog)
        log += lines(own.text)
        if own.problem:
            code = fail(INCOMPLETE, own.problem)
    explanations = [explains.explain(what) for what in whats]
    others = None
    if options.dmesg or options.stdin:
        found, others = explains.explain_log(log)
        explanations += found
    write(render(explanations, others, options.format), options.output)
    return INCOMPLETE if any(each.incomplete for each in explanations) else code


COMMAND = Command(
    name="explain",
    help="what an address, a struct page or a PFN is to the vmemmap",
    description="WHAT is a virtual address (with or without 0x, as an oops has it), pfn:0x... "
    "or phys:0x.... Shows the walk, the struct page, its folio, the frame that backs it, what else "
    "maps that frame, and what a read and a write there would do.",
    examples=(
        f"{NAME} -c vmcore explain ffb7415cc008b174",
        f"{NAME} -c vmcore explain pfn:0x2c00",
        f"{NAME} -c vmcore explain --dmesg",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
