# SPDX-License-Identifier: LGPL-2.1-or-later

"""``watch``: a live kernel, pass after pass."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, FOUND_ERRORS, NAME, fail

if TYPE_CHECKING:
    import drgn


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        type=arguments.seconds,
        default=2.0,
        metavar="SECONDS",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--count", type=arguments.number, metavar="N", help="end after this many passes"
    )
    parser.add_argument(
        "--until", metavar="RULE", help="end when a rule is broken, and explain it: exit code 1"
    )
    parser.add_argument(
        "--extract", metavar="DIR", help="with --until: write the smallest vmcore of that moment"
    )
    arguments.add_format(parser, ("table", "jsonl"))
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.analysis.watch import found, watch
    from drgn_vmemmap.api import is_live, target
    from drgn_vmemmap.extract.vmcore import Recording
    from drgn_vmemmap.output import watch as lines
    from drgn_vmemmap.output.findings import explained
    from drgn_vmemmap.output.terminal import Style
    from drgn_vmemmap.progress import TerminalProgress
    from drgn_vmemmap.rules.rule import RULES

    if not is_live(prog):
        return fail(CANNOT, "watch needs a live kernel: give -k or --qemu ADDRESS, not a dump")
    if options.until is not None and options.until not in RULES:
        return fail(CANNOT, f"no rule {options.until!r}; there are: {', '.join(RULES)}")
    if options.extract is not None and not os.path.isdir(options.extract):
        return fail(CANNOT, f"{options.extract} is no directory")
    recording = None if options.extract is None else Recording(prog, options.system_map)
    watched = target(prog, options.system_map) if recording is None else recording.target()
    number = moved = transient = findings = 0
    broken = []
    with TerminalProgress() as progress:
        try:
            for pass_ in watch(watched, options.interval, options.count, progress):
                if options.format == "jsonl":
                    sys.stdout.write(lines.jsonl(pass_))
                else:
                    sys.stdout.write(("" if number else lines.HEADING) + lines.table(pass_))
                sys.stdout.flush()
                number += 1
                if pass_.report.stability is not None:
                    moved += pass_.report.stability.moved
                    transient += pass_.report.stability.transient
                findings += lines.findings(pass_)
                broken = [] if options.until is None else found(pass_, options.until)
                if broken:
                    break
        finally:
            print(lines.summary(number, moved, transient, findings), end="", file=sys.stderr)
    if not broken:
        return DONE
    print("\n".join(explained(broken, None, Style.of(sys.stderr))), file=sys.stderr)
    if recording is not None:
        path = os.path.join(options.extract, f"vmcore-{options.until}-{int(pass_.time)}")
        recording.write(path, compress=True)
        print(f"written: {path}", file=sys.stderr)
    return FOUND_ERRORS


COMMAND = Command(
    name="watch",
    help="a live kernel: what changes, every few seconds",
    description="Analyses a live kernel again and again, with all checks, and writes one line per "
    "hstate with what changed. Ctrl-C ends it with a summary.",
    examples=(
        f"{NAME} -k watch --interval 5",
        f"{NAME} --qemu SOCKET watch --until tail-writable --extract .",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
