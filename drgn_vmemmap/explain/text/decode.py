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
from drgn_vmemmap.explain.text.limits import Allowance
from drgn_vmemmap.explain.text.mail import mail_text
from drgn_vmemmap.explain.text.markup import without_markup
from drgn_vmemmap.explain.text.not_text import NotText, PackedText, refuse_other_files
from drgn_vmemmap.explain.text.panic_screen import without_panic_screens
from drgn_vmemmap.explain.text.transfer_encodings import without_base64, without_quoted_printable

_NESTING_LIMIT = 4


class Decoded(NamedTuple):
    """A text, and what may be missing of it."""

    text: str
    problem: str | None
    """Why a part of it is missing, in words; ``None`` if it is complete."""


def decode(data: bytes) -> Decoded:
    """
    The text in some bytes, whatever form it has.

    :param data: As it was read from a file or a pipe.
    :raises NotText: if it is none.
    """
    decoder = _Decoder()
    text = decoder.text(data)
    return Decoded(text, decoder.problem)


class _Decoder:
    """Decodes a text, and the texts that are encoded within it."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """The first reason why something is missing, in words."""
        self._allowance = Allowance()
        self._nesting = 0

    def text(self, data: bytes) -> str:
        """
        :raises NotText: if it is none.
        """
        data, problem = unpacked(data, self._allowance)
        refuse_other_files(data)
        text = characters(without_lengths(data))
        self.problem = self.problem or problem
        text = mail_text(recorded_output(text), self._part)
        text = without_quoted_printable(without_base64(text, self._part))
        messages = json_messages(text)
        if messages is not None:
            text = without_base64(messages, self._part)
        text = without_panic_screens(text, self._part)
        return without_markup(without_escapes(text))

    def _part(self, data: bytes) -> str:
        """The text of a part, such as an attachment of a mail; empty if it is no text."""
        if self._nesting == _NESTING_LIMIT:
            return ""
        self._nesting += 1
        try:
            return self.text(data)
        except PackedText as error:
            self.problem = self.problem or f"a part of this text is {error.what}"
        except NotText:
            pass
        finally:
            self._nesting -= 1
        return ""
