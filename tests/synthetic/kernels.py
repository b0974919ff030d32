# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Lines of kernels: what of their types, variables and VMCOREINFO the analysis can meet.

Offsets in ``struct page`` are those of x86-64 kernels with ``CONFIG_MEMCG``; other structures have
the members that matter, in the kernel's order.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Union

import drgn

from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.layouts import REUSED_PAGE
from tests.synthetic.physical import KERNEL, KERNEL_RO


class Mark(enum.Enum):
    """What distinguishes a HugeTLB folio from another compound page."""

    DESTRUCTOR = "a destructor's number in the second struct page"
    FLAG = "a flag in the second struct page"
    INVERTED_TYPE = "a cleared bit of the head's page type"
    TYPE = "the top byte of the head's page type"


class FailedPages(enum.Enum):
    """Where a folio's list of failed pages is."""

    NOWHERE = "there is no such list"
    PRIVATE = "the private of the fifth struct page"
    FOLIO = "struct folio, as a pointer"
    FOLIO_LIST = "struct folio, as a list"


@dataclass(frozen=True)
class Line:
    """One line of kernels, as far as HVO is concerned."""

    release: str
    layout: Layout
    mark: Mark
    variables: Mapping[str, str]
    """The variables of HVO, with their types."""
    head_moves: bool = True
    """HVO moves the head's vmemmap page to a new frame."""
    dirty_tails: bool = False
    """``PAGE_KERNEL_RO`` has the dirty bit."""
    flags_member: str = "unsigned long"
    """Type of ``page->flags``."""
    compound_member: str = "compound_head"
    folio_has_destructor: bool = False
    """The destructor and the order are members of ``struct folio``, not of ``struct page``."""
    old_flags: bool = False
    """Page flags are numbered as before v6.6."""
    freed_pages: str | None = None
    """The member of a hstate that says how many vmemmap pages of a folio HVO frees."""
    has_hugetlb_flags: bool = True
    """There is an ``enum hugetlb_page_flags``."""
    failed_pages: FailedPages = FailedPages.FOLIO
    hosts_memmap: bool = True
    """Beside HVO, hot-plugged memory may host its own memmap."""
    counts_memmap: bool = False
    """The frames that back the memmap are counted."""
    prepares_memmap: bool = False
    """The memmap of gigantic folios may be optimized at boot, before there were frames to free."""
    has_section_order: bool = False
    """A section has the order of the compound pages for which its memmap was optimized."""
    tails_by_pointer: bool = False
    """A zone has a pointer to its tail frames, which it allocates when it first needs one."""
    device_tails: int | None = None
    """Attributes of the entries by which a device's memmap maps its zone's tail frame."""

    @property
    def section_bits(self) -> tuple[str, ...]:
        """Flags in ``section_mem_map``, from the lowest bit."""
        return (*SECTION_BITS, "IS_VMEMMAP_PREINIT") if self.prepares_memmap else SECTION_BITS

    @property
    def masks_heads(self) -> bool:
        """Tails lead to their head by a mask of its order, which is the same for all folios."""
        return self.layout is Layout.SHARED_TAIL

    @property
    def flags(self) -> dict[str, int]:
        """``enum pageflags``."""
        if self.old_flags:
            flags = {
                **{"PG_locked": 0, "PG_lru": 4, "PG_active": 5, "PG_slab": 9, "PG_reserved": 12},
                **{"PG_private": 13, "PG_writeback": 15, "PG_head": 16, "PG_unevictable": 20},
                "PG_hwpoison": 23,
            }
            return {**flags, "PG_vmemmap_self_hosted": 10} if self.hosts_memmap else flags
        more = 2 if self.mark in (Mark.FLAG, Mark.INVERTED_TYPE) else 0
        reserved = 14 if more else 13
        flags = {
            **{"PG_locked": 0, "PG_writeback": 1, "PG_lru": 5, "PG_head": 6, "PG_active": 8},
            "PG_hwpoison": 20 + more,
            "PG_vmemmap_self_hosted": 10 + more,
            "PG_reserved": reserved,
            "PG_private": reserved + 1,
            "PG_private_2": reserved + 2,
            "PG_unevictable": 18 + more,
            "PG_mlocked": 19 + more,
        }
        return {**flags, "PG_slab": 11} if more else flags

    def page_type(self, name: str) -> int:
        """``page_type`` of a page that is ``buddy``, ``table``, ``hugetlb`` or ``slab``."""
        if self.mark is Mark.TYPE:
            return {"buddy": 0xF0, "table": 0xF2, "hugetlb": 0xF4, "slab": 0xF5}[name] << 24
        bit = {"buddy": 0x80, "table": 0x200, "hugetlb": 0x800}[name]
        return ~(0 if name == "hugetlb" and self.mark is not Mark.INVERTED_TYPE else bit) & NO_TYPE


