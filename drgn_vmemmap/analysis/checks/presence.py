# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on the vmemmap of all memory: whether it is mapped to memory, a folio's or not."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding


def check_presence(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find vmemmap that is not mapped; that of folios is checked with each folio."""
    for stretch in ownership.absent:
        entry = context.page(stretch.start).entry
        yield frame_rules.not_present(entry, context.geometry.pfns_of(stretch))
