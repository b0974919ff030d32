# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Symbols of a program that has no debugging symbols.

They come from the kernel's kallsyms in the dump, from ``/proc/kallsyms`` on the kernel that runs
this process, or from a ``System.map``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Optional

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingMemory
from drgn_vmemmap.target.kallsyms import Kallsyms
from drgn_vmemmap.target.kallsyms_names import DamagedKallsyms, KallsymsError, source_name
from drgn_vmemmap.target.page_reader import PageReader

SymbolFinder = Callable[[drgn.Program, Optional[str], Optional[int], bool], "Sequence[drgn.Symbol]"]
"""For :meth:`drgn.Program.register_symbol_finder()`."""

ANY_VARIABLE = "mem_section"
"""A variable of each kernel that can be analysed."""

_SYMBOL = re.compile(rb"^SYMBOL\((\w+)\)=([0-9a-f]{1,16})$", re.MULTILINE)

# The tables of Debian's kernels span 4 MB.
_KALLSYMS_LIMIT = 64 << 20

# How many characters of a System.map are read: Debian's have 10 million. A device never ends.
_SYSTEM_MAP_LIMIT = 1 << 26

_SYSTEM_MAP_LINE = re.compile(r"([0-9a-f]{8,16}) ([a-zA-Z]) (\S+)")


class NoTypes(CannotAnalyse):
    """Neither symbols nor types can be had; the message says why and what to do."""


def symbol_finder(prog: drgn.Program, kernel_offset: int, system_map: str | None) -> SymbolFinder:
    """
    Make the finder of a program's symbols.

    :param prog: A Linux kernel without debugging symbols.
    :param kernel_offset: How far KASLR moved the kernel, in bytes.
    :param system_map: A ``System.map`` of this kernel, to be used instead of kallsyms.
    :raises NoTypes: if there is nothing to find them in.
    """
    if system_map is not None:
        return _by_source_names(prog, drgn.SymbolIndex(_system_map(system_map, kernel_offset)))
    if is_this_kernel(prog):
        return _Index(prog).load()
    return _DumpSymbols(prog).find


def is_this_kernel(prog: drgn.Program) -> bool:
    """Whether the program is the kernel that runs this process."""
    here = drgn.ProgramFlags.IS_LIVE | drgn.ProgramFlags.IS_LOCAL
    return bool(prog.flags & here == here)


def open_kallsyms(prog: drgn.Program) -> Kallsyms:
    """
    A dump's kallsyms.

    :raises KallsymsError: if they cannot be searched by name.
    """
    return Kallsyms(prog.read, _symbols_of_vmcoreinfo(prog))


def _symbols_of_vmcoreinfo(prog: drgn.Program) -> dict[str, int]:
    found = _SYMBOL.findall(prog["VMCOREINFO"].string_())
    return {name.decode("ascii", "replace"): int(address, 16) for name, address in found}


class _DumpSymbols:
    """Searches a dump's kallsyms by name; drgn's helper answers all other questions."""

    def __init__(self, prog: drgn.Program) -> None:
        """
        :raises NoTypes: if neither :class:`Kallsyms` nor the helper can read the kallsyms.
        """
        self._kallsyms: Kallsyms | None = None
        self._index = _Index(prog)
        try:
            self._kallsyms = open_kallsyms(prog)
        except DamagedKallsyms as error:
            # The helper does not check tokens: it would make up names.
            raise _no_symbols(f"its kallsyms cannot be read ({error}): pass") from None
        except KallsymsError:
            self._index.load()

    def find(
        self, prog: drgn.Program, name: str | None, address: int | None, one: bool
    ) -> Sequence[drgn.Symbol]:
        """A symbol finder for :meth:`drgn.Program.register_symbol_finder()`."""
        if self._kallsyms is not None and name is not None and address is None:
            try:
                found = self._kallsyms.find(name)
                return [_symbol(each.name, each.address, each.type) for each in found]
            except KallsymsError:
                pass  # the helper reads them in their own order
        return self._index.load()(prog, name, address, one)


def _symbol(name: str, address: int, type_: str) -> drgn.Symbol:
    """A symbol with the letter that ``nm`` has for it; its size is not known."""
    binding = drgn.SymbolBinding.GLOBAL if type_.isupper() else drgn.SymbolBinding.LOCAL
    return drgn.Symbol(name, address, 1, binding, drgn.SymbolKind.UNKNOWN)


class _Index:
    """All symbols of a kernel, which drgn's helper reads when they are first needed."""

    def __init__(self, prog: drgn.Program) -> None:
        self._prog = prog
        self._index: SymbolFinder | None = None

    def load(self) -> SymbolFinder:
        """
        :raises NoTypes: if the helper cannot read them.
        """
        if self._index is None:
            self._index = self._load()
        return self._index

    def _load(self) -> SymbolFinder:
        from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

        prog = self._prog
        symbols = _symbols_of_vmcoreinfo(prog)
        problem = None if is_this_kernel(prog) else _problem_of_kallsyms(prog, symbols)
        if problem is None:
            try:
                index: SymbolFinder = load_vmlinux_kallsyms(_in_pages(prog, symbols))
                # To search all names takes a tenth of a second.
                return index if _is_of_gcc(prog) else _by_source_names(prog, index)
            except Exception as error:
                reason = str(error) or type(error).__name__
                problem = f"its kallsyms cannot be read ({reason}): pass"
        raise _no_symbols(problem)


