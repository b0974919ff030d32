# SPDX-License-Identifier: LGPL-2.1-or-later

"""A folio that a test damages, among sound ones."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.oracles.view import Found
from tests.support import findings_of
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import GIB, Folio, Machine, Vpage
from tests.synthetic.physical import PAGE_SHIFT

PFNS = {9: 0x8200, 18: GIB >> PAGE_SHIFT}
"""The folio that a test damages, by its order."""
FREE_BEFORE, FREE_AFTER, ACTIVE = 0x8000, 0x8400, 0x8600
"""Sound folios around it; the one after it is not optimized."""
every_line = pytest.mark.parametrize("release", LINES)
every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
every_order = pytest.mark.parametrize("order", PFNS)


def machine(
    release: str,
    order: int = 9,
    edits: dict[int, Vpage] | None = None,
    flag: bool | None = None,
    remapped: bool | None = None,
) -> Machine:
    """A folio among sound ones."""
    line = LINES[release]
    has_hvo = line.layout is not Layout.NONE
    folios = (
        Folio(FREE_BEFORE, remapped=has_hvo),
        Folio(
            PFNS[order],
            order,
            remapped=has_hvo if remapped is None else remapped,
            edits=edits or {},
            flag=flag,
        ),
        Folio(FREE_AFTER, remapped=False),
        Folio(ACTIVE, remapped=has_hvo, state=State.ACTIVE),
    )
    return Machine(line=line, node_size=3 * GIB if order == 18 else GIB, folios=folios)


def found(image: Image) -> list[Found]:
    return findings_of(image.examine())


def errors(rule: str, pfn: int, pages: Iterable[int | None]) -> list[Found]:
    return [Found(rule, "error", pfn, page) for page in pages]


def some(release: str, order: int) -> list[int]:
    """Some pages that share: at the edges of what shares and of tables, and one within."""
    first, count = KEPT[LINES[release].layout], 8 << (order - 9)
    return sorted({first, count // 2, count - 1} | ({511, 512} if count > 512 else set()))
