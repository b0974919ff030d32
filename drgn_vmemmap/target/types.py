# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Types and variables of a program that has no debugging symbols: from the kernel's BTF in the dump.
"""

from __future__ import annotations

import drgn

from drgn_vmemmap.target.btf import HEADER_SIZE, Btf, size_of
from drgn_vmemmap.target.btf_kinds import BtfError
from drgn_vmemmap.target.btf_types import BtfTypes
from drgn_vmemmap.target.symbols import (
    ANY_VARIABLE,
    NoTypes,
    SymbolFinder,
    functions_only,
    is_this_kernel,
    symbol_finder,
)

_FINDER = "vmemmap_btf"

_LIVE_BTF = "/sys/kernel/btf/vmlinux"

# Debian's kernels have 5 MB of BTF; a size beyond this is damage.
_BTF_LIMIT = 64 << 20

_VARIABLES = {
    "hstates": "struct hstate [2]",
    "hugetlb_max_hstate": "int",
    "max_pfn": "unsigned long",
    "mem_section": "struct mem_section **",
    "page_offset_base": "unsigned long",
    "prb": "struct printk_ringbuffer *",
    "vmemmap_base": "unsigned long",
    "vmemmap_optimize_enabled": "_Bool",
}
"""Types of variables that BTF does not have; it has those of per-CPU variables only."""


def add_types_from_btf(prog: drgn.Program, kernel_offset: int, system_map: str | None) -> None:
    """
    Give a program types, variables and symbols from what the dump itself has.

    :param prog: A Linux kernel without debugging symbols.
    :param kernel_offset: How far KASLR moved the kernel, in bytes.
    :param system_map: A ``System.map`` of this kernel, to be used instead of kallsyms.
    :raises NoTypes: if the dump does not have them.
    """
    if _FINDER in prog.registered_type_finders():
        return
    symbols = symbol_finder(prog, kernel_offset, system_map)
    try:
        types = BtfTypes(prog, _open_btf(prog, symbols))
    except BtfError as error:
        raise NoTypes(
            f"the kernel's BTF cannot be used: {error}; pass its vmlinux with -s"
        ) from None
    # Registered last: after a failure, the user may try another --system-map at drgn's prompt.
    prog.register_symbol_finder(_FINDER, symbols, enable_index=-1)
    prog.register_type_finder(_FINDER, types.find_type, enable_index=-1)
    prog.register_object_finder(_FINDER, _Variables(types).find, enable_index=-1)


def _open_btf(prog: drgn.Program, symbols: SymbolFinder) -> Btf:
    if is_this_kernel(prog):
        try:
            with open(_LIVE_BTF, "rb") as file:
                data = file.read()
            return Btf(len(data), lambda offset, size: data[offset : offset + size])
        except OSError:
            pass
    start, end = btf_addresses(prog, symbols)

    def read(offset: int, size: int) -> bytes:
        try:
            return bytes(prog.read(start + offset, size))
        except drgn.FaultError:
            raise BtfError("it is not in the dump") from None

    return Btf(end - start, read)


def btf_addresses(prog: drgn.Program, symbols: SymbolFinder | None = None) -> tuple[int, int]:
    """
    Where a kernel has its BTF: the virtual addresses of its first byte, and after its last one.

    :param symbols: What finds its symbols, if the program itself does not yet.
    :raises BtfError: if it has none.
    :raises NoTypes: if its symbols do not show it.
    """

    def address(name: str) -> int | None:
        if symbols is not None:
            return next((int(each.address) for each in symbols(prog, name, None, True)), None)
        try:
            return int(prog.symbol(name).address)
        except LookupError:
            return None

    start, end = address("__start_BTF"), address("__stop_BTF")
    if start is None or end is None:
        if address(ANY_VARIABLE) is None:
            raise functions_only()
        raise BtfError("the kernel was built without it")
    if not 0 < end - start <= _BTF_LIMIT:
        raise BtfError(f"its size is {end - start} bytes")
    return start, end


def btf_span(prog: drgn.Program) -> tuple[int, int]:
    """
    Where a kernel has its BTF: its virtual address, and its size in bytes, which both the symbols
    and its own header give.

    :raises BtfError: if it has none.
    :raises drgn.FaultError: if it is not in the dump.
    """
    start, end = btf_addresses(prog)
    return start, min(end - start, size_of(prog.read(start, HEADER_SIZE)))


class _Variables:
    """Finds variables by their symbols, and constants among the enumerators."""

    def __init__(self, types: BtfTypes) -> None:
        self._types = types

    def find(
        self, prog: drgn.Program, name: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        """An object finder for :meth:`drgn.Program.register_object_finder()`."""
        if filename:
            return None
        if flags & drgn.FindObjectFlags.CONSTANT:
            constant = self._types.enumerator(name)
            if constant is not None:
                return constant
        type_ = _VARIABLES.get(name) or self._types.variable_type(name)
        if type_ is None or not flags & _flag_of(type_):
            return None
        try:
            address = prog.symbol(name).address
        except LookupError:
            return None
        return drgn.Object(prog, type_, address=address)


def _flag_of(type_: drgn.Type | str) -> drgn.FindObjectFlags:
    is_function = not isinstance(type_, str) and type_.kind == drgn.TypeKind.FUNCTION
    return drgn.FindObjectFlags.FUNCTION if is_function else drgn.FindObjectFlags.VARIABLE
