# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Check what HugeTLB vmemmap optimization (HVO) did to the struct pages of HugeTLB folios

A module for the corelens of drgn-tools: put this file into its package, as drgn_tools/vmemmap.py.
The work is done by drgn-vmemmap, which must be installed where corelens runs.
"""

import argparse

from drgn import Program
from drgn_tools.corelens import CorelensModule

COMMANDS = ("report", "verify", "explain", "map")


def run_vmemmap(prog: Program, command: str, *arguments: str) -> None:
    """
    Run a command of drgn-vmemmap on a program

    What cannot be analysed is reported in one line on standard error.

    :param command: One of :data:`COMMANDS`
    :param arguments: Its options
    """
    try:
        # Not at the top: corelens imports all modules of its package.
        from drgn_vmemmap.cli.command_line import run
    except ImportError as error:
        print(f"drgn-vmemmap cannot be imported: {error}")
        return
    run([command, *arguments], prog)


class VmemmapModule(CorelensModule):
    """
    Check what HugeTLB vmemmap optimization (HVO) did to struct pages

    Shows the frames that HVO freed by hstate and node, checks the page tables
    and struct pages of each HugeTLB folio, and explains what is wrong.
    """

    name = "vmemmap"

    def add_args(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "command",
            nargs="?",
            choices=COMMANDS,
            default="verify",
            help="of drgn-vmemmap (default: verify)",
        )
        parser.add_argument(
            "arguments",
            nargs=argparse.REMAINDER,
            help="options of that command, such as --folios",
        )

    def run(self, prog: Program, args: argparse.Namespace) -> None:
        run_vmemmap(prog, args.command, *args.arguments)
