# SPDX-License-Identifier: LGPL-2.1-or-later

"""The walker's input and output as plain records: how virtual addresses are mapped."""

from __future__ import annotations

import enum
from typing import NamedTuple

from drgn_vmemmap.paging import x86_64
from drgn_vmemmap.paging.architecture import X86_64, Architecture
from drgn_vmemmap.paging.x86_64 import NO_EXECUTE, PAGE_SHIFT, PTE, Access, Level


class Problem(enum.Enum):
    """Why an address is mapped to no frame."""

    NOT_PRESENT = "not present"
    RESERVED = "reserved bit set"
    BEYOND_MEMORY = "beyond physical memory"
    UNREADABLE = "not in the dump"


class Paging(NamedTuple):
    """The facts about a kernel that the walker needs."""

    levels: int
    """4 or 5."""
    root: int
    """Physical address in bytes of the top-level table."""
    encryption_mask: int
    """``sme_me_mask``: the address bit that says "encrypted"; 0 without memory encryption."""
    max_pfn: int
    """First PFN beyond physical memory."""
    has_no_execute: bool = True
    """Whether the machine has NX. Without NX, no entry sets its bit, and none is expected to."""
    architecture: Architecture = X86_64

    @property
    def access_at_root(self) -> int:
        """The access that is left above the top-level table: see :attr:`Run.above`."""
        return x86_64.ALL_ACCESS | (0 if self.has_no_execute else NO_EXECUTE)


class Entry(NamedTuple):
    """How one 4 KiB page is mapped."""

    address: int
    """Virtual address of the page in bytes."""
    level: Level
    """Level of the last entry on the way."""
    raw: int | None
    """That entry; ``None`` if its table is not in the dump."""
    raw_address: int
    """Physical address in bytes at which the entry lies."""
    frame: int | None
    """PFN of the page's own frame, in a large leaf too; ``None`` if there is none."""
    access: Access
    """The access that the processor allows, all levels counted; none where there is no frame."""
    problem: Problem | None
    """Why the frame is ``None``, or not memory."""

    @property
    def is_last_level(self) -> bool:
        """Whether a last-level table ended the walk."""
        return self.level is PTE

    @property
    def unusual_attributes(self) -> list[str]:
        """
        The attributes of a leaf that the kernel never gives its own data, by the kernel's names.
        """
        if self.raw is None or self.frame is None:
            return []
        return x86_64.unusual_attributes(self.raw, self.level, self.access)


class Step(NamedTuple):
    """One level of the walk to an address."""

    level: Level
    raw: int | None
    """The entry; ``None`` if its table is not in the dump."""
    raw_address: int
    """Physical address in bytes at which the entry lies."""
    access: Access
    """The access that this level and those above it leave, if the entry is present."""


class Run(NamedTuple):
    """
    Consecutive virtual addresses that one table maps.

    Either entries of a last-level table, one for each 4 KiB page, or a single
    entry of a higher level: a large leaf, or the place where the walk ended.
    """

    start: int
    """First virtual address in bytes, a multiple of 4 KiB."""
    end: int
    """Virtual address in bytes after the last one."""
    level: Level
    """Level of the entries."""
    raw_address: int
    """Physical address in bytes of the first entry."""
    raw: bytes
    """The entries, 8 bytes each; empty if their table is not in the dump."""
    above: int
    """The access that the levels above leave: see :func:`x86_64.effective_access`."""

    @property
    def is_last_level(self) -> bool:
        """Whether the entries are those of a last-level table, one for each 4 KiB page."""
        return self.level is PTE

    @property
    def pages(self) -> int:
        """How many 4 KiB pages the run covers."""
        return (self.end - self.start) >> PAGE_SHIFT

    def entries(self) -> memoryview[int]:
        """The entries, as numbers."""
        return memoryview(self.raw).cast("Q")
