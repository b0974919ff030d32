# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a log proves of an address that it names: levels of the page tables, and the PFN."""

from __future__ import annotations

from drgn_vmemmap.explain.log.boot import Boot, levels_of_cr4, levels_of_walk
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.regions import VMEMMAP, default_region, vmemmap_start
from drgn_vmemmap.paging import x86_64


def proven_pfn(mention: Mention) -> int | None:
    """The PFN whose struct page is at an address; ``None`` if the log does not prove it."""
    if is_called_non_canonical(mention):
        return None
    pfn = mention.boot.pfn_at(mention.value)
    if pfn is not None or not mention.boot.memory_is_fixed:
        return pfn
    return default_pfn(mention.value, page_table_levels(mention))


def is_called_non_canonical(mention: Mention) -> bool:
    """
    Whether the kernel itself, which knows its levels, says that an address is not canonical.

    The kernel says so, too, of an access across the end of user space (``get_kernel_gp_address()``
    of ``arch/x86/kernel/traps.c``).
    """
    is_protection = mention.is_fault and not mention.is_page_fault
    is_upper = bool(mention.value >> 63)
    return is_protection and is_upper and "non-canonical address" in mention.line.lower()


def page_table_levels(mention: Mention) -> int | None:
    """Levels of the page tables, where the log proves how many they are."""
    has_five = bool(mention.value >> 63) and not x86_64.is_canonical(mention.value, 4)
    # An address that is not canonical makes no page fault.
    if has_five and mention.is_page_fault:
        return 5
    cr4 = mention.registers.get("CR4")
    if cr4 is not None:
        return levels_of_cr4(cr4)
    if mention.walk is not None:
        pgd, p4d = mention.walk.entry("PGD"), mention.walk.entry("P4D")
        if pgd is not None and p4d is not None:
            return levels_of_walk(pgd, p4d)
    return 5 if has_five else mention.boot.levels


def default_pfn(address: int, levels: int | None) -> int | None:
    """The PFN whose struct page is at an address if no region is moved."""
    region = None if levels is None else default_region(address, levels)
    if levels is None or region is None or region.name != VMEMMAP:
        return None
    return Boot(vmemmap=vmemmap_start(levels)).pfn_at(address)
