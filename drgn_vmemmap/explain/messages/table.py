# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The table of messages that name a page, the kernel's and daemons': one entry for each wording.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drgn_vmemmap.explain.messages.addresses import ADDRESSES
from drgn_vmemmap.explain.messages.architectures import OTHER_ARCHITECTURES
from drgn_vmemmap.explain.messages.daemons import DAEMONS
from drgn_vmemmap.explain.messages.events import EVENTS
from drgn_vmemmap.explain.messages.failures import FAILURES
from drgn_vmemmap.explain.messages.faults import FAULTS
from drgn_vmemmap.explain.messages.message import Message, message
from drgn_vmemmap.explain.messages.pages import PAGES
from drgn_vmemmap.explain.messages.versions import ALL

ANY_PFN = message(
    "PFN",
    "pfn",
    # Events of allocations that failed have the page NULL, and its PFN as 0 or -1.
    r"(?<!\bpage=0{16} )\bpfn(?:[:=] ?| (?=0x))(?!0x(?:0 page=0{16}|f{16})\b)"
    r"(?:%pfn|(?P<any_pfn>[0-9a-f]{1,16})\b)",
    ALL,
    "any function",
)
"""A PFN in a message that is none of these; without ``0x``, not all are known to be in hex."""

MESSAGES = (*FAULTS, *OTHER_ARCHITECTURES, *ADDRESSES, *PAGES, *FAILURES, *EVENTS, *DAEMONS)


def find_messages(line: str) -> Iterator[tuple[Message, re.Match[str]]]:
    """
    The messages in a line.

    :param line: As :mod:`drgn_vmemmap.explain.text.line` gives it.
    """
    lower = line.lower()
    for wording in MESSAGES:
        if wording.keyword in lower:
            yield from ((wording, match) for match in wording.pattern.finditer(line))
