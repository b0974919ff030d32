# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The log in the QR code of the kernel's panic screen, which is a web address with many digits.

Follows ``drivers/gpu/drm/drm_panic.c`` and ``drivers/gpu/drm/drm_panic_qr.rs``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# The machine, the release, and the compressed log; a mailer may have wrapped it.
_PARAMETERS = re.compile(
    r"\?a=[\w.-]{1,64}&(?:amp;)?v=[^\s&]{1,64}&(?:amp;)?(?P<form>zl?)="
    r"(?P<digits>\d+(?:[ \t]{0,8}\r?\n[ \t>]{0,64}\d+(?=[ \t]{0,8}\r?$))*)",
    re.MULTILINE,
)
_NO_DIGITS = re.compile(r"\D+")

_DIGITS_LIMIT = 7089
"""The most digits that a QR code holds."""

# Digits of 7 bytes, and of what is left at the end.
_BYTES = {17: 7, 15: 6, 13: 5, 10: 4, 8: 3, 5: 2, 3: 1}

# Digits of 13 bits, and of what may be left at the end.
_BITS = {4: (13, 12, 11), 3: (10, 9, 8), 2: (7, 6, 5), 1: (4, 3, 2, 1)}


def without_panic_screens(text: str, decode: Callable[[bytes], str]) -> str:
    """
    A text with the logs in place of the addresses that have them.

    :param decode: Gives the text in compressed bytes; an empty one if there is none.
    """
    known: set[str] = set()

    def log(address: re.Match[str]) -> str:
        digits = _NO_DIGITS.sub("", address["digits"])[:_DIGITS_LIMIT]
        # HTML has an address twice: where it leads, and as it is shown.
        if digits in known:
            return "\n"
        known.add(digits)
        data = _from_bytes(digits) if address["form"] == "z" else _from_bits(digits)
        decoded = decode(data)
        return f"\n{decoded}\n" if decoded else address[0]

    return _PARAMETERS.sub(log, text)


def _from_bytes(digits: str) -> bytes:
    """
    The bytes that some digits stand for, as far as these go.

    Linux commit dbed4a797e00 ("drm/panic: Better binary encoding in QR code") (in v6.15).
    """
    data = bytearray()
    for start in range(0, len(digits), 17):
        group = digits[start : start + 17]
        size = _BYTES.get(len(group), 0)
        if int(group) >> 8 * size:
            break
        data += int(group).to_bytes(size, "little")
    return bytes(data)


def _from_bits(digits: str) -> bytes:
    """The same for kernels before: bits are in groups of 13, and the last one ends a byte."""
    groups = [digits[start : start + 4] for start in range(0, len(digits), 4)]
    before = 13 * (len(groups) - 1)
    last = next((size for size in _BITS[len(groups[-1])] if (before + size) % 8 == 0), 0)
    bits = ""
    for group, size in zip(groups, [13] * (len(groups) - 1) + [last]):
        if int(group) >> size:
            break
        bits += f"{int(group):0{size}b}"
    count = len(bits) // 8
    return int(bits[: 8 * count] or "0", 2).to_bytes(count, "big")
