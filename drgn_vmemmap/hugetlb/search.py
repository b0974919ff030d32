# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The search for HugeTLB folios: the memmap shows their heads, the hstates' lists hold them.

Each folio is found once: in the memmap if its head page is there, otherwise through a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.folio import OFF_LIST, Folios
from drgn_vmemmap.hugetlb.hstate import Hstate
from drgn_vmemmap.hugetlb.links import Links
from drgn_vmemmap.hugetlb.lists import BrokenList, ListWalk
from drgn_vmemmap.hugetlb.scan import MemmapScan
from drgn_vmemmap.progress import SILENT, Progress
from drgn_vmemmap.vmemmap.sections import (
    MissingSections,
    SectionIndex,
    SectionRange,
    present_sections,
)
from drgn_vmemmap.vmemmap.snapshot import Snapshot


class MissingHeads(NamedTuple):
    """Memory in which a folio may begin whose head page is not in the dump."""

    pfns: range


SearchProblem = Union[BrokenList, MissingSections, MissingHeads]
"""A problem that keeps a search from being complete."""


class SearchResult(NamedTuple):
    """The result of a search in the memmap and in the hstates' lists."""

    folios: Folios
    """In ascending order of PFN."""
    sections: list[SectionRange]
    problems: list[SearchProblem]

    @property
    def complete(self) -> bool:
        """Whether the dump holds everything that shows the folios and their lists."""
        return all(isinstance(each, BrokenList) and not each.unreadable for each in self.problems)

    @property
    def has_corrupt_lists(self) -> bool:
        """Whether a list is damaged, and not only caught between two changes."""
        broken = (each for each in self.problems if isinstance(each, BrokenList))
        return any(not each.unreadable and not each.in_flight for each in broken)

    @property
    def incomplete_lists(self) -> set[str]:
        """Names of the hstates whose lists may hold folios that could not be reached."""
        broken = (each for each in self.problems if isinstance(each, BrokenList))
        return {each.list.hstate for each in broken if each.loses_folios}


def find_folios(
    snapshot: Snapshot,
    hstates: Sequence[Hstate],
    progress: Progress = SILENT,
    compare_tails: bool = False,
) -> SearchResult:
    """
    Find all HugeTLB folios: those on the hstates' lists, and those on none.

    A list that cannot be followed to its end gives what was found, and a
    :class:`BrokenList`.

    :param compare_tails: As for :class:`MemmapScan`.
    """
    problems: list[SearchProblem] = []
    sections = []
    for section in present_sections(snapshot):
        if isinstance(section, MissingSections):
            problems.append(section)
        else:
            sections.append(section)
    index = None if problems else SectionIndex(sections)
    scan = MemmapScan(snapshot, hstates, compare_tails)
    # Nothing may have initialized the struct pages of other memory: pfn_to_online_page().
    online = [section for section in sections if section.flags & snapshot.kernel.sections.online]
    for section in progress.track(online, "memmap"):
        scan.add_all(section.pfns)
    problems += map(MissingHeads, scan.missing())
    walk = ListWalk(snapshot, scan.classes, scan.folios, scan.links)
    problems += walk.follow(hstates, index)
    for pfn, number in scan.removed:
        scan.folios.add(pfn, number, OFF_LIST)
        scan.links.add(pfn, 0, 0)
    _put_in_order(snapshot, scan.folios, scan.links, walk.has_added or bool(scan.removed))
    return SearchResult(scan.folios, sections, problems)


def _put_in_order(snapshot: Snapshot, folios: Folios, links: Links, lists_have_added: bool) -> None:
    """
    Sort the folios, and drop those that show the head page of another one.

    The vmemmap of these is mapped to the other folio's head frame.
    """
    shown_twice: set[int] = set()
    if OFF_LIST in folios.states:
        shown_twice = {
            row
            for row, state in enumerate(folios.states)
            if state == OFF_LIST and _shows_another(snapshot, folios.pfns[row], links.next[row])
        }
    if shown_twice or lists_have_added:
        rows = (row for row in range(len(folios)) if row not in shown_twice)
        folios.pick(sorted(rows, key=folios.pfns.__getitem__))


def _shows_another(snapshot: Snapshot, pfn: int, next_: int) -> bool:
    """
    Whether what seems a folio shows the head page of another one.

    The next folio on its list has that other one before it, and both have the same head frame.

    :param next_: The pointer to the next folio.
    """
    geometry, links = snapshot.geometry, snapshot.kernel.links_offset
    if not links:
        return False
    try:
        previous = int.from_bytes(snapshot.read(next_ + 8, 8), "little")
    except MissingMemory:
        return False
    other = geometry.pfn_of(previous - links)
    if other is None or other == pfn:
        return False
    frames = {snapshot.walker.entry(geometry.address(each)).frame for each in (pfn, other)}
    return len(frames) == 1
