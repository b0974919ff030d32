# SPDX-License-Identifier: LGPL-2.1-or-later

"""Base64 and quoted-printable, also where the headers of the mail that has them are lost."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator

# Mails have base64 in short lines; base64 -w0 and fields of JSON have it in one line.
_BASE64 = re.compile(
    r"(?:^[ \t>]*[A-Za-z0-9+/]{40,}\r*\n)+(?:^[ \t>]*[A-Za-z0-9+/]*={0,2}\r*$)?"
    r"|^[A-Za-z0-9+/_-]{100,}={0,2}\r*$",
    re.M,
)
_BASE64_DIGITS = re.compile(r"[A-Za-z0-9+/]*")
_BETWEEN_DIGITS = re.compile(r"[\s>]+")
_URL_SAFE = str.maketrans("-_", "+/")

# Quoted-printable breaks lines after 76 characters at most, and seldom before 60.
_QUOTED_PRINTABLE = re.compile(r"^.{40,}[^=\n]=[ \t]*\r*$|=3D[^\s=]|=C2=A0", re.M)
# A space at the end of a line, or a number, as in ``cpu=20``.
_SPACE_AT_END = re.compile(r"=(?:20|09)\r*$", re.M)
_EQUALS_SIGN = re.compile(r"=(?![0-9A-F]{2}|[ \t]*\r*$)", re.M)

_SOFT_BREAK = re.compile(r"(?<!=)=[ \t]*\r*\n(?P<quote>[ \t]*(?:>[ \t]?)*)")
_QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)*")
_OCTETS = re.compile(r"(?:=(?:[0-9A-F]{2}|3d))+")


def from_base64(text: str) -> bytes:
    """The bytes in a text of base64, as far as it goes: it may be cut off, or quoted."""
    digits = _BETWEEN_DIGITS.sub("", text).translate(_URL_SAFE)
    known = _BASE64_DIGITS.match(digits)
    size = 0 if known is None else known.end()
    # One digit alone is less than a byte.
    size -= size % 4 == 1
    return binascii.a2b_base64(digits[:size] + "=" * (-size % 4))


def without_base64(text: str, decode: Callable[[bytes], str]) -> str:
    """
    A text with its blocks of base64 decoded.

    :param decode: Gives the text in the bytes of a block; an empty one if they are no text.
    """
    return _BASE64.sub(lambda block: decode(from_base64(block[0])) or block[0], text)


def without_quoted_printable(text: str) -> str:
    """A text with its quoted-printable decoded; it may have been quoted since it was encoded."""
    if not _is_quoted_printable(text):
        return text
    return _OCTETS.sub(_characters, "".join(_joined_at_soft_breaks(text)))


def _is_quoted_printable(text: str) -> bool:
    if _QUOTED_PRINTABLE.search(text):
        return True
    # In quoted-printable, no = stands for itself.
    return _SPACE_AT_END.search(text) is not None and not _EQUALS_SIGN.search(text)


def _joined_at_soft_breaks(text: str) -> Iterator[str]:
    """
    The pieces between soft line breaks.

    A line that was quoted after it had been broken has its quote marks in the middle.
    """
    start = 0
    for match in _SOFT_BREAK.finditer(text):
        line = text.rfind("\n", 0, match.start()) + 1
        quote = _QUOTE.match(text, line)
        yield text[start : match.start()]
        is_quoted_again = quote is not None and ">" in quote[0] and ">" in match["quote"]
        start = match.end() if is_quoted_again else match.start("quote")
    yield text[start:]


def _characters(octets: re.Match[str]) -> str:
    return bytes.fromhex(octets[0].replace("=", "")).decode("utf-8", "replace")
