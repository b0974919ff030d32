# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The manual page, made from the parser, the rules, and the sections that stand here.

``python3 -m drgn_vmemmap.cli.manual`` writes it in roff's language. The page in the source,
``man/drgn-vmemmap.1``, is what a build installs, so that a build imports nothing of this package.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator

from drgn_vmemmap import __version__
from drgn_vmemmap.cli.command import Command, subparsers
from drgn_vmemmap.cli.exit_codes import NAME
from drgn_vmemmap.cli.options import target_parser
from drgn_vmemmap.cli.parser import COMMANDS, parser
from drgn_vmemmap.rules.rule import RULES

_SYNOPSIS = (
    "drgn-vmemmap [-c VMCORE | -k | --qemu ADDRESS] [COMMAND] [OPTIONS]",
    "drgn -c VMCORE drgn_vmemmap [COMMAND] [OPTIONS]",
    "%vmemmap [COMMAND] [OPTIONS]",
)

_DESCRIPTION = (
    "HugeTLB vmemmap optimization (HVO) frees most of the memory that holds the struct pages of a "
    "HugeTLB folio: it maps the vmemmap pages that hold nothing but tails to one frame, read-only. "
    "drgn-vmemmap finds each HugeTLB folio of a vmcore or of a live x86-64 kernel, walks the page "
    "tables over its vmemmap, and reports what HVO did there, what it saves, and what is broken.",
    "No debugging symbols are needed: types and symbols come from the dump itself. It runs with "
    "drgn 0.0.31 or later and Python 3.9 or later. extract needs drgn 0.1.0 and kdumpling 0.4.0, "
    "HTML jinja2, completion shtab, progress bars tqdm, and logs that are compressed with zstd "
    "need Python 3.14 or backports.zstd.",
)

_EXIT_STATUS = (
    ("0", "Done. For verify and map: no finding is an error."),
    (
        "1",
        "verify or map found errors, watch --until or watch -- COMMAND saw a rule broken, or diff "
        "found a difference.",
    ),
    (
        "2",
        "Wrong usage, or this target cannot be analysed. One line on standard error says why and "
        "what to do.",
    ),
    (
        "3",
        "Incomplete: memory that the analysis needed is not in the dump, a part of this kernel was "
        "not recognised, a log is cut off, or the analysis was interrupted. For verify and map: "
        "nothing is known to be broken.",
    ),
)

_FILES = (
    ("/proc/kcore", "The memory of the live kernel, for -k."),
    ("/sys/kernel/btf/vmlinux", "The types of the live kernel."),
    ("drgn_vmemmap", "The tool as one file, written by drgn-vmemmap bundle."),
)

_ENVIRONMENT = (
    ("NO_COLOR", "If it is not empty, no colour is written, not even on a terminal."),
    ("COLUMNS", "The width of tables, 80 at least, and of the map; by default the terminal's."),
    (
        "PAGER, LESS",
        "The pager that shows lists of folios and rules on a terminal, and its options.",
    ),
    ("TERM", "If it is dumb, no colour is written, and no pager is used."),
)

_EXAMPLES = (
    ("What did HVO do to this kernel?", "drgn-vmemmap -c vmcore"),
    ("Is anything broken?", "drgn-vmemmap -c vmcore verify"),
    ("What is at this address of an oops?", "drgn-vmemmap -c vmcore explain ffb7415cc008b174"),
    ("What do the addresses in the log of a crash mean?", "drgn-vmemmap -c vmcore explain --dmesg"),
    ("What changes on the live kernel?", "drgn-vmemmap -k watch"),
)

_SEE_ALSO = (
    "drgn --help",
    "https://drgn.readthedocs.io/",
    "https://docs.kernel.org/mm/vmemmap_dedup.html",
)


_COPYRIGHT = ("The drgn-vmemmap maintainers. The licence is LGPL-2.1-or-later.",)


def manual() -> str:
    """The manual page in the language of roff's man macros."""
    return "".join(f"{line}\n" for line in _page())


