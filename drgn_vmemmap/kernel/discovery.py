# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Finds out what kernel a program is: the only module that asks drgn for types and variables.

Kernels are told apart by the presence of variables, types and members, newest kernel first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import drgn

from drgn_vmemmap.errors import CannotAnalyse, MissingFacts, printable
from drgn_vmemmap.kernel.facts import (
    Hvo,
    Kernel,
    MemmapCounters,
    PageFlags,
    PageMarks,
    PageNames,
    Poison,
    Sections,
    ZoneKey,
)
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.structs import Member, PageTest, Struct
from drgn_vmemmap.paging.mapping import Paging
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PHYSICAL_BITS
from drgn_vmemmap.target.btf import BtfError
from drgn_vmemmap.target.symbols import NoTypes
from drgn_vmemmap.target.types import add_types_from_btf

# __START_KERNEL_map: the kernel's image is mapped from here, phys_base further down in memory.
_IMAGE_BASE = 0xFFFFFFFF80000000

_PFN_LIMIT = 1 << (PHYSICAL_BITS - PAGE_SHIFT)

# __PAGE_OFFSET_BASE_L4: the direct map of a kernel that does not move it.
_PAGE_OFFSET = 0xFFFF888000000000

# Of x86-64, for dumps whose VMCOREINFO does not say.
_SECTION_SIZE_BITS = 27

# As many roots as 5-level paging has.
_ROOTS_LIMIT = 1 << 17

# PAGE_FLAGS_CHECK_AT_FREE of include/linux/page-flags.h, as far as a kernel has them.
_CHECKED_AT_FREE = (
    *("PG_lru", "PG_locked", "PG_private", "PG_private_2", "PG_writeback", "PG_reserved"),
    *("PG_slab", "PG_active", "PG_unevictable", "PG_mlocked"),
)

# Page types of kernels in which they were macros, by the bit that is clear.
_PAGE_TYPES = {0x80: "buddy", 0x100: "offline", 0x200: "table", 0x400: "guard", 0x800: "hugetlb"}

# Unions within unions: struct page has them four deep.
_NESTING_LIMIT = 8

# HUGE_MAX_HSTATE is 2 on x86-64; a count beyond this is damage.
_HSTATES_LIMIT = 16

# HVO's switch and its size in bytes, newest first.
# Linux commit 30152245c63b ("mm: hugetlb_vmemmap: replace early_param() with
# core_param()") (in v6.0) made it a bool; it was an enum since 78f39084b41d
# ("mm: hugetlb_vmemmap: add hugetlb_optimize_vmemmap sysctl") (in v5.19).
# Before, a static key was the switch: Linux commit a6b40850c442 ("mm:
# hugetlb: replace hugetlb_free_vmemmap_enabled with a static_key") (in v5.18).
_HVO_SWITCHES = {
    "vmemmap_optimize_enabled": 1,
    "vmemmap_optimize_mode": 4,
    "hugetlb_free_vmemmap_enabled_key": 4,
    "hugetlb_free_vmemmap_enabled": 1,
}


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
    info = vmcoreinfo(prog)
    types_from = _types_from(prog, info, system_map)
    try:
        return _Discovery(prog, info).kernel(types_from)
    except BtfError as error:
        reason = f"the kernel's BTF cannot be used: {printable(str(error))}"
        raise CannotAnalyse(f"{reason}; pass its vmlinux with -s") from error
    except drgn.FaultError as error:
        raise MissingFacts(
            f"kernel data is not in the dump ({printable(str(error))}): "
            "take one that keeps the kernel's own pages and is not cut off"
        ) from error


def vmcoreinfo_text(prog: drgn.Program) -> bytes:
    """
    VMCOREINFO, as the kernel wrote it.

    :raises CannotAnalyse: if the program is no x86-64 Linux kernel.
    """
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise CannotAnalyse(
            "not a Linux kernel: give its vmcore with -c, or -k for the live one; "
            "a guest needs QEMU's -device vmcoreinfo, and a UNIX socket"
        )
    platform = prog.platform
    if platform is None or platform.arch != drgn.Architecture.X86_64:
        name = "unknown" if platform is None else platform.arch.name
        raise CannotAnalyse(f"this is a kernel for {name}: only x86-64 can be analysed")
    return bytes(prog["VMCOREINFO"].string_())


