# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The rest of an oops whose beginning is lost, and with it the line that names the fault.

A screen, a serial line or a tracker often keeps nothing but the end of an oops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.messages.message import Kind, message
from drgn_vmemmap.explain.messages.versions import ALL

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

_TITLES_LIMIT = 4096

_FIRST_LINE = re.compile("unable to handle page fault|pointer dereference, ", re.IGNORECASE)


def new_cut_oops(line: str, boot: Boot) -> Mention:
    """
    A fault of which nothing is known so far, not even its address.

    :param line: The first line that is of it.
    """
    return Mention(Kind.FAULT, 0, line, None, boot)


def is_page_fault(oops: Mention) -> bool:
    """Whether a cut oops is certainly that of a page fault."""
    return (
        oops.access is not None
        or oops.walk is not None
        or any(map(_FIRST_LINE.search, oops.details))
    )


class Unnamed:
    """Counts cut oopses whose addresses are not in the log."""

    def __init__(self) -> None:
        self._count = 0
        self._titles: dict[tuple[int, int | None], int] = {}
        """Those of which nothing but the number and the error code is known, and how many each."""

    def add(self, oops: Mention) -> None:
        """Count a cut oops."""
        title = oops.number, oops.error_code
        is_title = oops.number and not (oops.details or oops.walk)
        if is_title and (title in self._titles or len(self._titles) < _TITLES_LIMIT):
            self._titles[title] = self._titles.get(title, 0) + 1
        else:
            self._count += 1

    def count(self, named: Iterable[Mention]) -> int:
        """
        How many there are, but for those that the title of a bug, or crash's banner, names again.

        :param named: What the log names.
        """
        known = {(fault.number, fault.error_code) for fault in named}
        titles = (times for title, times in self._titles.items() if title not in known)
        return self._count + sum(titles)


def take_address(oops: Mention) -> bool:
    """
    Take the address of a fault from CR2, if it is there.

    If the oops is not certainly that of a page fault, CR2 may have the address of an earlier one:
    then it is taken only if it is one of the kernel.
    """
    address, is_fault = oops.registers.get("CR2"), is_page_fault(oops)
    if address is None or not (is_fault or address >> 63):
        return False
    oops.kind = Kind.FAULT if is_fault else Kind.ADDRESS
    oops.value, oops.message = address, CR2
    return True


def take_short_address(oops: Mention) -> bool:
    """Take the address of a fault from its first line, if the kernel was one for 32 bits."""
    found = next(filter(None, map(X86_32.pattern.search, oops.details)), None)
    if found is None or oops.architecture is None:
        return False
    oops.value, oops.message = int(found["fault"], 16), X86_32
    return True


def take_frame(oops: Mention, encryption_mask: int | None) -> bool:
    """
    Take the frame that the walk leads to, of a fault whose address is not in the log.

    :param encryption_mask: As for :func:`drgn_vmemmap.explain.log.reader.find_mentions()`.
    """
    leaf = None if oops.walk is None else oops.walk.leaf(encryption_mask=encryption_mask)
    if leaf is None or leaf.frame is None:
        return False
    oops.kind, oops.value, oops.message = Kind.PFN, leaf.frame, WALK
    return True
