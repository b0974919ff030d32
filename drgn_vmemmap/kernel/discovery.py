# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Finds out what kernel a program is.

Each fact has a function in the modules of this package, which distinguish kernels by the presence
of variables, types and members, newest kernel first. From here on, drgn is asked for no type and
no variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingFacts, printable
from drgn_vmemmap.kernel import hugetlb, hvo, memory_model, page_types, struct_page, zones
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.kernel.vmcoreinfo import CONFIRMED, REPORT_ONLY, vmcoreinfo
from drgn_vmemmap.target.btf_kinds import BtfError
from drgn_vmemmap.target.symbols import ANY_VARIABLE, NoTypes, functions_only
from drgn_vmemmap.target.types import add_types_from_btf

_LOCK = "drgn_vmemmap: lock of discovery"
"""Key, in a program's cache, of the lock that discovery holds."""


def discover(prog: drgn.Program, system_map: str | None = None) -> Kernel:
    """
    Find out what kernel a program is.

    Without debugging symbols, types and symbols are taken from the dump itself.

    :param prog: Any target of drgn: a dump, the live kernel, a guest.
    :param system_map: Path of a ``System.map``, for a dump that does not
        record where its kallsyms are.
    :raises CannotAnalyse: if it is no x86-64 Linux kernel with HugeTLB and a
        virtual memmap, or has no types.
    :raises MissingFacts: if memory that is needed for it is not in the dump.
    """
    try:
        # Only one thread may add the finders of types and symbols to a program.
        with prog.cache.setdefault(_LOCK, Lock()):
            return _discover(prog, system_map)
    except CannotAnalyse:
        raise
    except Exception as error:
        # Readers of guests fail in many ways when they end.
        if not prog.flags & drgn.ProgramFlags.IS_LIVE:
            raise
        reason = printable(str(error))
        raise MissingFacts(f"the live kernel cannot be read any more: {reason}") from error


def _discover(prog: drgn.Program, system_map: str | None) -> Kernel:
    info = vmcoreinfo(prog)
    types_from = _types_from(prog, info, system_map)
    try:
        return _facts(Lookup(prog, info), types_from)
    except BtfError as error:
        reason = f"the kernel's BTF cannot be used: {printable(str(error))}"
        raise CannotAnalyse(f"{reason}; pass its vmlinux with -s") from error
    except drgn.FaultError as error:
        raise MissingFacts(
            f"kernel data is not in the dump ({printable(str(error))}): "
            "take a dump that keeps the kernel's own pages and is not cut off"
        ) from error
    except MemoryError as error:
        raise CannotAnalyse(
            "kernel data asks for more memory than this process may have: raise its limit; if that "
            "is high, the dump is damaged"
        ) from error
    except (ArithmeticError, TypeError, ValueError) as error:
        # In a damaged dump, any number may have any value.
        reason = printable(str(error)) or type(error).__name__
        raise CannotAnalyse(f"kernel data contradicts itself ({reason}): damaged dump") from error


def _types_from(prog: drgn.Program, vmcoreinfo: Mapping[str, str], system_map: str | None) -> str:
    """Make sure that there are types, and find out where they come from."""
    try:
        page = prog.type("struct page")
    except LookupError:
        release = printable(vmcoreinfo.get("OSRELEASE", "unknown"))
        try:
            kernel_offset = int(vmcoreinfo.get("KERNELOFFSET", "0"), 16)
            add_types_from_btf(prog, kernel_offset, system_map)
            page = prog.type("struct page")
        except (NoTypes, BtfError, LookupError, ValueError) as error:
            raise CannotAnalyse(f"kernel {release}: {error}") from error
    # VMCOREINFO has the size of struct page; symbols that differ are another kernel's.
    if vmcoreinfo.get("SIZE(page)", str(page.size)) != str(page.size):
        raise CannotAnalyse("the symbols are another kernel's: pass the right vmlinux with -s")
    return "dwarf" if _has_dwarf(prog) else "btf"


def _has_dwarf(prog: drgn.Program) -> bool:
    if not any("btf" in name for name in prog.enabled_type_finders()):
        return True
    try:
        return prog.main_module().debug_file_path is not None
    except LookupError:
        return False


def _confirmed(lookup: Lookup) -> frozenset[str] | None:
    text = lookup.vmcoreinfo.get(CONFIRMED)
    return None if text is None else frozenset(text.split())


def _facts(lookup: Lookup, types_from: str) -> Kernel:
    hstates = lookup.address("hstates")
    if hstates is None and lookup.address(ANY_VARIABLE) is None:
        # The running kernel's types are in a file, whatever its kallsyms have.
        raise functions_only()
    if hstates is None:
        raise CannotAnalyse(
            "this kernel has no hstates: it was built without HugeTLB, or has another name for them"
        )
    page = struct_page.struct_page(lookup)
    hstate = hugetlb.hstate(lookup, page)
    nodes = hugetlb.node_count(hstate)
    zone = zones.zone(lookup)
    of_nodes = zones.zones(lookup, nodes) if zone.members else {}
    zone_types = lookup.enumerators("enum zone_type")
    sections = memory_model.sections(lookup)
    return Kernel(
        release=printable(lookup.vmcoreinfo.get("OSRELEASE", "unknown")),
        live=bool(lookup.prog.flags & drgn.ProgramFlags.IS_LIVE),
        booting=memory_model.is_booting(lookup),
        types_from=types_from,
        paging=memory_model.paging(lookup, sections),
        vmemmap=memory_model.vmemmap(lookup, sections),
        image=memory_model.image(lookup),
        direct_map=memory_model.direct_map(lookup),
        hvo=hvo.hvo(
            lookup, page, zone, of_nodes, lambda: hugetlb.kept_pages(lookup, hstates, hstate, page)
        ),
        page=page,
        page_flags=struct_page.page_flags(nodes, zones.zone_count(lookup)),
        head_test=struct_page.head_test(lookup, page),
        hugetlb_test=struct_page.hugetlb_test(lookup, page),
        removed_test=struct_page.removed_test(lookup, page),
        buddy_test=page_types.buddy_test(lookup, page),
        page_marks=page_types.page_marks(lookup),
        self_hosted=page_types.self_hosted(lookup),
        poison=hugetlb.poison(lookup),
        order=struct_page.order(lookup, page),
        # Linux commit 8c846c879e22 ("mm: rework compound_head() for power-of-2
        # sizeof(struct page)") (in v7.1)
        tails_hold_mask=bool(zone.members) and not page.size & (page.size - 1),
        device_zone=zone_types.get("ZONE_DEVICE"),
        sections=sections,
        hstate=hstate,
        hstates=hstates,
        hstate_count=hugetlb.hstate_count(lookup, hstates, hstate),
        hugetlb_lock=hugetlb.lock(lookup),
        reservation_bit=hugetlb.reservation_bit(lookup),
        zone=zone,
        tails_by_pointer=zones.tails_by_pointer(lookup),
        zones=of_nodes,
        memmap_counters=memory_model.memmap_counters(lookup),
        unrecognised=lookup.unrecognised,
        confirmed=_confirmed(lookup),
        report_only=REPORT_ONLY in lookup.vmcoreinfo,
    )
