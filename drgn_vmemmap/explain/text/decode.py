# SPDX-License-Identifier: LGPL-2.1-or-later

"""
From bytes to characters: the forms in which logs are kept, sent and pasted.

They are undone here, one after the other; what remains are lines as the kernel wrote them, or
as a mailer wrapped them: see :mod:`drgn_vmemmap.explain.text.read`.
"""

from __future__ import annotations

from typing import NamedTuple

from drgn_vmemmap.explain.text.asciinema import recorded_output
from drgn_vmemmap.explain.text.charset import characters
from drgn_vmemmap.explain.text.compression import unpacked
from drgn_vmemmap.explain.text.escapes import without_escapes
from drgn_vmemmap.explain.text.json_records import json_messages
from drgn_vmemmap.explain.text.lengths import without_lengths
from drgn_vmemmap.explain.text.mail import mail_text
from drgn_vmemmap.explain.text.markup import without_markup
from drgn_vmemmap.explain.text.not_text import NotText, refuse_other_files
from drgn_vmemmap.explain.text.transfer_encodings import without_base64, without_quoted_printable

_NESTING_LIMIT = 4


class Decoded(NamedTuple):
    """A text, and what may be missing of it."""

    text: str
    problem: str | None
    """Why this is not all, in words."""


def decode(data: bytes, nesting: int = 0) -> Decoded:
    """
    The text in some bytes, whatever form it has.

    :param data: As it was read from a file or a pipe.
    :param nesting: How many texts it is in, each encoded within the next.
    :raises NotText: if it is none.
    """

    def part(data: bytes) -> str:
        """The text of a part; empty if it is no text."""
        if nesting == _NESTING_LIMIT:
            return ""
        try:
            return decode(data, nesting + 1).text
        except NotText:
            return ""

    data, problem = unpacked(data)
    refuse_other_files(data)
    text = characters(without_lengths(data))
    text = mail_text(recorded_output(text), part)
    text = without_quoted_printable(without_base64(text, part))
    messages = json_messages(text)
    if messages is not None:
        text = without_base64(messages, part)
    return Decoded(without_markup(without_escapes(text)), problem)
