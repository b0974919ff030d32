# SPDX-License-Identifier: LGPL-2.1-or-later

"""The processor architecture, as far as modules outside of this package need to know it."""

from __future__ import annotations

from typing import NamedTuple

from drgn_vmemmap.paging import x86_64


class Architecture(NamedTuple):
    """Facts about a processor architecture."""

    name: str
    page_shift: int
    """log2 of the size in bytes of a page."""
    entry_size: int
    """Bytes of a page-table entry."""
    table_span: int
    """Bytes of virtual addresses that one last-level table covers."""

    @property
    def page_size(self) -> int:
        """Size in bytes of a page."""
        return 1 << self.page_shift


X86_64 = Architecture(
    "x86-64",
    x86_64.PAGE_SHIFT,
    x86_64.ENTRY_SIZE,
    x86_64.PTE.table_span,
)
