# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The door at drgn's prompt: ``%vmemmap [COMMAND] [OPTIONS]``.

drgn imports this module as a plugin of the group ``drgn.plugins``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import drgn

try:
    # drgn commit 392a998c ("Add command framework") (in v0.0.33)
    from drgn.commands import custom_command, parse_shell_command
except ImportError:
    # This drgn has no commands; the other doors are open.
    pass
else:

    @custom_command(
        name="vmemmap",
        description="show what HugeTLB vmemmap optimization did",
        usage="**vmemmap** [*command*] [*options*]",
        long_description="``%vmemmap --help`` lists the commands.",
        parse=parse_shell_command,
    )
    def _cmd_vmemmap(
        prog: drgn.Program, name: str, arguments: Sequence[str], **kwargs: Any
    ) -> None:
        from drgn_vmemmap.cli import commands as cli

        cli.run(arguments, prog)
