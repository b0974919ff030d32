# SPDX-License-Identifier: LGPL-2.1-or-later

"""The plain script: what one writes with drgn's own helpers to see how many frames HVO freed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import drgn
from drgn.helpers.linux.hugetlb import for_each_hstate
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import follow_phys

PAGE_SIZE = 4096


class Folio(NamedTuple):
    head: drgn.Object
    vmemmap_pages: int


def folios(prog: drgn.Program) -> Iterator[Folio]:
    """All folios on the hstates' lists."""
    size = drgn.sizeof(prog.type("struct page"))
    for hstate in for_each_hstate(prog):
        pages = (size << hstate.order.value_()) // PAGE_SIZE
        for list_ in (*hstate.hugepage_freelists, hstate.hugepage_activelist):
            for head in list_for_each_entry("struct page", list_.address_of_(), "lru"):
                yield Folio(head, pages)


def freed(init_mm: drgn.Object, folio: Folio) -> int:
    """How many of a folio's vmemmap pages share a frame with another one."""
    start = folio.head.value_()
    frames = {
        follow_phys(init_mm, start + index * PAGE_SIZE).value_()
        for index in range(folio.vmemmap_pages)
    }
    return folio.vmemmap_pages - len(frames)
