# SPDX-License-Identifier: LGPL-2.1-or-later

"""The characters in some bytes, whichever charset they have."""

from __future__ import annotations

import codecs
import re

from drgn_vmemmap.explain.text.not_text import NotText

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Charsets by their byte order marks; those of UTF-32 begin as those of UTF-16."""

_CHARSET_SAMPLE = 1 << 16
_TEXT_SAMPLE = 1 << 20

# Control characters that text on a console has: NUL, bell, backspace, tab, line ends, escape.
_NO_TEXT = re.compile("[\x01-\x06\x0e-\x1a\x1c-\x1f\ufffd]")

# Data is no text if more than one character of so many is one of these.
_NO_TEXT_SHARE = 4


def characters(data: bytes) -> str:
    """
    The characters in some bytes.

    :raises NotText: if they are none.
    """
    text = _decoded(data, "replace")
    _check(text)
    return _decoded(data, _OLDER) if "\ufffd" in text else text


def _decoded(data: bytes, errors: str) -> str:
    for mark, charset in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(charset, errors)
    return data.decode(_charset(data[:_CHARSET_SAMPLE]), errors)


def _charset(sample: bytes) -> str:
    """The charset of a text without a byte order mark: most of a log is ASCII."""
    zeros = [sample[start::4].count(0) * 4 * 10 // (len(sample) or 1) for start in range(4)]
    many, few = 6, 1
    if min(zeros[1:]) >= many and zeros[0] < few:
        return "utf-32-le"
    if min(zeros[:3]) >= many and zeros[3] < few:
        return "utf-32-be"
    if min(zeros[1], zeros[3]) >= many and max(zeros[0], zeros[2]) < few:
        return "utf-16-le"
    if min(zeros[0], zeros[2]) >= many and max(zeros[1], zeros[3]) < few:
        return "utf-16-be"
    return "utf-8"


def _check(text: str) -> None:
    sample = text[:_TEXT_SAMPLE].replace("\0", "")
    if text and not sample:
        raise NotText("this is no text: it holds nothing but NUL bytes")
    if len(_NO_TEXT.findall(sample)) * _NO_TEXT_SHARE > len(sample):
        raise NotText("this is no text")


def _older(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are no UTF-8 as Windows-1252: hard spaces and quotes of a mailer."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return wrong.decode("cp1252" if error.encoding == "utf-8" else "ascii", "replace"), error.end


_OLDER = "drgn_vmemmap.older_charset"
codecs.register_error(_OLDER, _older)
