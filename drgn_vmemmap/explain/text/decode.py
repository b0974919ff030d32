# SPDX-License-Identifier: LGPL-2.1-or-later

"""
From bytes to characters: the forms in which logs are kept, sent and pasted.

Compression, character sets, mails, JSON and escapes are undone here; what remains are
lines as the kernel wrote them, or as a mailer wrapped them: see
:mod:`drgn_vmemmap.explain.text.lines`.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from typing import NamedTuple

from drgn_vmemmap.explain.text.compression import NotText, unpacked
from drgn_vmemmap.explain.text.journal import journal_text, without_counts, without_lengths
from drgn_vmemmap.explain.text.mail import from_base64, mail_text
from drgn_vmemmap.explain.text.terminal import terminal_text

_NESTING_LIMIT = 4


class Decoded(NamedTuple):
    """A text, and what may be missing of it."""

    text: str
    problem: str | None
    """Why this is not all, in words."""


_BINARY = {
    b"\x7fELF": "an ELF file; a vmcore is given with -c",
    b"KDUMP   ": "a vmcore; give it with -c",
    b"DISKDUMP": "a vmcore; give it with -c",
    b"makedumpfile\0": "a flattened vmcore; give it to makedumpfile -R first",
    b"\x89PNG": "a picture; its text has to be typed in",
    b"\xff\xd8\xff": "a picture; its text has to be typed in",
    b"GIF8": "a picture; its text has to be typed in",
    b"%PDF": "a PDF file; copy its text",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x04\x22\x4d\x18": "compressed with lz4: unpack it first, with "
    "lz4 -dc FILE | drgn-vmemmap explain --stdin",
    b"\x89LZO": "compressed with lzop: unpack it first",
    b"LPKSHHRH": "a journal file; use journalctl -k --file",
}
"""Files that are no text, by how they begin."""

_CHARSETS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Charsets by their byte order marks; those of UTF-32 begin as those of UTF-16."""

_SAMPLE = 1 << 16

# Control characters that text on a console has: NUL, bell, backspace, tab, line ends, escape.
_NO_TEXT = re.compile("[\x01-\x06\x0e-\x1a\x1c-\x1f\ufffd]")

# Data is no text if more than one character of so many is one of these.
_NO_TEXT_SHARE = 4

# ECMA-48: control sequences, strings up to their terminator, and other escapes.
_ESCAPES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    "|\x1b[]PX^_][^\x07\x1b]{0,512}(?:\x07|\x1b\\\\)"
    "|\x1b[ -/]{0,4}[0-~]"
)

# How rsyslog, dmesg, /dev/kmsg, journalctl, cat -v and JSON write some characters.
_WRITTEN = re.compile(
    r"#0(?:11|12|15|33)(?!\d)|\\0(?:11|12|15|33)|\\(?:x|u00)(?P<code>[0-7][0-9a-f])|\^I|\\[tnr]",
    re.IGNORECASE,
)
_WRITTEN_ESCAPE = re.compile(
    r"(?:#033|\\(?:033|x1b|u001b|e)|\^\[|␛|<(?:1b|esc)>)\[[0-9;:]{0,32}[A-Za-z]"
    # Colours whose escape was lost, as it is when they are pasted; and [K of grep after them.
    r"|(?:ESC|[?\ufffd])?\[(?:[0-9][0-9;:]{0,31}m|m(?=[\s\[]|$))(?:(?:ESC|[?\ufffd])?\[K)?",
    re.IGNORECASE,
)

# NUL, flow control of serial lines, soft hyphens, characters of no width; and what editors show
# where they wrap a line. A hard space that was encoded twice is one.
_UNSEEN = re.compile("[\0\x11\x13\u00ad\u200b-\u200f\u2060\ufeff]|[↩↵⏎](?=\r*$)", re.MULTILINE)

_TAGS = re.compile(
    r"<(?:[bh]r|/?(?:p|div|pre|t[rdh]|li|d[td]|h[1-6]|blockquote))\b[^<>]{0,256}>", re.IGNORECASE
)
# Markdown: characters that would mean something, and line ends that are to stay.
_ESCAPED = re.compile(r"\\([\[\]<>()*_#`~+.!-])|\\(?=\r*$)", re.MULTILINE)
# Within a number, too: <wbr> is where it may be wrapped, <mark> what was searched for.
_MARKUP = re.compile(
    r"</?(?:span|b|i|u|s|a|code|tt|font|html|body|head|table|tbody|em|strong|mark|wbr|small|big|su[bp]"
    r"|samp|kbd|ins|del)\b[^<>]{0,512}>",
    re.IGNORECASE,
)

_SOFT_BREAK = re.compile(r"(?<!=)=[ \t]*\r*\n(?P<quote>[ \t]*(?:>[ \t]?)*)")
_QUOTED = re.compile(r"(?:=(?:[0-9A-F]{2}|3d))+")
_LINE_START = re.compile(r"[ \t]*(?:>[ \t]?)*")

# Quoted-printable breaks lines after 76 characters at most, and seldom before 60.
_IS_QUOTED_PRINTABLE = re.compile(r"^.{40,}[^=\n]=[ \t]*\r*$|=3D[^\s=]|=C2=A0", re.M)
# A space at the end of a line, or a number, as in ``cpu=20``.
_ENDS_IN_SPACE = re.compile(r"=(?:20|09)\r*$", re.M)
_EQUALS = re.compile(r"=(?![0-9A-F]{2}|[ \t]*\r*$)", re.M)

