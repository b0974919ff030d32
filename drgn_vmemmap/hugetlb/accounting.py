# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Which folios the kernel counts: those on no list may be on their way into or out of the pool.

Follows ``prep_and_add_allocated_folios()`` and ``remove_hugetlb_folio()`` of ``mm/hugetlb.c``: a
folio is counted after its vmemmap was optimized, and not counted any more before it is restored.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence

from drgn_vmemmap.hugetlb.folio import Folio, FolioClass, State
from drgn_vmemmap.hugetlb.hstate import Hstate


class Accounting(enum.Enum):
    """Whether the kernel counts a folio among those of its hstate and node."""

    COUNTED = "counted"
    UNCOUNTED = "not counted"
    UNKNOWN = "counted or not, for all that the counters show"
    UNREADABLE = "counted or not, on a list or not: the dump lacks what shows it"


class Accounts:
    """The folios on no list, by the kernel's counters."""

    def __init__(
        self,
        hstates: Sequence[Hstate],
        folios: Mapping[tuple[FolioClass, State], int],
        complete: bool,
    ) -> None:
        """
        :param folios: How many folios were found of each class in each state.
        :param complete: Whether all folios can have been found.
        """
        self._hstates = {hstate.name: hstate for hstate in hstates}
        self._complete = complete
        self._found: Counter[tuple[str, int | None]] = Counter()
        self._off_list: Counter[tuple[str, int | None]] = Counter()
        for (folio_class, state), count in folios.items():
            key = folio_class.hstate, folio_class.node
            self._found[key] += count
            self._off_list[key] += count if state is State.OFF_LIST else 0

    def of(self, folio: Folio) -> Accounting:
        """Whether a folio is counted."""
        if folio.state is not State.OFF_LIST:
            return Accounting.COUNTED
        if not self._complete:
            return Accounting.UNREADABLE
        key = folio.hstate, folio.node
        counted = self._hstates[folio.hstate].counters_of(folio.node).nr_huge_pages
        if counted is None:
            return Accounting.UNKNOWN
        uncounted = self._found[key] - counted
        if uncounted <= 0:
            return Accounting.COUNTED
        return Accounting.UNCOUNTED if uncounted >= self._off_list[key] else Accounting.UNKNOWN
