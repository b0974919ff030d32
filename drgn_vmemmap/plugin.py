# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The command at drgn's prompt: ``%vmemmap [COMMAND] [OPTIONS]``.

drgn imports this module as a plugin of the group ``drgn.plugins``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import drgn


def _run(prog: drgn.Program, arguments: Sequence[str]) -> None:
    from drgn_vmemmap.cli.command_line import run

    run(arguments, prog)


def _register() -> None:
    """Add the command to drgn's, so that pipes and redirections work as for drgn's own."""
    try:
        # drgn commit 392a998c ("Add command framework") (in v0.0.33)
        from drgn.commands import custom_command
    except ImportError:
        return  # This drgn has no commands.
    options: dict[str, Any] = {
        "name": "vmemmap",
        "description": "show what HugeTLB vmemmap optimization did",
        "usage": "**vmemmap** [*command*] [*options*]",
        "long_description": "``%vmemmap --help`` lists the commands.",
    }
    try:
        from drgn.commands import parse_shell_command
    except ImportError:
        # drgn 0.0.33 hands a custom command its line as it is.
        from drgn.commands import _shell_command  # type: ignore[attr-defined]

        @custom_command(**options)
        def run_line(prog: drgn.Program, name: str, line: str, **kwargs: Any) -> None:
            with _shell_command(line) as parsed:
                _run(prog, parsed.args)
    else:

        @custom_command(**options, parse=parse_shell_command)
        def run_words(prog: drgn.Program, name: str, words: Sequence[str], **kwargs: Any) -> None:
            _run(prog, words)


_register()