def _no_symbols(problem: str) -> NoTypes:
    """
    :param problem: The beginning of a sentence that goes on with what to pass instead.
    """
    return NoTypes(
        f"no debugging symbols, and {problem} the kernel's vmlinux with -s, or --system-map FILE"
    )


def functions_only() -> NoTypes:
    """The error where no variable is among the symbols."""
    return _no_symbols(
        "the symbols are functions only, as in kallsyms without CONFIG_KALLSYMS_ALL: pass"
    )


def _problem_of_kallsyms(prog: drgn.Program, symbols: Mapping[str, int]) -> str | None:
    """
    What keeps this drgn from reading the kallsyms of a dump, if VMCOREINFO already shows it.

    :param symbols: Addresses that VMCOREINFO has.
    :return: The beginning of a sentence that goes on with what to pass instead.
    """
    # Linux commit f09bddbd8661 ("vmcoreinfo: add kallsyms_num_syms symbol") (in v6.0)
    if "kallsyms_num_syms" not in symbols:
        return "a kernel before 6.0 does not record where its kallsyms are: pass"
    # Linux commit a081b5789255 ("kallsyms: Get rid of kallsyms relative base") (in v7.0)
    if "kallsyms_relative_base" not in symbols and not _is_0_1_0(prog):
        return (
            "the kallsyms of Linux 7.0 and later need drgn 0.1.0 or later, and this is "
            f"{drgn.__version__}: update drgn, or pass"
        )
    return None


def _is_0_1_0(prog: drgn.Program) -> bool:
    """Whether this is drgn 0.1.0 or later."""
    # drgn commit aae2a3b8 ("libdrgn: Add set_linux_kernel_custom()") (in v0.1.0)
    return hasattr(prog, "set_linux_kernel_custom")


def _in_pages(prog: drgn.Program, symbols: Mapping[str, int]) -> drgn.Program:
    """
    The same kernel, only for kallsyms: its tables are read a page at a time.

    drgn's helper asks for single bytes, of which each costs a walk of the page tables.
    """
    if is_this_kernel(prog) or not _is_0_1_0(prog):
        return prog
    memory = PageReader(prog.read)

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return memory.read(address, count)
        except MissingMemory as error:
            raise drgn.FaultError(error.state, address) from None

    paged = drgn.Program(prog.platform)
    paged.set_linux_kernel_custom(bytes(prog["VMCOREINFO"].string_()), False)
    start = min(address for name, address in symbols.items() if name.startswith("kallsyms_"))
    paged.add_memory_segment(start, min(_KALLSYMS_LIMIT, (1 << 64) - start), read, False)
    return paged


def _is_of_gcc(prog: drgn.Program) -> bool:
    """Whether gcc is known to have built a kernel: clang alone renames symbols."""
    if not is_this_kernel(prog):
        return False
    try:
        with open("/proc/version", encoding="ascii", errors="replace") as file:
            return "clang" not in file.read()
    except OSError:
        return False


def _by_source_names(prog: drgn.Program, index: SymbolFinder) -> SymbolFinder:
    """Make a finder of an index's symbols that finds what ThinLTO renamed by both of its names."""
    renamed = [
        drgn.Symbol(name, symbol.address, symbol.size, symbol.binding, symbol.kind)
        for symbol in index(prog, None, None, False)
        if (name := source_name(symbol.name)) != symbol.name
    ]
    if not renamed:
        return index
    by_source_name: SymbolFinder = drgn.SymbolIndex(renamed)

    def find(
        prog: drgn.Program, name: str | None, address: int | None, one: bool
    ) -> Sequence[drgn.Symbol]:
        found = index(prog, name, address, one)
        return found if found or name is None else by_source_name(prog, name, address, one)

    return find


def _system_map(path: str, kernel_offset: int) -> Iterator[drgn.Symbol]:
    """
    :raises NoTypes: if the file is no ``System.map``.
    """
    found = False
    with open(path, encoding="ascii", errors="replace") as file:
        for line in io.StringIO(file.read(_SYSTEM_MAP_LIMIT)):
            match = _SYSTEM_MAP_LINE.match(line)
            if match is None:
                continue
            found = True
            address = int(match[1], 16)
            # Per-CPU symbols and constants are no addresses, and are not moved.
            if address >> 63:
                yield _symbol(match[3], (address + kernel_offset) % (1 << 64), match[2])
    if not found:
        raise NoTypes(f"{path} is no System.map")
