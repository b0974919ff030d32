# SPDX-License-Identifier: LGPL-2.1-or-later

"""What drgn is given of an image: VMCOREINFO, types, variables and symbols."""

from __future__ import annotations

from collections.abc import Mapping

import drgn

from tests.synthetic.kernels import HUGETLB_PAGE_DTOR, Mark, Types
from tests.synthetic.model import Machine
from tests.synthetic.physical import PAGE_SIZE


def section_roots(machine: Machine) -> int:
    """How many pages of sections there can be."""
    return 2048 if machine.levels == 4 else 131072


def vmcoreinfo(
    machine: Machine, types: Types, phys_base: int, image: int, kernel_offset: int
) -> str:
    """
    VMCOREINFO, as a kernel would write it.

    :param phys_base: How far in memory the kernel's image was moved, in bytes.
    :param image: Virtual address of its first byte, which is the top-level page table's.
    :param kernel_offset: How far KASLR moved it, in bytes.
    """
    line, structs = machine.line, types.structs
    numbers = {
        "phys_base": phys_base,
        "pgtable_l5_enabled": int(machine.levels == 5),
        "sme_mask": machine.encryption_mask,
        "SECTION_SIZE_BITS": 27,
        "MAX_PHYSMEM_BITS": 46 if machine.levels == 4 else 52,
        "PG_head_mask": 1 << line.flags["PG_head"],
        "PAGE_BUDDY_MAPCOUNT_VALUE": _signed(line.page_type("buddy")),
    }
    if line.mark is Mark.DESTRUCTOR:
        numbers["HUGETLB_PAGE_DTOR"] = HUGETLB_PAGE_DTOR
    elif line.mark is Mark.FLAG:
        numbers["PG_hugetlb"] = line.flags["PG_active"]
    else:
        numbers["PAGE_HUGETLB_MAPCOUNT_VALUE"] = _signed(line.page_type("hugetlb"))
    lines = [
        f"OSRELEASE={line.release}",
        f"PAGESIZE={PAGE_SIZE}",
        f"SYMBOL(swapper_pg_dir)={image:x}",
        f"SYMBOL(init_top_pgt)={image:x}",
        f"SYMBOL(_stext)={image:x}",
        f"KERNELOFFSET={kernel_offset:x}",
        f"LENGTH(mem_section)={section_roots(machine)}",
        *(f"SIZE({name})={structs[name].size}" for name in ("page", "zone", "mem_section")),
        *(f"OFFSET(page.{name})={m.offset}" for name, m in structs["page"].members.items()),
        *(f"NUMBER({name})={value}" for name, value in numbers.items()),
    ]
    return "\n".join(lines) + "\n"


def add_debuginfo(
    prog: drgn.Program, types: Types, variables: Mapping[str, tuple[str, int]]
) -> None:
    """
    Give a program the types, variables and symbols of an image.

    :param variables: Type and address of each.
    """
    bits = {f"SECTION_{bit}_BIT": number for number, bit in enumerate(types.section_bits)}

    def find_object(
        prog: drgn.Program, name: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        if flags & drgn.FindObjectFlags.VARIABLE and name in variables:
            type_name, address = variables[name]
            return drgn.Object(prog, type_name, address=address)
        if flags & drgn.FindObjectFlags.CONSTANT and name in bits:
            return drgn.Object(prog, "unsigned int", bits[name])
        return None

    prog.register_type_finder("image", types.find, enable_index=0)
    prog.register_object_finder("image", find_object, enable_index=0)
    symbols = [
        drgn.Symbol(name, address, 8, drgn.SymbolBinding.GLOBAL, drgn.SymbolKind.OBJECT)
        for name, (_, address) in variables.items()
    ]
    prog.register_symbol_finder("image", drgn.SymbolIndex(symbols), enable_index=0)


def _signed(value: int) -> int:
    """A 32-bit number as ``VMCOREINFO_NUMBER()`` prints it."""
    return value - (1 << 32) if value >> 31 else value
