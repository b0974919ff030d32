# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The part of an oops that a text has where the line that names the fault is lost.

A screen, a serial line or a tracker often keeps nothing but the end of an oops.
"""

from __future__ import annotations

import re

from drgn_vmemmap.explain.boot import Boot
from drgn_vmemmap.explain.mention import Mention
from drgn_vmemmap.explain.message import Kind, message
from drgn_vmemmap.explain.messages.versions import ALL
from drgn_vmemmap.paging.leaf import leaf_of, likely_encryption_mask

CR2 = message(
    "CR2", "cr2: ", r"\bCR2: %address", ALL, "__show_regs(), arch/x86/kernel/process_64.c"
)
"""The register with the address of the processor's last page fault."""

WALK = message("walk", "pgd ", r"\bPGD [0-9a-f]", ALL, "dump_pagetable(), arch/x86/mm/fault.c")
"""The entries on the way to the address that faulted."""

X86_32 = message(
    "fault of 32-bit x86",
    "page fault for address",
    r"(?:page fault for|dereference,) address: (?P<fault>[0-9a-f]{8})$",
    ALL,
    "show_fault_oops(), arch/x86/mm/fault.c",
)
"""A fault whose address has half the digits, as has one of x86-64 that was cut off."""

_FIRST_LINE = re.compile("unable to handle page fault|pointer dereference, ", re.IGNORECASE)


def new_fragment(line: str, boot: Boot) -> Mention:
    """
    A fault of which nothing is known so far, not even its address.

    :param line: The first line that is of it.
    """
    return Mention(Kind.FAULT, 0, line, None, boot)


def is_page_fault(fragment: Mention) -> bool:
    """Whether a fragment is certainly of a page fault."""
    return (
        fragment.access is not None
        or fragment.walk is not None
        or any(map(_FIRST_LINE.search, fragment.details))
    )


def with_address(fragment: Mention) -> bool:
    """
    Take the address of a fragment from CR2.

    If the fragment is not certainly of a page fault, it may be that of an earlier one, and is
    taken only if it is one of the kernel.
    """
    address, is_fault = fragment.registers.get("CR2"), is_page_fault(fragment)
    if address is None or not (is_fault or address >> 63):
        return False
    fragment.kind = Kind.FAULT if is_fault else Kind.ADDRESS
    fragment.value, fragment.message = address, CR2
    return True


def with_short_address(fragment: Mention) -> bool:
    """Take the address of a fragment from its first line, if the kernel was one for 32 bits."""
    found = next(filter(None, map(X86_32.pattern.search, fragment.details)), None)
    if found is None or fragment.architecture is None:
        return False
    fragment.value, fragment.message = int(found["fault"], 16), X86_32
    return True


def with_frame(fragment: Mention, encryption_mask: int | None) -> bool:
    """
    Make a fragment that has nothing but a walk name the frame that this leads to.

    :param encryption_mask: As for :func:`drgn_vmemmap.explain.mentions.find_mentions()`.
    """
    if fragment.walk is None:
        return False
    entries = fragment.walk.entries
    if encryption_mask is None:
        encryption_mask = likely_encryption_mask(entries)
    leaf = leaf_of(entries, 0, encryption_mask)
    if leaf is None or leaf.frame is None:
        return False
    fragment.kind, fragment.value, fragment.message = Kind.PFN, leaf.frame, WALK
    return True
