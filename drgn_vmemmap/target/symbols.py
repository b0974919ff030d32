# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Types and symbols for a program that has no debugging symbols.

They come from the dump itself: symbols from the kernel's kallsyms, by drgn's
own helper, or from a ``System.map``; types from the kernel's BTF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import drgn
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE
from drgn_vmemmap.target.btf import Btf, BtfError, BtfTypes

_FINDER = "vmemmap_btf"

_LIVE_BTF = "/sys/kernel/btf/vmlinux"

# Debian's kernels have 5 MB of BTF; a size beyond this is damage.
_BTF_LIMIT = 64 << 20

_KALLSYMS = re.compile(rb"^SYMBOL\((kallsyms_\w+)\)=([0-9a-f]+)$", re.MULTILINE)

# The tables of Debian's kernels span 4 MB.
_KALLSYMS_LIMIT = 64 << 20

_SYSTEM_MAP_LINE = re.compile(r"([0-9a-f]{8,16}) ([a-zA-Z]) (\S+)")

_VARIABLES = {
    "hstates": "struct hstate [2]",
    "hugetlb_max_hstate": "int",
    "max_pfn": "unsigned long",
    "page_offset_base": "unsigned long",
    "prb": "struct printk_ringbuffer *",
    "vmemmap_base": "unsigned long",
    "vmemmap_optimize_enabled": "_Bool",
}
"""Types of variables that BTF does not tell; it knows per-CPU ones alone."""


class NoTypes(Exception):
    """Neither symbols nor types can be had; the message says why and what to do."""


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
    symbols = _symbols(prog, kernel_offset, system_map)
    prog.register_symbol_finder(_FINDER, symbols, enable_index=-1)
    try:
        types = BtfTypes(prog, Btf(_read_btf(prog)))
    except BtfError as error:
        raise NoTypes(
            f"the kernel's BTF cannot be used: {error}; pass its vmlinux with -s"
        ) from None
    prog.register_type_finder(_FINDER, types.find_type, enable_index=-1)
    prog.register_object_finder(_FINDER, _Variables(types).find, enable_index=-1)


def _symbols(prog: drgn.Program, kernel_offset: int, system_map: str | None) -> drgn.SymbolIndex:
    if system_map is not None:
        return drgn.SymbolIndex(_system_map(system_map, kernel_offset))
    vmcoreinfo = bytes(prog["VMCOREINFO"].string_())
    kallsyms = dict(_KALLSYMS.findall(vmcoreinfo))
    problem = None if _is_this_kernel(prog) else _problem_of_kallsyms(prog, kallsyms)
    if problem is None:
        try:
            return load_vmlinux_kallsyms(_in_pages(prog, vmcoreinfo, kallsyms))
        except Exception as error:
            reason = str(error) or type(error).__name__
            problem = f"its kallsyms cannot be read ({reason}): pass"
    raise NoTypes(
        f"no debugging symbols, and {problem} the kernel's vmlinux with -s, or --system-map FILE"
    )


def _is_this_kernel(prog: drgn.Program) -> bool:
    """Whether the program is the kernel that runs this process; it has ``/proc/kallsyms``."""
    here = drgn.ProgramFlags.IS_LIVE | drgn.ProgramFlags.IS_LOCAL
    return bool(prog.flags & here == here)


def _problem_of_kallsyms(prog: drgn.Program, kallsyms: Mapping[bytes, bytes]) -> str | None:
    """
    What keeps this drgn from reading the kallsyms of a dump, if VMCOREINFO already shows it.

    :param kallsyms: Addresses by symbol, as VMCOREINFO has them.
    :return: A sentence, to go on with what to pass instead.
    """
    # Linux commit f09bddbd8661 ("vmcoreinfo: add kallsyms_num_syms symbol") (in v6.0)
    if b"kallsyms_num_syms" not in kallsyms:
        return "a kernel before 6.0 does not record where its kallsyms are: pass"
    # Linux commit a081b5789255 ("kallsyms: Get rid of kallsyms relative base") (in v7.0)
    if b"kallsyms_relative_base" not in kallsyms and not _is_0_1_0(prog):
        return (
            "the kallsyms of Linux 7.0 and later need drgn 0.1.0 or later, and this is "
            f"{drgn.__version__}: update drgn, or pass"
        )
    return None


