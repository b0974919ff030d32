# SPDX-License-Identifier: LGPL-2.1-or-later

"""A cursor over folios: which of the vmemmap pages that are met describe which folio."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.hugetlb.folio import Folios
from drgn_vmemmap.kernel.geometry import Geometry


class FolioCursor:
    """Goes through folios in ascending order, along with the vmemmap that describes them."""

    def __init__(self, folios: Folios, geometry: Geometry) -> None:
        """
        :param folios: In ascending order.
        """
        self._folios = folios
        self._geometry = geometry
        self.row = 0
        """Row of the first folio whose vmemmap was not passed yet."""

    def parts(self, pages: range) -> Iterator[tuple[int | None, range]]:
        """
        Cut consecutive vmemmap pages by what they describe.

        :param pages: Numbers of vmemmap pages, none of them before those of an earlier call.
        :return: Row of a folio, or ``None`` for pages that describe none, and these pages.
        """
        folios, geometry, position = self._folios, self._geometry, pages.start
        while self.row < len(folios):
            start = geometry.page_number(folios.pfns[self.row])
            if start >= pages.stop:
                break
            end = start + geometry.pages_of_order(folios.class_of(self.row).order)
            if position < start:
                yield None, range(position, start)
                position = start
            if position < end:
                yield self.row, range(position, min(end, pages.stop))
                position = end
            if end > pages.stop:
                return
            self.row += 1
        if position < pages.stop:
            yield None, range(position, pages.stop)
