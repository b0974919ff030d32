# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on the kernel's counters of the frames that back its vmemmap."""

from __future__ import annotations

from collections.abc import Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hvo.ownership import Ownership
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.vmemmap.special import DEVICE


def check_memmap_counters(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Compare the kernel's counters with the frames that back the vmemmap."""
    counters = context.kernel.memmap_counters
    if counters is None:
        return
    try:
        counted = sum(
            int.from_bytes(context.snapshot.read(address, 8), "little", signed=True)
            for address in counters
        )
    except MissingMemory:
        return
    found = ownership.distinct() - len(context.report.tail_frames)
    # Without a later fix, kernels count a device's vmemmap as if it shared nothing.
    of_devices = sum(other.freed for other in context.report.others if other.kind == DEVICE)
    if counted not in (found, found + of_devices):
        yield frame_rules.memmap_count_mismatch(counted, found)
