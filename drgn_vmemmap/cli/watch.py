# SPDX-License-Identifier: LGPL-2.1-or-later

"""``watch``: a live kernel, pass after pass, alone or while a command runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, FOUND_ERRORS, NAME, fail, say, warn
from drgn_vmemmap.cli.result import write_on
from drgn_vmemmap.cli.rules import unknown_rule
from drgn_vmemmap.errors import printable

if TYPE_CHECKING:
    import drgn

    from drgn_vmemmap.analysis.live import Target
    from drgn_vmemmap.analysis.report import Report
    from drgn_vmemmap.analysis.watch import Pass, Tally
    from drgn_vmemmap.cli.child import NoChild
    from drgn_vmemmap.extract.recording import Recording
    from drgn_vmemmap.progress import Progress

_INTERVAL = 2.0
"""Seconds between passes, if there is no command."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        type=arguments.seconds,
        metavar="SECONDS",
        help="from the start of one pass to the start of the next; default: "
        f"{_INTERVAL:g}, or 0 while COMMAND runs",
    )
    parser.add_argument(
        "--count", type=arguments.number, metavar="N", help="end after this many passes"
    )
    parser.add_argument(
        "--until",
        metavar="RULE",
        help="when this rule has a finding of any severity, explain it, end COMMAND, and exit with "
        "code 1",
    )
    parser.add_argument(
        "--extract",
        type=arguments.nonempty,
        metavar="DIR",
        help="write an extract to DIR when something is first found broken",
    )
    arguments.add_format(parser, ("table", "jsonl", "ktap"))
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.analysis.watch import Tally
    from drgn_vmemmap.cli.child import running
    from drgn_vmemmap.output.watch import summary
    from drgn_vmemmap.progress import InterruptibleProgress

    reason = _refusal(options, prog)
    if reason is not None:
        return fail(CANNOT, reason)
    tally = Tally(options.until)
    # Each of these ends the passes, with a summary, and a command, too: it has a process group of
    # its own, so that they reach it through us.
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    progress = InterruptibleProgress(ending, lambda number: child.send(number))
    watched = _watched(options, prog, progress)
    with running(options.child) as child, progress:
        try:
            _watch(options, watched, tally, child, progress)
        finally:
            say(summary(tally))
        if tally.broken and options.until is not None:
            child.stop()
        code = child.wait()
    return _exit_code(options, tally, code)


def _refusal(options: argparse.Namespace, prog: drgn.Program) -> str | None:
    """Why this program cannot be watched with these options; ``None`` if it can."""
    from drgn_vmemmap.api import is_live

    if not is_live(prog):
        return "watch needs a live kernel: give -k or --qemu ADDRESS, not a dump"
    reason = None if options.until is None else unknown_rule(options.until)
    if reason is not None:
        return reason
    if options.extract is not None and not os.path.isdir(options.extract):
        return f"{options.extract} is not a directory"
    return None


def _watch(
    options: argparse.Namespace,
    watched: tuple[Target, Recording | None],
    tally: Tally,
    child: NoChild,
    progress: Progress,
) -> None:
    """
    Take pass after pass, and write what each one saw.

    :raises OSError: at the end, if something could not be written, as on a full disk.
    """
    from drgn_vmemmap.analysis.watch import watch

    interval = options.interval
    if interval is None:
        interval = 0.0 if options.child else _INTERVAL
    target, recording = watched
    unwritten: OSError | None = None
    for pass_ in watch(target, interval, options.count, progress, child.is_over):
        is_broken = tally.add(pass_)
        if tally.passes == 1:
            for unrecognised in pass_.report.kernel.unrecognised:
                warn(f"not recognised: {unrecognised.message}")
        try:
            is_read = write_on(_lines(options.format, pass_, tally))
        except OSError as error:
            unwritten, is_read = error, False
        if is_broken:
            _report_broken(options, pass_, tally, recording)
            if options.until is not None:
                break
        # A command runs to its end, and is judged, whether or not what we write arrives.
        if not is_read and not options.child:
            break
    report = tally.report()
    if options.format == "ktap" and report is not None:
        write_on(_ktap(report))
    if unwritten is not None:
        raise unwritten


def _watched(
    options: argparse.Namespace, prog: drgn.Program, progress: Progress
) -> tuple[Target, Recording | None]:
    """The target that is watched, and the recording that can write it as a vmcore."""
    from drgn_vmemmap.api import target

    if options.extract is None:
        return target(prog, options.system_map, progress), None
    from drgn_vmemmap.extract.recording import Recording

    recording = Recording(prog, options.system_map)
    return recording.target(progress), recording


def _lines(format_name: str, pass_: Pass, tally: Tally) -> str:
    """A pass in words; nothing in KTAP, which reports all passes together."""
    from drgn_vmemmap.output import watch as lines

    if format_name == "jsonl":
        return lines.jsonl(pass_)
    if format_name == "table":
        return ("" if tally.passes > 1 else lines.HEADING) + lines.table(pass_)
    return ""


def _ktap(report: Report) -> str:
    """The rules as tests: a test fails if its rule was broken in any pass."""
    from drgn_vmemmap.output.report import View, render

    return "".join(render(report, "ktap", View(details=True)))


def _report_broken(
    options: argparse.Namespace, pass_: Pass, tally: Tally, recording: Recording | None
) -> None:
    """Explain what the first broken pass found, and leave its vmcore."""
    from drgn_vmemmap.errors import CannotAnalyse
    from drgn_vmemmap.output.findings import FIRST, explained
    from drgn_vmemmap.output.terminal import Style

    say("\n".join(explained(tally.broken, FIRST, Style.of(sys.stderr))))
    if recording is None:
        return
    name = f"vmcore-{tally.broken[0].rule}-{int(pass_.time)}"
    path = os.path.join(options.extract, name)
    try:
        written = recording.write(path, compress=True, confirmed=pass_.report.findings)
    except (CannotAnalyse, OSError) as error:
        warn(f"no vmcore of this moment: {error}")
    else:
        for withheld in written.withheld:
            say(f"withheld: {withheld}")
        say(f"written: {printable(path)}")


def _exit_code(options: argparse.Namespace, tally: Tally, child_code: int) -> int:
    watches_for_faults = options.until is not None or bool(options.child)
    if tally.broken and watches_for_faults:
        return FOUND_ERRORS
    return child_code if options.child else DONE


COMMAND = Command(
    name="watch",
    help="what changes on a live kernel, every few seconds, or while a command runs",
    description="Analyses a live kernel again and again, with all checks, and writes one line per "
    "hstate with what changed. The first line of a pass counts the moved folios and the findings "
    "of all hstates. Ctrl-C or SIGTERM ends it with a summary. With -- COMMAND, it takes passes "
    "while COMMAND runs, and one more after it: the exit code is that of COMMAND, or 1 if "
    "something is broken. The output of COMMAND goes to standard error.",
    examples=(
        f"{NAME} -k watch --interval 5",
        f"{NAME} --qemu SOCKET watch --until tail-writable --extract .",
        f"{NAME} -k watch --format ktap -- ./run_vmtests.sh -t hugetlb",
    ),
    add_arguments=_add_arguments,
    run=_run,
    takes_child=True,
    usage="[OPTIONS] [-- COMMAND [ARGUMENT]...]",
)