def vmcoreinfo(prog: drgn.Program) -> dict[str, str]:
    """VMCOREINFO by its keys, such as ``SYMBOL(swapper_pg_dir)``."""
    text = vmcoreinfo_text(prog).decode("ascii", "backslashreplace")
    lines = (line.partition("=") for line in text.splitlines())
    return {key: value for key, separator, value in lines if separator}


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


class _Discovery:
    """Asks one program for its facts."""

    def __init__(self, prog: drgn.Program, vmcoreinfo: Mapping[str, str]) -> None:
        self._prog = prog
        self._vmcoreinfo = vmcoreinfo

    def kernel(self, types_from: str) -> Kernel:
        hstates = self._address("hstates")
        if hstates is None:
            raise CannotAnalyse("this kernel has no hstates: it was built without HugeTLB")
        hstate = self._hstate()
        nodes = hstate.members["hugepage_freelists"].length
        zone = self._zone()
        page = self._page()
        zones = self._enumerators("enum zone_type")
        if "__MAX_NR_ZONES" not in zones:
            raise _not_supported("enum zone_type", "__MAX_NR_ZONES")
        sections = self._sections()
        return Kernel(
            release=printable(self._vmcoreinfo.get("OSRELEASE", "unknown")),
            live=bool(self._prog.flags & drgn.ProgramFlags.IS_LIVE),
            types_from=types_from,
            paging=self._paging(self._max_pfn(sections)),
            vmemmap=self._vmemmap(sections),
            direct_map=self._direct_map(),
            hvo=Hvo(
                self._layout(zone),
                self._hvo_enabled(),
                self._optimized_bit(),
                bool(self._flag("VMEMMAP_REMAP_INCOMPLETE")),
            ),
            page=page,
            page_flags=self._page_flags(nodes, zones["__MAX_NR_ZONES"]),
            head_test=self._head_test(page),
            hugetlb_test=self._hugetlb_test(page),
            removed_test=self._removed_test(page),
            buddy_test=self._buddy_test(page),
            page_marks=self._page_marks(),
            self_hosted=self._self_hosted(),
            poison=self._poison(),
            order=self._order(page),
            # Linux commit 8c846c879e22 ("mm: rework compound_head() for power-of-2
            # sizeof(struct page)") (in v7.1)
            tails_hold_mask=bool(zone.members) and not page.size & (page.size - 1),
            device_zone=zones.get("ZONE_DEVICE"),
            sections=sections,
            hstate=hstate,
            hstates=hstates,
            hstate_count=self._hstate_count(),
            zone=zone,
            tails_by_pointer=self._tails_by_pointer(),
            zones=self._zones(nodes) if zone.members else {},
            memmap_counters=self._memmap_counters(),
        )

    def _paging(self, max_pfn: int) -> Paging:
        symbol = self._vmcoreinfo.get("SYMBOL(swapper_pg_dir)") or self._vmcoreinfo.get(
            "SYMBOL(init_top_pgt)"
        )
        try:
            root = int(symbol or "", 16) - _IMAGE_BASE + self._number("phys_base")
        except ValueError:
            raise CannotAnalyse(
                "VMCOREINFO does not name the kernel's page table: pass the kernel's own "
                "with --vmcoreinfo"
            ) from None
        return Paging(
            levels=5 if self._number("pgtable_l5_enabled") else 4,
            root=root,
            encryption_mask=self._number("sme_mask"),
            max_pfn=max_pfn,
        )

    def _memory_end(self) -> int:
        max_pfn = self._variable("max_pfn", 8) or 0
        return max_pfn if 0 < max_pfn < _PFN_LIMIT else _PFN_LIMIT

    def _max_pfn(self, sections: Sections) -> int:
        """The first PFN after all memory: that of a device may lie after ``max_pfn``."""
        per_root = PAGE_SIZE // sections.section.size
        try:
            roots = self._prog.read(sections.roots, sections.root_count * 8).rstrip(b"\0")
            last = (len(roots) - 1) // 8
            root = self._prog.read(int.from_bytes(roots[last * 8 :], "little"), PAGE_SIZE)
        except (drgn.FaultError, ValueError):
            return sections.memory_end
        present = [
            number
            for number in range(per_root)
            if sections.section.value(root, "section_mem_map", at=number * sections.section.size)
        ]
        end = (last * per_root + present[-1] + 1) * sections.pages if present else 0
        return max(sections.memory_end, min(end, _PFN_LIMIT))

    def _vmemmap(self, sections: Sections) -> int:
        vmemmap = self._variable("vmemmap_base", 8)
        if vmemmap is None:
            vmemmap = self._vmemmap_of_sections(sections)
        if vmemmap is None:
            raise CannotAnalyse("this kernel has no virtual memmap (CONFIG_SPARSEMEM_VMEMMAP)")
        if vmemmap % PAGE_SIZE or not vmemmap >> 63:
            raise MissingFacts(f"vmemmap_base is {vmemmap:#x}, which cannot be: damaged dump")
        return vmemmap

    def _vmemmap_of_sections(self, sections: Sections) -> int | None:
        """
        Where the vmemmap begins on a kernel that has no ``vmemmap_base``.

        Without CONFIG_DYNAMIC_MEMORY_LAYOUT it is a constant (``asm/pgtable_64_types.h``). Each
        section's memmap, from which its first PFN is taken away, begins there
        (``sparse_encode_mem_map()``); without a virtual memmap, the sections disagree.
        """
        size = sections.section.size
        for root in self._section_roots(sections):
            maps = sections.section.column(root[: len(root) // size * size], "section_mem_map")
            bases = {encoded & -PAGE_SIZE for encoded in maps if encoded}
            if bases:
                return bases.pop() if len(bases) == 1 else None
        return None

    def _section_roots(self, sections: Sections) -> Iterator[bytes]:
        """The pages of sections that are in the dump."""
        roots = self._prog.read(sections.roots, sections.root_count * 8)
        for (root,) in struct.iter_unpack("<Q", roots):
            if root:
                try:
                    yield self._prog.read(root, PAGE_SIZE)
                except drgn.FaultError:
                    continue

    def _direct_map(self) -> int | None:
        start = self._variable("page_offset_base", 8)
        if start is None and self._address("vmemmap_base") is None:
            return _PAGE_OFFSET
        return start

    def _layout(self, zone: Struct) -> Layout:
        # Linux commit 622026e87c40 ("mm/hugetlb: remove fake head pages") (in v7.1)
        # made the folios of a zone share their tails.
        if zone.members:
            return Layout.SHARED_TAIL
        # Linux commit e7d324850bfc ("mm: hugetlb: free the 2nd vmemmap page
        # associated with each HugeTLB page") (in v5.18) came with the first of
        # these keys; v5.19 renamed it.
        if self._has("hugetlb_optimize_vmemmap_key", "hugetlb_free_vmemmap_enabled_key"):
            return Layout.HEAD_REUSE
        # Linux commit f41f2ed43ca5 ("mm: hugetlb: free the vmemmap pages
        # associated with each HugeTLB page") (in v5.14)
        if self._has("hugetlb_free_vmemmap_enabled"):
            return Layout.TAIL_REUSE
        # Where HVO can be switched, it is built in. Nothing is to be accused by the rules of
        # a layout that the kernel does not have.
        if self._has(*_HVO_SWITCHES):
            raise CannotAnalyse(
                "this kernel's HVO has a layout that is not known: there is neither vmemmap_tails "
                "in struct zone nor hugetlb_optimize_vmemmap_key"
            )
        return Layout.NONE

    def _hvo_enabled(self) -> bool | None:
        for name, size in _HVO_SWITCHES.items():
            value = self._variable(name, size)
            if value is not None:
                return bool(value)
        return None

    def _optimized_bit(self) -> int | None:
        return self._enumerators("enum hugetlb_page_flags").get("HPG_vmemmap_optimized")

    def _page(self) -> Struct:
        return self._struct(
            "struct page",
            optional=("mapping", "memcg_data", "page_type", "compound_dtor", "compound_order"),
            # Linux commit 53fbef56e07d ("mm: introduce memdesc_flags_t") (in v6.18)
            flags=["flags.f", "flags"],
            lru=["lru.next"],
            private=["private"],
            compound_head=["compound_info", "compound_head"],
            mapping=["mapping"],
            refcount=["_refcount"],
            memcg_data=["memcg_data", "mem_cgroup"],
            page_type=["page_type"],
            compound_dtor=["compound_dtor"],
            compound_order=["compound_order"],
        )

    def _page_flags(self, nodes: int, zones: int) -> PageFlags:
        # include/linux/page-flags-layout.h: node, then zone, from the top bit
        # down. With a virtual memmap the section number takes no bits.
        node_width = (nodes - 1).bit_length()
        zone_width = (zones - 1).bit_length()
        return PageFlags(
            node_shift=64 - node_width,
            node_mask=(1 << node_width) - 1,
            zone_shift=64 - node_width - zone_width,
            zone_mask=(1 << zone_width) - 1,
        )

    def _head_test(self, page: Struct) -> PageTest:
        flags = self._enumerators("enum pageflags")
        if "PG_head" not in flags:
            raise _not_supported("enum pageflags", "PG_head")
        head = 1 << flags["PG_head"]
        # No HugeTLB folio is on an LRU list; other large folios are.
        lru = 1 << flags["PG_lru"] if "PG_lru" in flags else 0
        return PageTest(page.offset("flags"), 8, head | lru, head)

    def _hugetlb_test(self, page: Struct) -> PageTest:
        # Linux commit d99e3140a4d3 ("mm: turn folio_test_hugetlb into a PageType") (in v6.9)
        mark = self._page_type_test(page, "PAGE_HUGETLB_MAPCOUNT_VALUE")
        if mark is not None:
            return mark
        # Linux commit 9c5ccf2db04b ("mm: remove HUGETLB_PAGE_DTOR") (in v6.6)
        # made it a flag of the second struct page.
        bit = self._number("PG_hugetlb")
        if bit:
            return PageTest(page.size + page.offset("flags"), 8, 1 << bit, 1 << bit)
        destructor = self._enumerators("enum compound_dtor_id").get("HUGETLB_PAGE_DTOR")
        if destructor is None:
            raise _not_supported(
                "VMCOREINFO", "PAGE_HUGETLB_MAPCOUNT_VALUE", "PG_hugetlb", "HUGETLB_PAGE_DTOR"
            )
        # Linux commit 1c5509be58f6 ("mm: remove 'First tail page' members from
        # struct page") (in v6.3)
        if "compound_dtor" not in page.members:
            if "compound_order" in page.members:
                raise _not_supported("struct page", "compound_dtor")
            folio = self._struct("struct folio", dtor=["_folio_dtor"])
            return PageTest(folio.offset("dtor"), 1, 0xFF, destructor)
        return PageTest(page.size + page.offset("compound_dtor"), 1, 0xFF, destructor)

    def _removed_test(self, page: Struct) -> PageTest | None:
        # Until Linux commit 32c877191e02 ("hugetlb: do not clear hugetlb dtor until allocating
        # vmemmap") (in v6.5), a folio got NULL_COMPOUND_DTOR or COMPOUND_PAGE_DTOR, which are 0
        # and 1, before its vmemmap was restored.
        destructors = self._enumerators("enum compound_dtor_id")
        test = self._hugetlb_test(page)
        if "HUGETLB_PAGE_DTOR" not in destructors or test.size != 1:
            return None
        return PageTest(test.offset, 1, 0xFE, 0)

    def _buddy_test(self, page: Struct) -> PageTest | None:
        return self._page_type_test(page, "PAGE_BUDDY_MAPCOUNT_VALUE")

    def _page_type_test(self, page: Struct, name: str) -> PageTest | None:
        """What a page type looks like, by the number that VMCOREINFO has for it."""
        value = self._number(name) & 0xFFFFFFFF
        if not value:
            return None
        if "page_type" not in page.members:
            raise _not_supported("struct page", "page_type")
        offset = page.offset("page_type")
        # Linux commit 4ffca5a96678 ("mm: support only one page_type per page") (in v6.12)
        if value & 0xFFFFFF == 0:
            return PageTest(offset, 4, 0xFF << 24, value)
        # Until then, a type was a bit that is clear below a base that is set.
        bit = ~value & 0xFFFFFFFF
        # Linux commit 8db00ad56461 ("mm: allow reuse of the lower 16 bit of the
        # page type with an actual type") (in v6.11) moved both.
        base = 0x80000000 if bit >> 16 else 0xF0000000
        return PageTest(offset, 4, base | bit, base)

    def _page_marks(self) -> PageMarks:
        bits = self._enumerators("enum pageflags")

        def mask(*names: str) -> int:
            return sum(1 << bits[name] for name in set(names) & bits.keys())

        return PageMarks(
            lru=mask("PG_lru"),
            # Linux commit 46df8e73a4a3 ("mm: free up PG_slab") (in v6.10)
            slab=mask("PG_slab"),
            reserved=mask("PG_reserved"),
            checked_at_free=mask(*_CHECKED_AT_FREE),
            type_base=self._page_type_base(),
            type_names=self._page_types(),
        )

    def _page_type_base(self) -> int:
        """What all page types have set; 0 where they are numbers in the highest byte."""
        buddy = self._number("PAGE_BUDDY_MAPCOUNT_VALUE") & 0xFFFFFFFF
        # The same commits as for a single type: see _page_type_test().
        if buddy & 0xFFFFFF == 0:
            return 0
        return 0x80000000 if ~buddy >> 16 & 0xFFFF else 0xF0000000

    def _page_types(self) -> dict[int, str]:
        """Names of the page types, by bit or by number."""
        numbers = {
            name: self._number(f"PAGE_{name.upper()}_MAPCOUNT_VALUE") & 0xFFFFFFFF
            for name in ("buddy", "offline", "slab", "hugetlb", "unaccepted")
        }
        if not self._page_type_base():
            exported = {value >> 24: name for name, value in numbers.items() if value}
            return {**exported, **_page_type_names(self._prog)}
        # Linux commit ff202303c398 ("mm: convert page type macros to enum") (in v6.10)
        found = {
            value & 0xFFFFFFFF: name.removeprefix("PG_")
            for name, value in self._enumerators("enum pagetype").items()
            if name.startswith("PG_")
        }
        return found or _PAGE_TYPES

    def _self_hosted(self) -> int:
        # Linux commit 66361095129b ("mm: memory_hotplug: make hugetlb_optimize_vmemmap
        # compatible with memmap_on_memory") (in v6.0)
        bit = self._enumerators("enum pageflags").get("PG_vmemmap_self_hosted")
        return 0 if bit is None else 1 << bit

    def _poison(self) -> Poison:
        bit = self._enumerators("enum pageflags").get("PG_hwpoison")
        try:
            folio = self._struct("struct folio", optional=("list",), list=["_hugetlb_hwpoison"])
            entry = self._struct("struct raw_hwp_page", next=["node.next"], page=["page"])
        except CannotAnalyse:
            folio = entry = Struct(0, {})
        return Poison(
            flag=0 if bit is None else 1 << bit,
            list=folio.members.get("list"),
            unreliable_bit=self._enumerators("enum hugetlb_page_flags").get(
                "HPG_raw_hwp_unreliable"
            ),
            page=entry,
        )

    def _order(self, page: Struct) -> Member:
        # Linux commit 1c5509be58f6 ("mm: remove 'First tail page' members from
        # struct page") (in v6.3)
        if "compound_order" in page.members:
            return Member(page.size + page.offset("compound_order"), 1, 1)
        if "compound_dtor" in page.members:
            raise _not_supported("struct page", "compound_order")
        # Linux commit ebc1baf5c9b4 ("mm: free up a word in the first tail page")
        # (in v6.6) made it the lowest byte of the second page's flags.
        folio = self._struct("struct folio", order=["_folio_order", "_flags_1"])
        return Member(folio.offset("order"), 1, 1)

    def _sections(self) -> Sections:
        roots = self._variable("mem_section", 8)
        if roots is None:
            raise CannotAnalyse("this kernel has no mem_section (CONFIG_SPARSEMEM)")
        section_bits = self._number("SECTION_SIZE_BITS") or _SECTION_SIZE_BITS
        root_count = int(self._vmcoreinfo.get("LENGTH(mem_section)", "0"))
        return Sections(
            roots=roots,
            root_count=min(max(root_count, 1), _ROOTS_LIMIT),
            memory_end=self._memory_end(),
            section=self._struct("struct mem_section", section_mem_map=["section_mem_map"]),
            pages=1 << (section_bits - PAGE_SHIFT),
            # Since Linux commit ed7802dd48f7 (in v6.0) they are in an enum; before, as macros,
            # they were the same.
            online=1 << self._constant("SECTION_IS_ONLINE_BIT", 2),
            early=1 << self._constant("SECTION_IS_EARLY_BIT", 3),
            device=self._device_section(),
            optimized_at_boot=self._flag("SECTION_IS_VMEMMAP_PREINIT_BIT"),
        )

    def _device_section(self) -> int:
        # Where the flags are in an enum, this one is there with CONFIG_ZONE_DEVICE alone.
        is_enum = self._constant("SECTION_IS_ONLINE_BIT", -1) >= 0
        return self._flag("SECTION_TAINT_ZONE_DEVICE_BIT") if is_enum else 1 << 4

    def _memmap_counters(self) -> MemmapCounters | None:
        # Linux commit 9d8573111024 ("mm: don't account memmap per-node") (in v6.11)
        boot, later = self._address("nr_memmap_boot_pages"), self._address("nr_memmap_pages")
        if boot is None or later is None:
            return None
        # With CONFIG_PAGE_EXTENSION, they count its tables, too.
        if _member(self._prog, self._prog.type("struct mem_section"), "page_ext") is not None:
            return None
        return MemmapCounters(boot, later)

    def _hstate(self) -> Struct:
        return self._struct(
            "struct hstate",
            name=["name"],
            order=["order"],
            hugepage_activelist=["hugepage_activelist"],
            hugepage_freelists=["hugepage_freelists"],
            nr_huge_pages=["nr_huge_pages"],
            nr_huge_pages_node=["nr_huge_pages_node"],
            free_huge_pages=["free_huge_pages"],
            free_huge_pages_node=["free_huge_pages_node"],
            surplus_huge_pages=["surplus_huge_pages"],
            resv_huge_pages=["resv_huge_pages"],
            max_huge_pages=["max_huge_pages"],
            surplus_huge_pages_node=["surplus_huge_pages_node"],
        )

    def _hstate_count(self) -> int:
        count = self._variable("hugetlb_max_hstate", 4)
        if count is None:
            raise CannotAnalyse("this kernel has no hugetlb_max_hstate: it is not supported")
        if count > _HSTATES_LIMIT:
            raise MissingFacts(f"hugetlb_max_hstate is {count}, which cannot be: damaged dump")
        return count

    def _zone(self) -> Struct:
        return self._struct(
            "struct zone", optional=("vmemmap_tails",), vmemmap_tails=["vmemmap_tails"]
        )

    def _tails_by_pointer(self) -> bool:
        zone = drgn.Object(self._prog, self._prog.type("struct zone"), address=0)
        try:
            return bool(zone.vmemmap_tails.type_.kind == drgn.TypeKind.POINTER)
        except (AttributeError, LookupError):
            return False

    def _zones(self, nodes: int) -> dict[ZoneKey, int]:
        pgdat = self._struct("struct pglist_data", node_zones=["node_zones"])
        zones = pgdat.members["node_zones"].length
        node_data = self._address("node_data")
        addresses: dict[int, int | None] = {0: self._address("contig_page_data")}
        if node_data is not None:
            pointers = struct.unpack(f"<{nodes}Q", self._prog.read(node_data, nodes * 8))
            addresses = dict(enumerate(pointers))
        elif addresses[0] is None:
            raise CannotAnalyse("this kernel has neither node_data nor contig_page_data")
        return {
            ZoneKey(node, zone): address + pgdat.offset("node_zones", zone)
            for node, address in addresses.items()
            if address
            for zone in range(zones)
        }

    def _number(self, name: str) -> int:
        """A ``NUMBER()`` of VMCOREINFO; 0 if it is not there."""
        try:
            return int(self._vmcoreinfo.get(f"NUMBER({name})", "0"))
        except ValueError:
            raise MissingFacts(f"VMCOREINFO's {name} is no number: damaged dump") from None

    def _address(self, name: str) -> int | None:
        """Address of a variable, or ``None`` if this kernel has none of that name."""
        try:
            address: int | None = self._prog.variable(name).address_
            return address
        except LookupError:
            pass
        try:
            return int(self._prog.symbol(name).address)
        except LookupError:
            return None

    def _constant(self, name: str, default: int) -> int:
        """Value of an enumerator, wherever it is."""
        try:
            return int(self._prog.constant(name))
        except LookupError:
            return default

    def _flag(self, name: str) -> int:
        bit = self._constant(name, -1)
        return 0 if bit < 0 else 1 << bit

    def _has(self, *names: str) -> bool:
        return any(self._address(name) is not None for name in names)

    def _variable(self, name: str, size: int) -> int | None:
        """Value of an unsigned variable of *size* bytes, or ``None`` if there is none."""
        address = self._address(name)
        if address is None:
            return None
        return int.from_bytes(self._prog.read(address, size), "little")

    def _enumerators(self, name: str) -> dict[str, int]:
        try:
            enumerators = self._prog.type(name).enumerators or ()
        except LookupError:
            return {}
        return {enumerator.name: enumerator.value for enumerator in enumerators}

    def _struct(
        self, type_name: str, optional: Sequence[str] = (), **members: Sequence[str]
    ) -> Struct:
        """
        :param members: For each name of ours, the kernels' designators, newest first.
        :param optional: Names of ours whose members may be missing.
        :raises CannotAnalyse: if the structure, or another member, is missing.
        """
        found = {}
        try:
            type_ = self._prog.type(type_name)
        except LookupError:
            raise CannotAnalyse(f"this kernel has no {type_name}: it is not supported") from None
        for name, designators in members.items():
            member = next(filter(None, (_member(self._prog, type_, d) for d in designators)), None)
            if member is not None:
                found[name] = member
            elif name not in optional:
                raise _not_supported(type_name, *designators)
        return Struct(type_.size or 0, found)


def _not_supported(where: str, *names: str) -> CannotAnalyse:
    """What to raise when a kernel has none of some names, one of which each known kernel has."""
    return CannotAnalyse(f"this kernel's {where} has no {' or '.join(names)}: it is not supported")


def page_names(prog: drgn.Program) -> PageNames:
    """
    What the kernel calls the members of its struct pages.

    :param prog: A program that :func:`discover()` has been given.
    """

    def names(type_name: str) -> list[tuple[str, Member]]:
        try:
            return list(_named_members(prog.type(type_name)))
        except (LookupError, BtfError):
            return []  # before v5.16, there is no struct folio

    return PageNames(
        names("struct page"), names("struct folio"), _page_flag_names(prog), _page_type_names(prog)
    )


def _page_flag_names(prog: drgn.Program) -> list[tuple[int, str]]:
    """Of names for the same bit, the first one."""
    bits: dict[int, str] = {}
    for name, value in _enumerators(prog, "enum pageflags"):
        if name.startswith("PG_"):
            bits.setdefault(value, name.removeprefix("PG_"))
    return sorted(bits.items())


def _page_type_names(prog: drgn.Program) -> dict[int, str]:
    """``enum pagetype`` holds numbers, not masks, since commit 4ffca5a96678 (v6.12)."""
    return {
        value: name.removeprefix("PGTY_")
        for name, value in _enumerators(prog, "enum pagetype")
        if name.startswith("PGTY_")
    }


def _enumerators(prog: drgn.Program, type_name: str) -> list[tuple[str, int]]:
    try:
        return [(e.name, e.value) for e in prog.type(type_name).enumerators or ()]
    except (LookupError, BtfError):
        return []


def _named_members(
    type_: drgn.Type, start: int = 0, depth: int = 0
) -> Iterator[tuple[str, Member]]:
    """Members of a type, those of its unnamed members among them."""
    for member in type_.members or ():
        offset = start + member.bit_offset // 8
        element = member.type
        if member.name is None:
            if depth < _NESTING_LIMIT:
                yield from _named_members(element, offset, depth + 1)
        # A folio has its struct pages as members, too.
        elif element.type_name() != "struct page":
            yield member.name, _placed(element, offset)


def _member(prog: drgn.Program, type_: drgn.Type, designator: str) -> Member | None:
    """Where a member such as ``flags.f`` lies, or ``None`` if the type has no such member."""
    place = drgn.Object(prog, type_, address=0)
    try:
        for name in designator.split("."):
            place = place.member_(name)
    except (LookupError, TypeError):
        return None
    return _placed(place.type_, place.address_ or 0)


def _placed(type_: drgn.Type, offset: int) -> Member:
    """A member of a type at an offset in bytes."""
    element, length = type_, 1
    while element.kind == drgn.TypeKind.TYPEDEF:
        element = element.type
    if element.kind == drgn.TypeKind.ARRAY:
        length, element = element.length or 0, element.type
    return Member(offset, drgn.sizeof(element), length)
