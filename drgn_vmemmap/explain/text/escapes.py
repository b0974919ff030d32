# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Colours, control characters, marks of wrapped lines and ligatures, as terminals get them and as
loggers write them: all are undone.
"""

from __future__ import annotations

import re
import unicodedata

# ECMA-48: control sequences, strings up to their terminator, and other escapes.
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    "|\x1b[]PX^_][^\x07\x1b]{0,512}(?:\x07|\x1b\\\\)"
    "|\x1b[ -/]{0,4}[0-~]"
)
_STRUCK_OVER = re.compile("[^\n\b]\b")

# How rsyslog, dmesg, /dev/kmsg, journalctl, cat -v and JSON write some characters.
_WRITTEN_CHARACTER = re.compile(
    r"#0(?:11|12|15|33)(?!\d)|\\0(?:11|12|15|33)|\\(?:x|u00)(?P<code>[0-7][0-9a-f])|\^I|\\[tnr]",
    re.IGNORECASE,
)
_WRITTEN_SEQUENCE = re.compile(
    r"(?:#033|\\(?:033|x1b|u001b|e)|\^\[|␛|<(?:1b|esc)>)\[[0-9;:]{0,32}[A-Za-z]"
    # Colours whose escape was lost, as it is when they are pasted; and [K of grep after them.
    r"|(?:ESC|[?\ufffd])?\[(?:[0-9][0-9;:]{0,31}m|m(?=[\s\[]|$))(?:(?:ESC|[?\ufffd])?\[K)?",
    re.IGNORECASE,
)

_HARD_SPACE_ENCODED_TWICE = "\u00c2\u00a0"

# What mutt and vim put before the rest of a line that they wrap.
_REST = re.compile(r"^(?:\+(?!0x|[\s+\[])|[↪↳] ?)", re.MULTILINE)

# Ligatures, as in PDF, and letters and digits that are as wide as those of East Asian scripts.
_COMPATIBLE = re.compile("[\ufb00-\ufb06\uff01-\uff5e]+")

# NUL, flow control of serial lines, soft hyphens, characters of no width; and what editors show
# where they wrap a line.
_UNSEEN = re.compile("[\0\x11\x13\u00ad\u200b-\u200f\u2060\ufeff]|[↩↵⏎](?=\r*$)", re.MULTILINE)


def without_escapes(text: str) -> str:
    """A text without colours, cursor movements, and characters that were struck over."""
    if "\x1b" in text or "\x9b" in text:
        text = _SEQUENCE.sub("", text)
    if "\b" in text:
        text = _STRUCK_OVER.sub("", text)
    text = _WRITTEN_SEQUENCE.sub("", text)
    text = _WRITTEN_CHARACTER.sub(_character, text)
    text = text.replace(_HARD_SPACE_ENCODED_TWICE, " ")
    text = _COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    # In a patch, most lines begin with a plus sign.
    if "↪" in text or "↳" in text or 0 < text.count("\n+") * 2 < text.count("\n"):
        text = _REST.sub("", text)
    return _UNSEEN.sub("", text)


def _character(match: re.Match[str]) -> str:
    """The character that is written; none for one that moves the cursor."""
    written = match[0].lower()
    if match["code"] and " " <= chr(int(match["code"], 16)) <= "~":
        return chr(int(match["code"], 16))
    if written.endswith(("12", "0a", "\\n", "15", "0d")):
        return "\n"
    return "\t" if written.endswith(("11", "09", "\\t", "^i")) else ""