def _is_0_1_0(prog: drgn.Program) -> bool:
    """Whether this is drgn 0.1.0 or later."""
    # drgn commit aae2a3b8 ("libdrgn: Add set_linux_kernel_custom()") (in v0.1.0)
    return hasattr(prog, "set_linux_kernel_custom")


def _in_pages(
    prog: drgn.Program, vmcoreinfo: bytes, kallsyms: Mapping[bytes, bytes]
) -> drgn.Program:
    """
    The same kernel, for kallsyms alone: what they lie in is read a page at a time.

    drgn's helper asks for single bytes, of which each costs a walk of the page tables.
    """
    addresses = [int(address, 16) for address in kallsyms.values()]
    if _is_this_kernel(prog) or not _is_0_1_0(prog):
        return prog
    pages: dict[int, bytes] = {}

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        number, start = address >> PAGE_SHIFT, address & (PAGE_SIZE - 1)
        if start + count <= PAGE_SIZE:
            page = pages.get(number)
            if page is not None:
                return page[start : start + count]
            try:
                page = pages[number] = bytes(prog.read(number << PAGE_SHIFT, PAGE_SIZE))
                return page[start : start + count]
            except drgn.FaultError:
                pass  # of an extract, not all of a page is there
        return bytes(prog.read(address, count))

    paged = drgn.Program(prog.platform)
    paged.set_linux_kernel_custom(vmcoreinfo, False)
    start = min(addresses)
    paged.add_memory_segment(start, min(_KALLSYMS_LIMIT, (1 << 64) - start), read, False)
    return paged


def _system_map(path: str, kernel_offset: int) -> Iterator[drgn.Symbol]:
    """
    :raises NoTypes: if the file is no ``System.map``.
    """
    found = False
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            match = _SYSTEM_MAP_LINE.match(line)
            if match is None:
                continue
            found = True
            address = int(match[1], 16)
            # Per-CPU symbols and constants are no addresses, and are not moved.
            if address >> 63:
                yield drgn.Symbol(
                    match[3],
                    (address + kernel_offset) % (1 << 64),
                    1,
                    drgn.SymbolBinding.GLOBAL if match[2].isupper() else drgn.SymbolBinding.LOCAL,
                    drgn.SymbolKind.UNKNOWN,
                )
    if not found:
        raise NoTypes(f"{path} is no System.map")


def _read_btf(prog: drgn.Program) -> bytes:
    if _is_this_kernel(prog):
        try:
            with open(_LIVE_BTF, "rb") as file:
                return file.read()
        except OSError:
            pass
    try:
        start = prog.symbol("__start_BTF").address
        size = prog.symbol("__stop_BTF").address - start
    except LookupError:
        raise BtfError("the kernel was built without it") from None
    if not 0 < size <= _BTF_LIMIT:
        raise BtfError(f"its size is {size} bytes")
    try:
        return bytes(prog.read(start, size))
    except drgn.FaultError:
        raise BtfError("it is not in the dump") from None


class _Variables:
    """Finds variables by symbol, and gives them their types; and constants."""

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
        type_ = self._types.variable_type(name)
        if type_ is None and name not in _VARIABLES:
            return None
        is_function = type_ is not None and type_.kind == drgn.TypeKind.FUNCTION
        wanted = drgn.FindObjectFlags.FUNCTION if is_function else drgn.FindObjectFlags.VARIABLE
        if not flags & wanted:
            return None
        try:
            address = prog.symbol(name).address
        except LookupError:
            return None
        return drgn.Object(prog, type_ or _VARIABLES[name], address=address)
