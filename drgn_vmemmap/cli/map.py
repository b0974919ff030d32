# SPDX-License-Identifier: LGPL-2.1-or-later

"""``map``: a picture of all of the vmemmap in the terminal."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from drgn_vmemmap.cli import arguments
from drgn_vmemmap.cli.command import Command
from drgn_vmemmap.cli.exit_codes import CANNOT, NAME, fail, verification_code
from drgn_vmemmap.cli.result import style_for, write
from drgn_vmemmap.paging.x86_64 import PFN_LIMIT

if TYPE_CHECKING:
    import drgn

    from drgn_vmemmap.output.terminal import Style


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="start",
        type=arguments.pfn,
        default=0,
        metavar="WHERE",
        help="leave out memory below WHERE",
    )
    parser.add_argument(
        "--to",
        dest="stop",
        type=arguments.pfn,
        default=PFN_LIMIT,
        metavar="WHERE",
        help="leave out memory from WHERE on",
    )
    parser.add_argument(
        "--node",
        type=arguments.number,
        metavar="N",
        help="only memory from the first folio of this NUMA node to its last",
    )
    parser.add_argument(
        "--hstate", metavar="NAME", help="only folios of this size, such as hugepages-2048kB"
    )
    parser.add_argument(
        "--width", type=arguments.number, metavar="N", help="default: the terminal's width"
    )
    parser.add_argument("--ascii", action="store_true", help="letters instead of block characters")
    arguments.add_output(parser)
    arguments.add_system_map(parser)


def _run(options: argparse.Namespace, prog: drgn.Program) -> int:
    from drgn_vmemmap.analysis.map import NoMap, Part
    from drgn_vmemmap.api import verify
    from drgn_vmemmap.output.map import render
    from drgn_vmemmap.progress import TerminalProgress

    if options.start >= options.stop:
        return fail(
            CANNOT, "--from is not below --to, in pages of 4 KiB; PFNs are written pfn:NUMBER"
        )
    part = Part(options.hstate, options.node, options.start, options.stop)
    with TerminalProgress() as progress:
        report = verify(prog, options.system_map, progress)
    try:
        text = render(report, part, _width(options), _style(options))
    except NoMap as error:
        return fail(CANNOT, str(error))
    write(text, options.output)
    return verification_code(report)


def _width(options: argparse.Namespace) -> int:
    width: int | None = options.width
    return shutil.get_terminal_size().columns if width is None else width


def _style(options: argparse.Namespace) -> Style:
    style = style_for(options.output)
    blocks = bool(options.output) or style.blocks
    return style._replace(blocks=blocks and not options.ascii)


COMMAND = Command(
    name="map",
    help="a picture of all of the vmemmap",
    description="A cell stands for a folio, or for a larger or smaller span of memory so that the "
    "map fits the screen, and shows the worst or most important state in it. WHERE is a physical "
    "address, with or without the unit K, M, G or T, or pfn:NUMBER.",
    examples=(
        f"{NAME} -c vmcore map",
        f"{NAME} -c vmcore map --from 4G --to 0x140000000",
        f"{NAME} -c vmcore map --node 1 --ascii",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
