# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The commands: one parser, one set of help texts and one behaviour for all doors.

What only a command needs is imported when it runs, so that --help is there at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from drgn_vmemmap import __version__

if TYPE_CHECKING:
    import drgn

    from drgn_vmemmap.analysis.report import Report
    from drgn_vmemmap.analysis.samples import Sample

DONE = 0
FOUND_ERRORS = 1
DIFFER = 1
CANNOT = 2
INCOMPLETE = 3

NAME = "drgn-vmemmap"

# Physical addresses have 52 bits at most.
_PFN_LIMIT = 1 << 40

_OWN_OPTIONS = ("-h", "--help", "--version", "--print-completion")
"""Those that need no command."""

_EXAMPLES = "examples:"

FORMATS = ("table", "json", "jsonl", "csv", "prometheus", "html")
"""What a report can be written as; each has a room in ``render``."""


def run(arguments: Sequence[str], prog: drgn.Program) -> int:
    """
    Run a command line on a program.

    :param arguments: Everything behind the program's name.
    :return: The exit code. Whatever goes wrong is told in one line on standard error.
    """
    try:
        return execute(parse(arguments), prog)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else DONE


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """
    :param arguments: Everything behind the program's name; without a command, ``report``.
    :return: Options, among them ``run``, and ``needs_program``.
    :raises SystemExit: for ``--help``, or a wrong command line.
    """
    first = arguments[0].partition("=")[0] if arguments else ""
    if (first.startswith("-") and first not in _OWN_OPTIONS) or not first:
        arguments = ["report", *arguments]
    return parser().parse_args(arguments)


def execute(options: argparse.Namespace, prog: drgn.Program | None) -> int:
    """
    Run a parsed command.

    :param options: Result of :func:`parse()`.
    :param prog: What to look at; ``None`` if the command needs none.
    :return: The exit code.
    """
    run: Callable[[argparse.Namespace, drgn.Program | None], int] = options.run
    return exit_code_of(lambda: run(options, prog))


