# SPDX-License-Identifier: LGPL-2.1-or-later

"""``explain``: one address or PFN, down to the raw entries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, INCOMPLETE, NAME, fail
from drgn_vmemmap.cli.result import write

if TYPE_CHECKING:
    import drgn

    from drgn_vmemmap.explain.dump.query import Query
    from drgn_vmemmap.explain.text.read import Text


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


def _run(options: argparse.Namespace, prog: drgn.Program | None) -> int:
    from drgn_vmemmap.explain.dump.query import parse
    from drgn_vmemmap.explain.text.not_text import NotText
    from drgn_vmemmap.explain.text.read import Text, read_file

    try:
        queries = [parse(text) for text in options.what]
        text = read_file(sys.stdin.buffer) if options.stdin else Text(())
    except (ValueError, NotText) as error:
        return fail(CANNOT, str(error))
    if not (queries or options.dmesg or options.stdin):
        return fail(CANNOT, "nothing to explain: give an address, --dmesg or --stdin")
    if prog is None:
        return _explain_text(options, text)
    return _explain(options, prog, queries, text)


def _explain(
    options: argparse.Namespace, prog: drgn.Program, queries: list[Query], text: Text
) -> int:
    from drgn_vmemmap.explain.dump.explained_log import explain_log
    from drgn_vmemmap.explain.dump.explainer import Explainer
    from drgn_vmemmap.explain.log.boot import Boot
    from drgn_vmemmap.explain.messages.architectures import why_not_explained
    from drgn_vmemmap.explain.text.read import record_lines
    from drgn_vmemmap.output.explanation import render
    from drgn_vmemmap.progress import TerminalProgress
    from drgn_vmemmap.target.kernel_log import read_kernel_log

    with TerminalProgress() as progress:
        explainer = Explainer.of_program(prog, options.system_map, progress)
    lines, problems = [text.lines], [text.problem]
    has_log = options.stdin
    if options.dmesg:
        own = read_kernel_log(prog)
        # A log that could not be read is not said to name nothing.
        has_log = has_log or bool(own.records) or own.problem is None
        lines.append(record_lines(own.records))
        problems.append(own.problem)
    explanations = [explainer.explain(query) for query in queries]
    log = None
    if has_log:
        log = explain_log(explainer, chain.from_iterable(lines), Boot.of_program(prog))
    if log is not None:
        problems.append(why_not_explained(log.architectures))
    code = _report(problems)
    write(render(explanations, log, options.format), options.output)
    incomplete = any(each.incomplete for each in explanations)
    return INCOMPLETE if incomplete or (log is not None and log.incomplete) else code


def _explain_text(options: argparse.Namespace, text: Text) -> int:
    """Explain a text without a dump."""
    from drgn_vmemmap.explain.messages.architectures import why_not_explained
    from drgn_vmemmap.explain.text_only.report import text_only
    from drgn_vmemmap.output.text_only import render

    report = text_only(text.lines)
    code = _report([text.problem, why_not_explained(report.architectures)])
    write(render(report, options.format), options.output)
    return INCOMPLETE if report.dropped or report.unnamed else code


def _report(problems: Iterable[str | None]) -> int:
    """Say why a log may be incomplete, and return the exit code for it."""
    code = DONE
    for problem in filter(None, problems):
        code = fail(INCOMPLETE, problem)
    return code


def _is_text_alone(options: argparse.Namespace) -> bool:
    return bool(options.stdin) and not options.what and not options.dmesg


COMMAND = Command(
    name="explain",
    help="an address or a PFN, explained down to the raw entries",
    description="WHAT is a virtual address (with or without 0x, as in an oops), pfn:0x... or "
    "phys:0x.... Shows the page-table walk, the struct page, its folio, the frame that backs it, "
    "what else maps that frame, and what a read and a write there would do. The column WUXG shows "
    "what the entries so far allow: W writable, U by user space, X executable, G global, and - for "
    "each that is not.\n\n--stdin takes a log in any form: from dmesg, journalctl, a serial line, "
    "pstore or netconsole, compressed, as a mail, or as the address in the QR code of a panic "
    "screen. Without a target, it says what the log proves by itself, and what to collect next. "
    "Addresses in a log of another architecture are listed, but not explained: one line says so, "
    "and the exit code is 3.",
    examples=(
        f"{NAME} -c vmcore explain ffb7415cc008b174",
        f"{NAME} -c vmcore explain pfn:0x2c00",
        f"{NAME} -c vmcore explain --dmesg",
        f"{NAME} explain --stdin < oops.txt",
    ),
    add_arguments=_add_arguments,
    run=_run,
    can_do_without=_is_text_alone,
)
