# SPDX-License-Identifier: LGPL-2.1-or-later

"""HTML and Markdown, as far as bug trackers and mailers put a log into them."""

from __future__ import annotations

import html
import re

_BLOCK_TAG = re.compile(
    r"<(?:[bh]r|/?(?:p|div|pre|t[rdh]|li|d[td]|h[1-6]|blockquote))\b[^<>]{0,256}>", re.IGNORECASE
)
# Within a number, too: <wbr> is where it may be wrapped, <mark> what was searched for.
_INLINE_TAG = re.compile(
    r"</?(?:span|b|i|u|s|a|code|tt|font|html|body|head|table|tbody|em|strong|mark|wbr|small|big|su[bp]"
    r"|samp|kbd|ins|del|o:p)\b[^<>]{0,512}>"
    # Of XML; the kernel's own tags are in capitals.
    r"|</(?-i:[a-z][a-z_-]{2,64})>",
    re.IGNORECASE,
)
# Markdown: characters that would mean something, and line ends that are to stay.
_BACKSLASH = re.compile(r"\\([\[\]<>()*_#`~+.!-])|\\(?=\r*$)", re.MULTILINE)


def without_markup(text: str) -> str:
    """A text without tags, and with the characters that HTML and Markdown escape."""
    if "<" in text:
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", text))
    if "&" in text:
        # Some trackers escape twice.
        text = html.unescape(html.unescape(text))
    return _BACKSLASH.sub(r"\1", text) if "\\" in text else text
