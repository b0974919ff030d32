# SPDX-License-Identifier: LGPL-2.1-or-later

"""``rules``: what each rule checks, and what its findings mean."""

from __future__ import annotations

import argparse

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command, nearest
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, NAME, fail
from drgn_vmemmap.cli.result import style_for, write


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rules", nargs="*", metavar="RULE", help="default: all rules")
    arguments.add_format(parser, ("table", "json"))
    arguments.add_output(parser)


def _run(options: argparse.Namespace, prog: None) -> int:
    from drgn_vmemmap.output.rules import render
    from drgn_vmemmap.rules.rule import RULES

    for name in options.rules:
        reason = unknown_rule(name)
        if reason is not None:
            return fail(CANNOT, reason)
    rules = [RULES[name] for name in options.rules or RULES]
    text = render(rules, options.format, style_for(options.output))
    write(text, options.output, page=options.format == "table")
    return DONE


def unknown_rule(name: str) -> str | None:
    """The message on a rule that does not exist, with the nearest one; ``None`` if it exists."""
    from drgn_vmemmap.rules.rule import RULES

    return None if name in RULES else f"there is no rule {name!r}; {nearest(name, RULES)}"


COMMAND = Command(
    name="rules",
    help="what each rule checks, and what its findings mean",
    description="Shows for each rule what must hold, the highest severity of its findings, what a "
    "finding means for the running kernel, what the rule is checked against, and the kernel source "
    "that it follows. No target is needed.",
    examples=(f"{NAME} rules", f"{NAME} rules tail-writable", f"{NAME} rules --format json"),
    add_arguments=_add_arguments,
    run=_run,
    needs_program=False,
)
