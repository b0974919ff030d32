# SPDX-License-Identifier: LGPL-2.1-or-later

"""Where a kernel has its memory: page tables, sections, the vmemmap and the direct map."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingFacts
from drgn_vmemmap.kernel.c_types import find_member
from drgn_vmemmap.kernel.facts import MemmapCounters, Sections
from drgn_vmemmap.kernel.lookup import IMAGE_BASE, Lookup
from drgn_vmemmap.kernel.structs import Struct
from drgn_vmemmap.paging.mapping import Paging
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PFN_LIMIT, lacks_no_execute

# __PAGE_OFFSET_BASE_L4: the direct map of a kernel that does not move it.
_PAGE_OFFSET = 0xFFFF888000000000

# KERNEL_IMAGE_SIZE of arch/x86/include/asm/page_64_types.h: with KASLR; without, it is half of it.
_IMAGE_SIZE = 1 << 30

# SECTION_SIZE_BITS of x86-64, for dumps whose VMCOREINFO lacks it, and those that may be.
_SECTION_SIZE_BITS = 27
_SECTION_SIZES = range(21, 41)

# NR_SECTION_ROOTS with 5-level paging.
_ROOTS_LIMIT = 1 << 17


def paging(lookup: Lookup, sections: Sections) -> Paging:
    """
    What the walker needs.

    :raises CannotAnalyse: if VMCOREINFO does not have the address of the top-level table.
    """
    symbol = lookup.vmcoreinfo.get("SYMBOL(swapper_pg_dir)") or lookup.vmcoreinfo.get(
        "SYMBOL(init_top_pgt)"
    )
    try:
        root = int(symbol or "", 16) - IMAGE_BASE + lookup.number("phys_base")
    except ValueError:
        raise CannotAnalyse(
            "VMCOREINFO does not name the kernel's page table: pass the kernel's own VMCOREINFO "
            "with --vmcoreinfo"
        ) from None
    return Paging(
        levels=5 if lookup.number("pgtable_l5_enabled") else 4,
        root=root,
        encryption_mask=lookup.number("sme_mask"),
        max_pfn=_max_pfn(lookup, sections),
        has_no_execute=_has_no_execute(lookup),
    )


def _has_no_execute(lookup: Lookup) -> bool:
    """
    Whether the machine has NX, which is presumed where the dump does not show it.

    Without NX, ``x86_configure_nx()`` clears its bit in every entry. Extracts by older versions of
    this plugin lack the variable that shows it.
    """
    supported = lookup.recorded("__supported_pte_mask", 8)
    return supported is None or not lacks_no_execute(supported)


def image(lookup: Lookup) -> range:
    """PFNs of the kernel's own image, ``_text`` to ``_end``; empty if it is not known."""
    start, end = lookup.address("_text"), lookup.address("_end")
    if start is None or end is None or not IMAGE_BASE <= start < end <= IMAGE_BASE + _IMAGE_SIZE:
        return range(0)
    move = lookup.number("phys_base") - IMAGE_BASE
    return range(start + move >> PAGE_SHIFT, -(-(end + move) >> PAGE_SHIFT))


def is_booting(lookup: Lookup) -> bool | None:
    """Whether initcalls may be still to come; ``None`` if that is not in the dump."""
    state = lookup.recorded("system_state", 4)
    last = lookup.enumerators("enum system_states").get("SYSTEM_SCHEDULING", 1)
    return None if state is None else state <= last


def _memory_end(lookup: Lookup) -> int:
    max_pfn = lookup.variable("max_pfn", 8) or 0
    return max_pfn if 0 < max_pfn < PFN_LIMIT else PFN_LIMIT


def _max_pfn(lookup: Lookup, sections: Sections) -> int:
    """The first PFN after all memory: that of a device may lie after ``max_pfn``."""
    per_root = PAGE_SIZE // sections.section.size
    try:
        roots = _without_zeros(lookup.prog.read(sections.roots, sections.root_count * 8))
        last = (len(roots) - 1) // 8
        root = lookup.prog.read(int.from_bytes(roots[last * 8 :], "little"), PAGE_SIZE)
    except (drgn.FaultError, ValueError):
        return sections.memory_end
    present = [
        number
        for number in range(per_root)
        if sections.section.value(root, "section_mem_map", at=number * sections.section.size)
    ]
    end = (last * per_root + present[-1] + 1) * sections.pages if present else 0
    return max(sections.memory_end, min(end, PFN_LIMIT))


def _without_zeros(data: bytes) -> bytes:
    """Bytes without the zeros at their end, which are many."""
    used = range(0, len(data), PAGE_SIZE)
    while used and data[used[-1] : used[-1] + PAGE_SIZE] == bytes(PAGE_SIZE):
        used = used[:-1]
    return data[: used.stop].rstrip(b"\0")