# Mails have base64 in short lines; base64 -w0 and fields of JSON have it in one line.
_BASE64 = re.compile(
    r"(?:^[ \t>]*[A-Za-z0-9+/]{40,}\r*\n)+(?:^[ \t>]*[A-Za-z0-9+/]*={0,2}\r*$)?"
    r"|^[A-Za-z0-9+/_-]{100,}={0,2}\r*$",
    re.M,
)


def decode(data: bytes, nesting: int = 0) -> Decoded:
    """
    The text in some bytes, whatever form it has.

    :param data: As it was read from a file or a pipe.
    :raises NotText: if it is none.
    """
    data, problem = unpacked(data)
    for magic, name in _BINARY.items():
        if data.startswith(magic):
            raise NotText(f"this is no text but {name}")
    data = without_counts(without_lengths(data))
    text = _characters(data)
    _check(text)
    if "\ufffd" in text:
        text = _characters(data, _OLDER)
    text = mail_text(terminal_text(text), lambda part: _part(part, nesting))
    text = _without_base64(text, nesting)
    text = _without_quoted_printable(text)
    messages = journal_text(text)
    if messages is not text:
        text = _without_base64(messages, nesting)
    return Decoded(_without_markup(_without_escapes(text)), problem)


def _part(data: bytes, nesting: int) -> str:
    """The text of a part of a mail; empty if the part is no text."""
    if nesting == _NESTING_LIMIT:
        return ""
    try:
        return decode(data, nesting + 1).text
    except NotText:
        return ""


def _characters(data: bytes, errors: str = "replace") -> str:
    for mark, charset in _CHARSETS:
        if data.startswith(mark):
            return data[len(mark) :].decode(charset, errors)
    return data.decode(_charset(data[:_SAMPLE]), errors)


def _older(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are no UTF-8 as Windows-1252: hard spaces and quotes of a mailer."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return wrong.decode("cp1252" if error.encoding == "utf-8" else "ascii", "replace"), error.end


_OLDER = "drgn_vmemmap.older_charset"
codecs.register_error(_OLDER, _older)


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
    sample = text[: 1 << 20].replace("\0", "")
    if text and not sample:
        raise NotText("this is no text: it holds nothing but NUL bytes")
    if len(_NO_TEXT.findall(sample)) * _NO_TEXT_SHARE > len(sample):
        raise NotText("this is no text")


def _without_base64(text: str, nesting: int) -> str:
    """Decode blocks of base64 that have lost the headers of their mail."""
    if nesting == _NESTING_LIMIT:
        return text

    def decoded(block: re.Match[str]) -> str:
        return _part(from_base64(block[0]), nesting) or block[0]

    return _BASE64.sub(decoded, text)


def _without_quoted_printable(text: str) -> str:
    """
    Undo quoted-printable in a text that has lost its headers, and may have been quoted since.
    """
    if not _is_quoted_printable(text):
        return text
    return _QUOTED.sub(_octets, "".join(_joined_at_soft_breaks(text)))


def _is_quoted_printable(text: str) -> bool:
    if _IS_QUOTED_PRINTABLE.search(text):
        return True
    # In quoted-printable, no = stands for itself.
    return _ENDS_IN_SPACE.search(text) is not None and not _EQUALS.search(text)


def _joined_at_soft_breaks(text: str) -> Iterator[str]:
    """
    The pieces between soft line breaks.

    A line that was quoted after it had been broken has its quote marks in the middle.
    """
    start = 0
    for match in _SOFT_BREAK.finditer(text):
        line = text.rfind("\n", 0, match.start()) + 1
        quote = _LINE_START.match(text, line)
        yield text[start : match.start()]
        is_quoted_again = quote is not None and ">" in quote[0] and ">" in match["quote"]
        start = match.end() if is_quoted_again else match.start("quote")
    yield text[start:]


def _octets(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace")


def _without_escapes(text: str) -> str:
    """Undo what is for terminals: colours, cursor movements, characters struck over."""
    if "\x1b" in text or "\x9b" in text:
        text = _ESCAPES.sub("", text)
    if "\b" in text:
        text = re.sub("[^\n\b]\b", "", text)
    text = _WRITTEN_ESCAPE.sub("", text)
    text = _WRITTEN.sub(_character, text)
    text = text.replace("\u00c2\u00a0", " ")
    return _UNSEEN.sub("", text)


def _character(match: re.Match[str]) -> str:
    written = match[0].lower()
    if match["code"] and " " <= chr(int(match["code"], 16)) <= "~":
        return chr(int(match["code"], 16))
    if written.endswith(("12", "0a", "\\n", "15", "0d")):
        return "\n"
    return "\t" if written.endswith(("11", "09", "\\t", "^i")) else ""


def _without_markup(text: str) -> str:
    """Undo HTML, as far as bug trackers and mailers put a log into it."""
    if "<" in text:
        text = _MARKUP.sub("", _TAGS.sub("\n", text))
    if "&" in text:
        # Some trackers escape twice.
        text = html.unescape(html.unescape(text))
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
