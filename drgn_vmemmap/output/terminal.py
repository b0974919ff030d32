# SPDX-License-Identifier: LGPL-2.1-or-later

"""The abilities of a terminal: its width, its colours, its characters."""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple, TextIO

from drgn_vmemmap.rules.finding import Severity

MINIMUM_WIDTH = 80
"""Characters that tables take at least."""

_BLOCKS = "█▁▂▃▄▅▆▇▒░▞▘▚·"

# Parameters of the control sequence "select graphic rendition"; only errors are red.
_COLOURS = {Severity.ERROR: "1;31", Severity.WARNING: "33", Severity.INFO: "36"}


class Style(NamedTuple):
    """What the reader's terminal can show."""

    blocks: bool
    """Block characters, not only ASCII."""
    colour: bool
    width: int = MINIMUM_WIDTH
    """In characters."""

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """
        What a stream can show: colour goes only to terminals.

        https://no-color.org says how a user turns it off.
        """
        try:
            _BLOCKS.encode(stream.encoding or "ascii")
        except (UnicodeError, LookupError):
            blocks = False
        else:
            blocks = True
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        # In a pipe, the width is the one that the user names.
        has_width = stream.isatty() or "COLUMNS" in os.environ
        width = shutil.get_terminal_size((MINIMUM_WIDTH, 24)).columns if has_width else 0
        return cls(blocks, stream.isatty() and not plain, max(width, MINIMUM_WIDTH))

    def coloured(self, text: str, colour: str) -> str:
        """
        :param colour: Parameters of "select graphic rendition"; empty for none.
        """
        return f"\33[{colour}m{text}\33[0m" if colour and self.colour else text

    def severity(self, severity: Severity) -> str:
        """The name of a severity, in its colour."""
        return self.coloured(severity.value, _COLOURS[severity])


PLAIN = Style(blocks=False, colour=False)
"""A file, or a pipe: ASCII without colours."""