def _page() -> Iterator[str]:
    yield '.\\" SPDX-License-Identifier: LGPL-2.1-or-later'
    yield '.\\" Made by "make manual" from the source; changes here are lost.'
    yield f'.TH DRGN\\-VMEMMAP 1 "" "drgn\\-vmemmap {__version__}" "User Commands"'
    yield ".nh"  # the names of options are not hyphenated,
    yield ".ad l"  # and words are not spread
    yield from _section("NAME", [rf"{_escape(NAME)} \- verify HugeTLB vmemmap optimization"])
    yield from _section("SYNOPSIS", _lines(_SYNOPSIS))
    yield from _section("DESCRIPTION", _paragraphs(_DESCRIPTION))
    yield from _section("OPTIONS", _general_options())
    yield from _section("COMMANDS", _commands())
    yield from _section("RULES", _rules())
    yield from _section("EXIT STATUS", _definitions(_EXIT_STATUS))
    yield from _section("ENVIRONMENT", _definitions(_ENVIRONMENT))
    yield from _section("FILES", _definitions(_FILES))
    yield from _section("EXAMPLES", _examples())
    yield from _section("COPYRIGHT", _paragraphs(_COPYRIGHT))
    yield from _section("SEE ALSO", _lines(_SEE_ALSO))


def _section(title: str, body: Iterable[str]) -> Iterator[str]:
    yield f".SH {title}"
    yield from body


def _general_options() -> Iterator[str]:
    general = parser()
    yield from _options(general)
    yield ".PP"
    yield _escape("These options are passed on to drgn; drgn --help explains them:")
    others = (
        ", ".join(map(_bold, action.option_strings))
        for action in target_parser()._actions
        if not general._option_string_actions.keys() & set(action.option_strings)
    )
    yield ";\n".join(others) + "."


def _commands() -> Iterator[str]:
    for name, subparser in subparsers(parser()).items():
        command = COMMANDS[name]
        yield f".SS {_bold(name)} {_usage(command, subparser)}".rstrip()
        yield from _paragraphs((command.description,))
        yield from _options(subparser, without=parser())
        yield ".PP"
        yield "Examples:"
        yield from _lines(command.examples)


def _usage(command: Command, parser: argparse.ArgumentParser) -> str:
    """The positional arguments; the options follow, one by one."""
    if command.usage is not None:
        return _escape(command.usage)
    optional = {None: "{}", "?": "[{}]", "*": "[{}...]", "+": "{}..."}
    words = (
        optional[action.nargs].format(action.metavar or action.dest)
        for action in parser._actions
        if not action.option_strings and (action.nargs is None or action.nargs in optional)
    )
    return _escape(" ".join(("[OPTIONS]", *words)))


def _options(
    parser: argparse.ArgumentParser, without: argparse.ArgumentParser | None = None
) -> Iterator[str]:
    """
    :param without: A parser whose options are left out, since they are explained elsewhere.
    """
    explained = set() if without is None else {*without._option_string_actions}
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or explained & set(action.option_strings)
        if not action.option_strings or hidden:
            continue
        value = _value(action)
        yield ".TP"
        yield ", ".join(f"{_bold(name)}{value}" for name in action.option_strings)
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield _escape(text[:1].upper() + text[1:] + ".")


def _value(action: argparse.Action) -> str:
    """The value after an option's name."""
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return " " + "|".join(_escape(str(choice)) for choice in action.choices)
    return f" \\fI{_escape(str(action.metavar or action.dest.upper()))}\\fR"


def _rules() -> Iterator[str]:
    yield _escape(
        "Each finding names the rule that does not hold. Its severity is the one given here, or a "
        "lower one if the cause is known."
    )
    for rule in RULES.values():
        yield ".TP"
        yield f"{_bold(rule.name)} ({rule.severity.value})"
        yield _escape(rule.meaning)


def _examples() -> Iterator[str]:
    for question, command in _EXAMPLES:
        yield ".PP"
        yield _escape(question)
        yield from _lines((command,))


def _definitions(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in pairs:
        yield ".TP"
        yield _bold(term)
        yield _escape(text)


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield _escape(text)


def _lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines that are shown as they are, and indented."""
    yield ".RS 4"
    yield ".nf"
    yield from map(_escape, lines)
    yield ".fi"
    yield ".RE"


def _bold(text: str) -> str:
    return f"\\fB{_escape(text)}\\fR"


def _escape(text: str) -> str:
    """Text that roff shows as it is, with hyphens that can be copied to a shell."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


if __name__ == "__main__":
    sys.stdout.write(manual())