def exit_code_of(run: Callable[[], int | None]) -> int:
    """
    Run something, be it a command or a script, and tell in one line what goes wrong.

    :param run: Gives an exit code; ``None`` for 0.
    :return: The exit code.
    """
    from drgn import FaultError

    from drgn_vmemmap.errors import CannotAnalyse, MissingFacts

    try:
        code = run()
        sys.stdout.flush()
        return code or DONE
    except (MissingFacts, FaultError) as error:
        return fail(INCOMPLETE, str(error))
    except CannotAnalyse as error:
        return fail(CANNOT, str(error))
    except BrokenPipeError:
        # The reader has seen enough; what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except UnicodeEncodeError as error:
        return fail(CANNOT, f"{error.encoding} cannot write all of this: give it a file with -o")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(CANNOT, f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        return fail(INCOMPLETE, "interrupted")


def fail(code: int, message: str) -> int:
    """Tell what is wrong in one line, and give back the exit code for it."""
    print(f"{NAME}: {message}", file=sys.stderr)
    return code


class _Formatter(argparse.HelpFormatter):
    """Keeps paragraphs apart, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            part if part.startswith(_EXAMPLES) else fill(part, width, indent)
            for part in text.split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT, f"{NAME}: {message}; see '{self.prog} --help'\n")


class _Completion(argparse.Action):
    """Writes what makes a shell complete our command lines."""

    def __call__(
        self,
        parser_: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        try:
            from drgn_vmemmap.cli.completion import completion
        except ImportError:
            parser_.error("completion needs shtab: pip install shtab (Debian: python3-shtab)")

        def write() -> int:
            _write(completion(values), None)
            return DONE

        parser_.exit(exit_code_of(write))


def _examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n  ".join((_EXAMPLES, *(f"{NAME} -c vmcore {line}".rstrip() for line in lines)))


def parser() -> Parser:
    """The parser of all command lines; the manual page and completions are made from it."""
    parser = Parser(
        prog=NAME,
        description="HugeTLB vmemmap optimization (HVO), looked at through drgn.",
        epilog="Without a command: report. drgn-vmemmap hands drgn's own options to drgn: they say "
        "what to look at (-c VMCORE, -k, --qemu ADDRESS, -s VMLINUX, ...): see drgn --help.\n\n"
        "Exit codes: 0 done, 1 something is broken, 2 wrong usage, or this target cannot be "
        "analysed, 3 incomplete: memory that was needed is not in the dump.",
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh"),
        help="write what makes a shell complete command lines; put it where that shell looks",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_report(commands)
    _add_verify(commands)
    _add_explain(commands)
    _add_map(commands)
    _add_watch(commands)
    _add_difference(commands)
    _add_extract(commands)
    _add_bundle(commands)
    return parser


def commands(parser: Parser) -> dict[str, Parser]:
    """The parsers of the commands of a parser, by their names."""
    actions = parser._actions
    (action,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def _add_report(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "report",
        help="what HVO did to each HugeTLB folio, and what it saves (the default)",
        description="Per hstate and node: folios, optimized, freed frames and bytes saved.",
        epilog=_examples(
            "", "--folios", "report --pfn 0x2c00 --folios", "report --format csv -o FILE"
        ),
    )
    command.add_argument("--folios", action="store_true", help="list each folio")
    command.add_argument("--hstate", metavar="NAME", help="only this size: hugepages-2048kB")
    command.add_argument("--node", type=_number, metavar="N", help="only this NUMA node")
    command.add_argument(
        "--pfn", type=_number, metavar="PFN", help="only the folio that contains this PFN"
    )
    _add_output(command, FORMATS)
    _add_system_map(command)
    command.set_defaults(run=_report, needs_program=True)


def _add_output(command: Parser, formats: Sequence[str]) -> None:
    command.add_argument("--format", choices=formats, default="table", help="default: %(default)s")
    command.add_argument("-o", dest="output", metavar="FILE", help="write to a file")


def _add_system_map(command: Parser) -> None:
    command.add_argument(
        "--system-map",
        metavar="FILE",
        help="symbols for a dump without debugging symbols of a kernel before 6.0",
    )


def _report(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.analysis.report import Selection
    from drgn_vmemmap.api import examine
    from drgn_vmemmap.output import View, render
    from drgn_vmemmap.progress import TerminalProgress

    selection = Selection(options.hstate, options.node, options.pfn)
    with TerminalProgress() as progress:
        report = examine(prog, selection, options.system_map, progress)
    view = View(options.folios, samples=_examples_of(report, options.format, prog))
    _write(render(report, options.format, view), options.output)
    return INCOMPLETE if report.incomplete else DONE


def _examples_of(report: Report, format_name: str, prog: drgn.Program) -> Sequence[Sample]:
    """What is drawn, by a format that has drawings."""
    from drgn_vmemmap.api import samples

    return samples(prog, report) if format_name == "html" else ()


def _add_verify(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "verify",
        help="check all that HVO did, after a crash say",
        description="Check every rule over all folios and the whole vmemmap. Each finding comes "
        "with what it means, where to look and what should be there. The exit code is 1 if "
        "something is broken.",
        epilog=_examples("verify", "verify --all", "verify --format prometheus -o FILE"),
    )
    command.add_argument("--all", action="store_true", help="show all findings, not the first ones")
    _add_output(command, FORMATS)
    _add_system_map(command)
    command.set_defaults(run=_verify, needs_program=True)


def _verify(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.api import verify
    from drgn_vmemmap.output import View, render
    from drgn_vmemmap.progress import TerminalProgress

    with TerminalProgress() as progress:
        report = verify(prog, options.system_map, progress)
    view = View(
        folios=options.format != "table",
        details=True,
        all_findings=options.all,
        samples=_examples_of(report, options.format, prog),
    )
    _write(render(report, options.format, view), options.output)
    if report.broken:
        return FOUND_ERRORS
    return INCOMPLETE if report.incomplete else DONE


def _add_explain(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "explain",
        help="what an address, a struct page or a PFN is to the vmemmap",
        description="WHAT is a virtual address (with or without 0x, as an oops has it), pfn:0x... "
        "or phys:0x.... Shows the walk, the struct page, its folio, the frame behind it, who else "
        "sees that frame, and what a read and a write there would do.",
        epilog=_examples("explain ffb7415cc008b174", "explain pfn:0x2c00", "explain --dmesg"),
    )
    command.add_argument("what", nargs="*", metavar="WHAT")
    command.add_argument(
        "--dmesg", action="store_true", help="explain what the kernel's own log names"
    )
    command.add_argument(
        "--stdin", action="store_true", help="explain what the text on standard input names"
    )
    _add_output(command, ("table", "json"))
    _add_system_map(command)
    command.set_defaults(run=_explain, needs_program=True)


def _explain(options: argparse.Namespace, prog: drgn.Program) -> int:
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
    _write(render(explanations, others, options.format), options.output)
    return INCOMPLETE if any(each.incomplete for each in explanations) else code


def _add_map(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "map",
        help="the whole vmemmap as a map",
        description="A cell stands for a folio or for a span of memory, so that all fits a screen, "
        "and shows the worst or most telling of what is there. WHERE is a physical address, with "
        "or without K, M, G or T behind it, or pfn:NUMBER.",
        epilog=_examples("map", "map --from 4G --to 0x140000000", "map --node 1 --ascii"),
    )
    command.add_argument(
        "--from",
        dest="start",
        type=_pfn,
        default=0,
        metavar="WHERE",
        help="leave out what is below",
    )
    command.add_argument(
        "--to",
        dest="stop",
        type=_pfn,
        default=_PFN_LIMIT,
        metavar="WHERE",
        help="leave out what is from there on",
    )
    command.add_argument(
        "--node",
        type=_number,
        metavar="N",
        help="from the first folio of this NUMA node to its last",
    )
    command.add_argument("--hstate", metavar="NAME", help="folios of this size: hugepages-2048kB")
    command.add_argument("--width", type=_number, metavar="N", help="default: the terminal's")
    command.add_argument("--ascii", action="store_true", help="letters instead of block characters")
    command.add_argument("-o", dest="output", metavar="FILE", help="write to a file")
    _add_system_map(command)
    command.set_defaults(run=_map, needs_program=True)


def _map(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.api import verify
    from drgn_vmemmap.output.map import NoMap, Part, Style, render
    from drgn_vmemmap.progress import TerminalProgress

    if options.start >= options.stop:
        return fail(
            CANNOT, "--from is not below --to, in pages of 4 KiB; PFNs are written pfn:NUMBER"
        )
    part = Part(options.hstate, options.node, options.start, options.stop)
    style = Style(True, False) if options.output else Style.of(sys.stdout)
    width = options.width
    if width is None:
        width = shutil.get_terminal_size().columns
    with TerminalProgress() as progress:
        report = verify(prog, options.system_map, progress)
    try:
        text = render(
            report, part, width, style._replace(blocks=style.blocks and not options.ascii)
        )
    except NoMap as error:
        return fail(CANNOT, str(error))
    _write(text, options.output)
    if report.broken:
        return FOUND_ERRORS
    return INCOMPLETE if report.incomplete else DONE


def _add_watch(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "watch",
        help="a live kernel: what changes, every few seconds",
        description="Looks again and again, with all checks, and writes a line a hstate with what "
        "changed. Ctrl-C ends it with a summary.",
        epilog=f"{_EXAMPLES}\n  {NAME} -k watch --interval 5\n"
        f"  {NAME} --qemu SOCKET watch --until tail-writable --extract .",
    )
    command.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="default: %(default)s"
    )
    command.add_argument("--count", type=_number, metavar="N", help="end after so many looks")
    command.add_argument(
        "--until", metavar="RULE", help="end when a rule is broken, and explain it: exit code 1"
    )
    command.add_argument(
        "--extract", metavar="DIR", help="with --until: write the smallest vmcore of that moment"
    )
    command.add_argument(
        "--format", choices=("table", "jsonl"), default="table", help="default: %(default)s"
    )
    _add_system_map(command)
    command.set_defaults(run=_watch, needs_program=True)


def _watch(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.analysis.watch import found, watch
    from drgn_vmemmap.api import is_live, target
    from drgn_vmemmap.extract.vmcore import Recording
    from drgn_vmemmap.output import watch as lines
    from drgn_vmemmap.output.table import explained
    from drgn_vmemmap.progress import TerminalProgress
    from drgn_vmemmap.rules.folio import MEANINGS

    if not is_live(prog):
        return fail(CANNOT, "watch needs a live kernel: give -k or --qemu ADDRESS, not a dump")
    if options.until is not None and options.until not in MEANINGS:
        return fail(CANNOT, f"no rule {options.until!r}; there are: {', '.join(MEANINGS)}")
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
    print("\n".join(explained(broken, None)), file=sys.stderr)
    if recording is not None:
        path = os.path.join(options.extract, f"vmcore-{options.until}-{int(pass_.time)}")
        recording.write(path, compress=True)
        print(f"written: {path}", file=sys.stderr)
    return FOUND_ERRORS


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _add_difference(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "diff",
        help="what became of the folios between two reports or two dumps",
        description="A and B are JSON reports with their folios, or dumps. Tells which folios "
        "appeared, went, were optimized or restored, or changed otherwise, and the totals. The "
        "exit code is 1 if there is a difference.",
        epilog=f"{_EXAMPLES}\n  {NAME} diff vmcore.1 vmcore.2\n  {NAME} diff one.json other.json",
    )
    command.add_argument("before", metavar="A")
    command.add_argument("after", metavar="B")
    _add_output(command, ("table", "json"))
    _add_system_map(command)
    command.set_defaults(run=_difference, needs_program=False)


def _difference(options: argparse.Namespace, prog: drgn.Program | None) -> int:
    from drgn_vmemmap.analysis.difference import difference, load
    from drgn_vmemmap.output.difference import render

    before, after = (load(path, options.system_map) for path in (options.before, options.after))
    found = difference(before, after)
    _write(render(found, options.format), options.output)
    return DIFFER if found.differs else DONE


def _add_extract(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "extract",
        help="write the smallest vmcore that gives the same report",
        description="Write a vmcore with what the report needs and nothing else: page tables, "
        "heads of folios, hstates, symbols and types. No page of a user's data is in it. It gives "
        "the same report without debugging symbols; that is checked before it is kept.",
        epilog=_examples("extract --compress small.vmcore"),
    )
    command.add_argument("file", metavar="FILE", help="the vmcore to write; it must not exist")
    command.add_argument(
        "--compress", action="store_true", help="write a kdump-compressed file instead of ELF"
    )
    _add_system_map(command)
    command.set_defaults(run=_extract, needs_program=True)


def _extract(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.extract.vmcore import extract

    taken = extract(prog, options.file, options.compress, options.system_map)
    for kind, size in taken.most_common():
        print(f"{size:>10} bytes of {kind}", file=sys.stderr)
    print(f"{os.path.getsize(options.file):>10} bytes written to {options.file}", file=sys.stderr)
    return DONE


def _add_bundle(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "bundle",
        help="write this tool as one file, for machines that have only drgn",
        description="Write one executable file with everything but drgn in it: "
        "drgn -c vmcore FILE [COMMAND] [OPTIONS].",
        epilog=f"{_EXAMPLES}\n  {NAME} bundle drgn_vmemmap\n  drgn -c vmcore drgn_vmemmap verify",
    )
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=_bundle, needs_program=False)


def _bundle(options: argparse.Namespace, prog: drgn.Program | None) -> int:
    from drgn_vmemmap.bundle import write_bundle

    write_bundle(options.file)
    return DONE


def _number(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return number


def _pfn(text: str) -> int:
    """The PFN of a place in memory."""
    number, shift = text, 12
    if text.startswith("pfn:"):
        number, shift = text[4:], 0
    unit = "KMGT".find(text[-1:].upper()) + 1 if shift else 0
    try:
        pfn = int(number[:-1] if unit else number, 0) << 10 * unit >> shift
    except ValueError:
        pfn = -1
    if not 0 <= pfn < _PFN_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is no place in memory")
    return pfn


def _write(text: str, path: str | None) -> None:
    """Write a result to standard output, or whole or not at all to a file."""
    if path is None:
        sys.stdout.write(text)
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
