# SPDX-License-Identifier: LGPL-2.1-or-later

"""The place of a PFN in the memmap: in use, offline, of a device, or without a struct page."""

from __future__ import annotations

import enum
from functools import cached_property

from drgn_vmemmap.vmemmap.sections import (
    MissingSections,
    SectionIndex,
    SectionRange,
    present_sections,
)
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from drgn_vmemmap.vmemmap.special import is_device


class Place(enum.Enum):
    """Kinds of PFNs, in words that follow "PFN 0x..."."""

    ONLINE = "is memory that the kernel manages"
    NO_MEMMAP = "has no memmap: no section holds it, so it has no struct page"
    NO_PART = "has no memmap: its section has one for other PFNs alone, so it has no struct page"
    OFFLINE = "is offline memory: its struct page is not in use"
    DEVICE = "is memory of a device"
    UNKNOWN = "is of a section that is not in the dump"


NOT_IN_USE = (Place.NO_MEMMAP, Place.NO_PART, Place.OFFLINE)
"""PFNs whose struct page says nothing: there is none, or nobody has written it."""


class Places:
    """Looks PFNs up in the sections."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._kinds: dict[int, Place] = {}

    def of(self, pfn: int) -> Place:
        """The place of a PFN in the memmap."""
        section = self._sections.at(pfn)
        if section is None:
            missing = any(pfn in pfns for pfns in self._missing)
            return Place.UNKNOWN if missing else Place.NO_MEMMAP
        if section.parts is not None and not any(pfn in part for part in section.parts):
            return Place.NO_PART
        if section.pfns.start not in self._kinds:
            self._kinds[section.pfns.start] = self._kind(section)
        return self._kinds[section.pfns.start]

    def _kind(self, section: SectionRange) -> Place:
        if is_device(self._snapshot, section):
            return Place.DEVICE
        return Place.ONLINE if section.flags & self._kernel.sections.online else Place.OFFLINE

    @property
    def end(self) -> int:
        """The first PFN that no section can hold."""
        facts = self._kernel.sections
        return facts.root_count * (self._kernel.page_size // facts.section.size) * facts.pages

    @cached_property
    def _found(self) -> list[SectionRange | MissingSections]:
        return list(present_sections(self._snapshot))

    @cached_property
    def _sections(self) -> SectionIndex:
        return SectionIndex(each for each in self._found if isinstance(each, SectionRange))

    @cached_property
    def _missing(self) -> list[range]:
        return [s.described for s in self._found if isinstance(s, MissingSections)]