NO_TYPE = 0xFFFFFFFF
"""``page_type`` of a page without one, which is a ``_mapcount`` of -1."""
HUGETLB_PAGE_DTOR = 2
OPTIMIZED_BIT = 4
"""``HPG_vmemmap_optimized`` in the kernels that have it."""
UNRELIABLE_BIT = 5
"""``HPG_raw_hwp_unreliable`` in the kernels that have it."""
ZONES = ("ZONE_DMA", "ZONE_DMA32", "ZONE_NORMAL", "ZONE_MOVABLE", "ZONE_DEVICE")
SECTION_BITS = ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY", "TAINT_ZONE_DEVICE")

_KEY = {"hugetlb_optimize_vmemmap_key": "struct static_key_false"}
_SWITCH = {"vmemmap_optimize_enabled": "_Bool"}

LINES = {
    line.release: line
    for line in (
        Line(
            "5.10.0",
            Layout.NONE,
            Mark.DESTRUCTOR,
            {},
            old_flags=True,
            has_hugetlb_flags=False,
            hosts_memmap=False,
            failed_pages=FailedPages.NOWHERE,
        ),
        Line(
            "5.15.0",
            Layout.TAIL_REUSE,
            Mark.DESTRUCTOR,
            {"hugetlb_free_vmemmap_enabled": "_Bool"},
            freed_pages="nr_free_vmemmap_pages",
            head_moves=False,
            dirty_tails=True,
            old_flags=True,
            hosts_memmap=False,
            failed_pages=FailedPages.NOWHERE,
        ),
        Line(
            "5.18.0",
            Layout.HEAD_REUSE,
            Mark.DESTRUCTOR,
            {"hugetlb_free_vmemmap_enabled_key": "struct static_key_false"},
            freed_pages="nr_free_vmemmap_pages",
            head_moves=False,
            dirty_tails=True,
            old_flags=True,
            hosts_memmap=False,
            failed_pages=FailedPages.NOWHERE,
        ),
        # Vendors' 5.10 with backports is like this one, too.
        Line(
            "5.19.0",
            Layout.HEAD_REUSE,
            Mark.DESTRUCTOR,
            {**_KEY, "vmemmap_optimize_mode": "unsigned int"},
            freed_pages="optimize_vmemmap_pages",
            head_moves=False,
            dirty_tails=True,
            old_flags=True,
            hosts_memmap=False,
            failed_pages=FailedPages.NOWHERE,
        ),
        Line(
            "6.1.0",
            Layout.HEAD_REUSE,
            Mark.DESTRUCTOR,
            {**_KEY, **_SWITCH},
            head_moves=False,
            dirty_tails=True,
            old_flags=True,
            failed_pages=FailedPages.PRIVATE,
        ),
        Line(
            "6.4.0",
            Layout.HEAD_REUSE,
            Mark.DESTRUCTOR,
            {**_KEY, **_SWITCH},
            folio_has_destructor=True,
            dirty_tails=True,
            old_flags=True,
        ),
        Line("6.6.0", Layout.HEAD_REUSE, Mark.FLAG, {**_KEY, **_SWITCH}),
        Line("6.9.0", Layout.HEAD_REUSE, Mark.INVERTED_TYPE, {**_KEY, **_SWITCH}),
        Line("6.12.0", Layout.HEAD_REUSE, Mark.TYPE, {**_KEY, **_SWITCH}, counts_memmap=True),
        Line(
            "6.18.0",
            Layout.HEAD_REUSE,
            Mark.TYPE,
            {**_KEY, **_SWITCH},
            flags_member="memdesc_flags_t",
            counts_memmap=True,
            prepares_memmap=True,
        ),
        Line(
            "7.2.0",
            Layout.SHARED_TAIL,
            Mark.TYPE,
            _SWITCH,
            flags_member="memdesc_flags_t",
            compound_member="compound_info",
            counts_memmap=True,
            prepares_memmap=True,
        ),
        *(
            Line(
                release,
                Layout.SHARED_TAIL,
                Mark.TYPE,
                _SWITCH,
                flags_member="memdesc_flags_t",
                compound_member="compound_info",
                counts_memmap=True,
                has_section_order=True,
                failed_pages=FailedPages.FOLIO_LIST,
                tails_by_pointer=True,
                device_tails=attributes,
            )
            for release, attributes in (("coming", KERNEL_RO), ("coming-writable", KERNEL))
        ),
        Line(
            "7.2.0-without-hvo",
            Layout.NONE,
            Mark.TYPE,
            {},
            flags_member="memdesc_flags_t",
            compound_member="compound_info",
            counts_memmap=True,
        ),
    )
}

