# SPDX-License-Identifier: LGPL-2.1-or-later

"""Mails: the texts of all parts, decoded."""

from __future__ import annotations

import email
import re
from collections.abc import Callable, Iterator
from email.message import Message

from drgn_vmemmap.explain.text.transfer_encodings import from_base64

# Headers as a mail, or a part of one, begins with them.
_HEADERS = re.compile(
    r"\s{0,64}(?:^From [^\n]{1,512}\n)?(?:^[A-Za-z][A-Za-z0-9-]{1,64}:[^\n]{0,4096}\n"
    r"(?:^[ \t][^\n]{0,4096}\n){0,64}){1,256}\s{0,2}",
    re.MULTILINE,
)
_KNOWN = re.compile(
    r"^(?:Content-T[a-z-]*|MIME-Version|Message-ID|Received|Return-Path|Delivered-To|Subject):",
    re.IGNORECASE | re.MULTILINE,
)

# The first part of a mail that has lost its headers.
_BOUNDARY = re.compile(r"\s{0,64}--(?P<boundary>[^\s-][^\n]{0,99}?)\r?\n(?=Content-)", re.I)

# The line that mailboxes and git write before each mail.
_MAILS = re.compile(r"^From \S+ .{10,60}\d{4}(?: [+-]\d{4})?\r?$\n", re.MULTILINE)

_PARTS_LIMIT = 1000

# An address or a PFN, as it may be in a subject.
_NUMBER = re.compile(r"\b(?:0x)?([0-9a-f]{4,16})\b")


def mail_text(text: str, decode: Callable[[bytes], str]) -> str:
    """
    The text of a mail, or of the mails in a mailbox; any other text as it is.

    :param decode: Gives the text of a part from its bytes.
    """
    return "\n\n".join(_one_mail(mail, decode) for mail in _MAILS.split(text))


def _one_mail(text: str, decode: Callable[[bytes], str]) -> str:
    boundary = _BOUNDARY.match(text)
    if boundary:
        header = f'Content-Type: multipart/mixed; boundary="{boundary["boundary"]}"\n\n'
        text = header + text.lstrip()
    headers = _HEADERS.match(text)
    if headers is None or not _KNOWN.search(headers[0]):
        return text
    try:
        message = email.message_from_string(text.lstrip())
        parts = list(_parts(message, decode))
    # Damaged headers make the email package fail in many ways.
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError):
        return text
    body = "\n\n".join(parts)
    subject = str(message.get("subject", ""))
    return "\n\n".join(filter(None, (subject if _adds_to(body, subject) else "", body))) or text


def _adds_to(body: str, subject: str) -> bool:
    """
    Whether a subject names an address or a PFN that the body does not.

    A subject that repeats the body would count as a second fault, of no boot of the log.
    """
    numbers = _NUMBER.findall(subject.lower())
    body = body.lower() if numbers else ""
    return any(number not in body for number in numbers)


def _parts(message: Message, decode: Callable[[bytes], str]) -> Iterator[str]:
    for number, part in enumerate(message.walk()):
        if part.is_multipart() or number > _PARTS_LIMIT:
            continue
        encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
        body = part.get_payload()
        if encoding not in ("base64", "quoted-printable"):
            yield body if isinstance(body, str) else ""
            continue
        data = part.get_payload(decode=True)
        if encoding == "base64" and isinstance(body, str):
            # The email package gives up where the last bytes are missing.
            data = from_base64(body)
        if isinstance(data, bytes):
            yield decode(_as_utf_8(data, part.get_content_charset()))


def _as_utf_8(data: bytes, charset: str | None) -> bytes:
    """A part's bytes in a charset that need not be guessed."""
    if charset is None:
        return data
    try:
        return data.decode(charset).encode()
    except (LookupError, ValueError):
        return data