def vmemmap(lookup: Lookup, sections: Sections) -> int:
    """
    Virtual address of the ``struct page`` of PFN 0.

    Without CONFIG_DYNAMIC_MEMORY_LAYOUT it is a constant (``asm/pgtable_64_types.h``), and no
    variable has it.

    :raises CannotAnalyse: if this kernel has no virtual memmap.
    :raises MissingFacts: if the address is impossible, or the sections have another one.
    """
    base = lookup.variable("vmemmap_base", 8)
    try:
        maps = _memmaps(lookup, sections)
    except drgn.FaultError:
        if base is None:
            raise
        maps = []
    of_sections = maps[0] if len(set(maps)) == 1 else None
    if base is None:
        base = of_sections
    if base is None:
        raise CannotAnalyse("this kernel has no virtual memmap (CONFIG_SPARSEMEM_VMEMMAP)")
    if base % PAGE_SIZE or not base >> 63:
        raise MissingFacts(f"vmemmap_base is {base:#x}, which is impossible: damaged dump")
    # A single section may be damaged itself; so are all, if they agree on no kernel address.
    if len(maps) > 1 and of_sections and of_sections >> 63 and of_sections != base:
        raise MissingFacts(
            f"vmemmap_base is {base:#x}, and the sections have their memmap at {of_sections:#x}: "
            "damaged dump"
        )
    return base


def _memmaps(lookup: Lookup, sections: Sections) -> list[int]:
    """
    The start of the vmemmap according to each section in the first page of sections with any.

    A section encodes its memmap minus its first PFN (``sparse_encode_mem_map()``): the start of the
    vmemmap. Without a virtual memmap, the sections disagree.
    """
    size = sections.section.size
    for root in _section_roots(lookup, sections):
        column = sections.section.column(root[: len(root) // size * size], "section_mem_map")
        maps = [encoded & -PAGE_SIZE for encoded in column if encoded]
        if maps:
            return maps
    return []


def _section_roots(lookup: Lookup, sections: Sections) -> Iterator[bytes]:
    """The pages of sections that are in the dump."""
    size = sections.root_count * 8
    for start in range(0, size, PAGE_SIZE):
        roots = lookup.prog.read(sections.roots + start, min(PAGE_SIZE, size - start))
        for (root,) in struct.iter_unpack("<Q", roots):
            if root:
                try:
                    yield lookup.prog.read(root, PAGE_SIZE)
                except drgn.FaultError:
                    continue


def direct_map(lookup: Lookup) -> int | None:
    """Virtual address at which all memory is mapped; ``None`` if it is not known."""
    start = lookup.variable("page_offset_base", 8)
    if start is None and lookup.address("vmemmap_base") is None:
        return _PAGE_OFFSET
    # An extract that withheld the variable reads as zero.
    return start or None


def sections(lookup: Lookup) -> Sections:
    """
    Sparse memory.

    :raises CannotAnalyse: if this kernel has none, or types that no kernel has.
    :raises MissingFacts: if their size is impossible.
    """
    roots = lookup.variable("mem_section", 8)
    if roots is None:
        raise CannotAnalyse("this kernel has no mem_section (CONFIG_SPARSEMEM)")
    section_bits = lookup.number("SECTION_SIZE_BITS") or _SECTION_SIZE_BITS
    if section_bits not in _SECTION_SIZES:
        raise MissingFacts(
            f"SECTION_SIZE_BITS is {section_bits}, which is impossible: damaged dump"
        )
    root_count = int(lookup.vmcoreinfo.get("LENGTH(mem_section)", "0"))
    section = lookup.struct(
        "struct mem_section",
        optional=("usage", "order"),
        section_mem_map=["section_mem_map"],
        usage=["usage"],
        # Not in v7.3, and with either name in linux-mm: it takes the place of the flag
        # SECTION_IS_VMEMMAP_PREINIT_BIT.
        order=["compound_page_order", "order"],
    )
    if section.size > PAGE_SIZE:
        raise CannotAnalyse(
            f"struct mem_section is {section.size} bytes, which is impossible: damaged types"
        )
    return Sections(
        roots=roots,
        root_count=min(max(root_count, 1), _ROOTS_LIMIT),
        memory_end=_memory_end(lookup),
        section=section,
        usage=_section_usage(lookup),
        pages=1 << (section_bits - PAGE_SHIFT),
        # Since Linux commit ed7802dd48f7 (in v6.0) they are in an enum; before, as macros,
        # they were the same.
        online=1 << lookup.constant("SECTION_IS_ONLINE_BIT", 2),
        early=1 << lookup.constant("SECTION_IS_EARLY_BIT", 3),
        device=_device_section(lookup),
        optimized_at_boot=lookup.flag("SECTION_IS_VMEMMAP_PREINIT_BIT"),
    )


def _section_usage(lookup: Lookup) -> Struct | None:
    # Linux commit f46edbd1b151 ("mm/sparsemem: add helpers track active portions of a section
    # at boot") (in v5.3)
    try:
        return lookup.struct("struct mem_section_usage", subsection_map=["subsection_map"])
    except CannotAnalyse:
        return None


def _device_section(lookup: Lookup) -> int:
    # Where the flags are in an enum, this one is there only with CONFIG_ZONE_DEVICE.
    is_enum = lookup.constant("SECTION_IS_ONLINE_BIT", -1) >= 0
    return lookup.flag("SECTION_TAINT_ZONE_DEVICE_BIT") if is_enum else 1 << 4


def memmap_counters(lookup: Lookup) -> MemmapCounters | None:
    """Where the kernel counts the frames that back its vmemmap, if nothing else is among them."""
    # Linux commit 9d8573111024 ("mm: don't account memmap per-node") (in v6.11)
    boot, later = lookup.address("nr_memmap_boot_pages"), lookup.address("nr_memmap_pages")
    if boot is None or later is None:
        return None
    # With CONFIG_PAGE_EXTENSION, they count its tables, too.
    section = lookup.prog.type("struct mem_section")
    if find_member(section, "page_ext") is not None:
        return None
    return MemmapCounters(boot, later)