ONE_OF_EACH_LAYOUT = ("5.15.0", "6.12.0", "7.2.0")


class Member(NamedTuple):
    """A member of a structure."""

    type_name: str
    offset: int
    size: int
    """Of one element, if it is an array."""


class Struct(NamedTuple):
    """A C structure."""

    size: int
    members: dict[str, Member]

    def pack(self, **values: int) -> bytes:
        """The structure's bytes: members that are not named are 0."""
        data = bytearray(self.size)
        for name, value in values.items():
            member = self.members[name]
            struct.pack_into({1: "<B", 4: "<I", 8: "<Q"}[member.size], data, member.offset, value)
        return bytes(data)


_Declaration = Union[str, tuple[str, int]]
"""Type of a member, and its offset where it does not simply follow the one before."""


class Types:
    """A kernel's types: for the image as offsets, for drgn as a type finder."""

    def __init__(self, line: Line, page_size: int, max_nodes: int) -> None:
        self.section_bits = line.section_bits
        self.structs: dict[str, Struct] = {}
        self._hidden: Collection[str] = ()
        """Members of ``struct page`` that tests write, and the kernel's types do not have."""
        self.declare("list_head", next="struct list_head *", prev="struct list_head *")
        self.declare("static_key", enabled="atomic_t")
        self.declare("static_key_false", key="struct static_key")
        self.declare("raw_spinlock", raw_lock="unsigned int")
        self.declare("spinlock", rlock="struct raw_spinlock")
        self.declare("mm_struct", pgd="pgd_t *")
        self.declare(
            "mem_section",
            32 if line.has_section_order else 16,
            section_mem_map="unsigned long",
            usage="struct mem_section_usage *",
            **({"compound_page_order": "unsigned int"} if line.has_section_order else {}),
        )
        self.declare(
            "mem_section_usage", rcu="unsigned long [2]", subsection_map="unsigned long [1]"
        )
        self._declare_page(line, page_size)
        self._declare_zones(line)
        self.declare(
            "hstate",
            next_nid_to_alloc="int",
            order="unsigned int",
            mask="unsigned long",
            max_huge_pages="unsigned long",
            nr_huge_pages="unsigned long",
            free_huge_pages="unsigned long",
            resv_huge_pages="unsigned long",
            surplus_huge_pages="unsigned long",
            nr_overcommit_huge_pages="unsigned long",
            hugepage_activelist="struct list_head",
            hugepage_freelists=f"struct list_head [{max_nodes}]",
            nr_huge_pages_node=f"unsigned int [{max_nodes}]",
            free_huge_pages_node=f"unsigned int [{max_nodes}]",
            surplus_huge_pages_node=f"unsigned int [{max_nodes}]",
            **({line.freed_pages: "unsigned int"} if line.freed_pages else {}),
            name="char [32]",
        )
        self.enums: dict[str, dict[str, int]] = {
            "pageflags": line.flags,
            "zone_type": {name: i for i, name in enumerate((*ZONES, "__MAX_NR_ZONES"))},
        }
        if line.has_hugetlb_flags:
            self.enums["hugetlb_page_flags"] = {
                "HPG_restore_reserve": 0,
                "HPG_vmemmap_optimized": OPTIMIZED_BIT,
            }
            if line.failed_pages is not FailedPages.NOWHERE:
                self.enums["hugetlb_page_flags"]["HPG_raw_hwp_unreliable"] = UNRELIABLE_BIT
        if line.mark is Mark.TYPE:
            self.enums["pagetype"] = {
                f"PGTY_{name}": line.page_type(name) >> 24
                for name in ("buddy", "table", "hugetlb", "slab")
            }
        if line.mark is Mark.DESTRUCTOR:
            self.enums["compound_dtor_id"] = {
                "NULL_COMPOUND_DTOR": 0,
                "COMPOUND_PAGE_DTOR": 1,
                "HUGETLB_PAGE_DTOR": HUGETLB_PAGE_DTOR,
            }

    def _declare_page(self, line: Line, size: int) -> None:
        destructor: dict[str, _Declaration] = {}
        of_folio: dict[str, _Declaration] = {}
        if line.mark is Mark.DESTRUCTOR:
            destructor = {
                "compound_dtor": ("unsigned char", 16),
                "compound_order": ("unsigned char", 17),
            }
        if line.folio_has_destructor:
            self._hidden = destructor.keys()
            of_folio = {
                "_folio_dtor": ("unsigned char", size + 16),
                "_folio_order": ("unsigned char", size + 17),
            }
        memcg: dict[str, _Declaration] = {"memcg_data": ("unsigned long", 56)}
        self.declare(
            "page",
            size,
            flags=(line.flags_member, 0),
            lru=("struct list_head", 8),
            buddy_list=("struct list_head", 8),
            **{line.compound_member: ("unsigned long", 8)},
            **destructor,
            mapping=("void *", 24),
            index=("unsigned long", 32),
            private=("unsigned long", 40),
            _mapcount=("atomic_t", 48),
            page_type=("unsigned int", 48),
            _refcount=("atomic_t", 52),
            **(memcg if size >= 64 else {}),
        )
        self.declare("llist_node", next="struct llist_node *")
        self.declare("llist_head", first="struct llist_node *")
        # struct folio lies over the first struct pages.
        failed: dict[FailedPages, dict[str, _Declaration]] = {
            FailedPages.FOLIO: {
                "_hugetlb_subpool": ("void *", 2 * size + 16),
                "_hugetlb_hwpoison": ("void *", 2 * size + 40),
            },
            FailedPages.FOLIO_LIST: {
                "_hugetlb_subpool": ("void *", 3 * size + 16),
                "hugetlb_hwpoison": ("struct llist_head", 3 * size + 40),
            },
        }
        self.declare(
            "folio",
            4 * size,
            page=("struct page", 0),
            _flags_1=("unsigned long", size),
            **of_folio,
            **failed.get(line.failed_pages, {}),
        )
        if line.failed_pages is not FailedPages.NOWHERE:
            self.declare("raw_hwp_page", node="struct llist_node", page="struct page *")
            self.declare("hugetlb_cgroup_per_node", usage="unsigned long [2]")

    def _declare_zones(self, line: Line) -> None:
        tails: dict[str, _Declaration] = {
            "vmemmap_tails": "struct page **" if line.tails_by_pointer else "struct page *[16]"
        }
        self.declare(
            "zone",
            zone_start_pfn="unsigned long",
            spanned_pages="unsigned long",
            **(tails if REUSED_PAGE.get(line.layout, 0) is None else {}),
        )
        self.declare(
            "pglist_data",
            node_zones=f"struct zone [{len(ZONES)}]",
            nr_zones="int",
            node_start_pfn="unsigned long",
            node_spanned_pages="unsigned long",
            node_id="int",
        )

    def declare(self, name: str, size: int | None = None, /, **members: _Declaration) -> None:
        end, found = 0, {}
        for member, declaration in members.items():
            type_name, offset = (
                declaration if isinstance(declaration, tuple) else (declaration, None)
            )
            element, length = self._size(type_name)
            if offset is None:
                offset = end + -end % min(element, 8)
            found[member] = Member(type_name, offset, element)
            end = offset + element * length
        self.structs[name] = Struct(size or end + -end % 8, found)

    def _size(self, type_name: str) -> tuple[int, int]:
        """Size of an element of a type, and how many elements it has."""
        array = re.fullmatch(r"(.+?) ?\[(\d+)\]", type_name)
        name, length = (array[1], int(array[2])) if array else (type_name, 1)
        if name.endswith("*"):
            return 8, length
        if name.startswith("struct "):
            return self.structs[name[len("struct ") :]].size, length
        return {"char": 1, "unsigned char": 1, "int": 4, "unsigned int": 4, "atomic_t": 4}.get(
            name, 8
        ), length

    def find(
        self, prog: drgn.Program, kinds: drgn.TypeKindSet, name: str, filename: str | None
    ) -> drgn.Type | None:
        """A type finder for :meth:`drgn.Program.register_type_finder()`."""
        if drgn.TypeKind.STRUCT in kinds and name in self.structs:
            return self._struct_type(prog, name)
        if drgn.TypeKind.ENUM in kinds and name in self.enums:
            enumerators = [drgn.TypeEnumerator(*item) for item in self.enums[name].items()]
            return prog.enum_type(name, prog.type("unsigned int"), enumerators)
        if drgn.TypeKind.TYPEDEF in kinds and name in ("pgdval_t", "phys_addr_t"):
            return prog.typedef_type(name, prog.type("unsigned long"))
        typedefs = {
            "atomic_t": ("int", "counter"),
            "atomic_long_t": ("long", "counter"),
            "pgd_t": ("pgdval_t", "pgd"),
            "memdesc_flags_t": ("unsigned long", "f"),
        }
        if drgn.TypeKind.TYPEDEF in kinds and name in typedefs:
            type_name, member = typedefs[name]
            type_ = prog.type(type_name)
            members = [drgn.TypeMember(type_, member)]
            return prog.typedef_type(name, prog.struct_type(None, drgn.sizeof(type_), members))
        return None

    def _struct_type(self, prog: drgn.Program, name: str) -> drgn.Type:
        def member_of(type_name: str) -> drgn.Object:
            return drgn.Object(prog, type_name, address=0)

        layout = self.structs[name]
        members = [
            # Found when asked for: a list_head has pointers to list_heads.
            drgn.TypeMember(
                lambda type_name=member.type_name: member_of(type_name), member_name, offset * 8
            )
            for member_name, member in layout.members.items()
            if name != "page" or member_name not in self._hidden
            for offset in (member.offset,)
        ]
        return prog.struct_type(name, layout.size, members)


@cache
def types(release: str, page_size: int, max_nodes: int) -> Types:
    """The types of a line of kernels, made once."""
    return Types(LINES[release], page_size, max_nodes)
