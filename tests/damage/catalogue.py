# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The catalogue of faults: what each changes in a kernel's memory, and the findings that must follow.

The same faults are provoked on the synthetic image, in every layout, and on real kernels.
"""

from __future__ import annotations

import struct
from collections import Counter
from functools import cache
from typing import Callable, NamedTuple, Optional

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PRESENT, WRITABLE
from tests.damage.edited import EditedKernel
from tests.support import shared_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.model import FIRST_FOLIO, GIB, Folio, Machine
from tests.synthetic.physical import NO_EXECUTE, USER

Expected = tuple[str, Optional[int], Optional[int]]
"""Rule, folio, index of the vmemmap page."""

IMAGES = ("6.1.0", *ONE_OF_EACH_LAYOUT)
REAL = ("head-reuse", "shared-tail", "two-nodes-1GiB")


def image(release: str, order: int = 9) -> EditedKernel:
    if order == 18:
        folios = [Folio(GIB >> PAGE_SHIFT, 18), Folio(2 * GIB >> PAGE_SHIFT, 18)]
        return EditedKernel(
            Image(Machine(line=LINES[release], node_size=4 * GIB, folios=tuple(folios))).prog
        )
    folios = [
        Folio(FIRST_FOLIO),
        Folio(FIRST_FOLIO + 512),
        Folio(FIRST_FOLIO + 1024, remapped=False),
        Folio(FIRST_FOLIO + 1536, state=State.ACTIVE),
    ]
    return EditedKernel(Image(Machine(line=LINES[release], folios=tuple(folios))).prog)


def real(name: str) -> EditedKernel:
    return EditedKernel(shared_vmcore(name))


@cache
def scene(name: str) -> EditedKernel:
    """A kernel to be edited; see that it is reset."""
    if name in REAL:
        return real(name)
    release, _, order = name.partition(" ")
    return image(release, int(order or 9))


SCENES = [*IMAGES, *(f"{release} 18" for release in IMAGES), *REAL]


def places(report: Report) -> Counter[Expected]:
    return Counter((f.rule, f.folio, f.index) for f in report.findings)


class Fault(NamedTuple):
    """One kind of damage."""

    name: str
    rule: str
    provoke: Callable[[EditedKernel], list[Expected] | None]
    """Does the damage; returns what must be found; ``None`` if this kernel cannot have it."""
    follows: tuple[str, ...] = ()
    """Rules that may fire as a consequence."""


def layout_of(edited: EditedKernel) -> Layout:
    return edited.kernel.hvo.layout


def own(edited: EditedKernel) -> int:
    """Index of the first vmemmap page that has the reuse frame."""
    page = REUSED_PAGE[layout_of(edited)]
    return KEPT[layout_of(edited)] if page is None else page


def remap(edited: EditedKernel, pfn: int, index: int, frame: int) -> None:
    """Map a vmemmap page of a folio to another frame."""
    address = (1 << 52) - PAGE_SIZE
    edited.write_entry(pfn, index, edited.entry(pfn, index) & ~address | frame << PAGE_SHIFT)


def table_over(edited: EditedKernel) -> int:
    """PFN of the last-level table over a folio's vmemmap."""
    address = edited.kernel.geometry.address(edited.optimized[0])
    return edited.walker().entry(address).raw_address >> PAGE_SHIFT


def shared_tail(edited: EditedKernel) -> int:
    """PFN of a tail in the reuse frame of a folio, or of its zone."""
    return edited.optimized[0] + own(edited) * PAGE_SIZE // edited.kernel.page.size + 5


def not_present(edited: EditedKernel) -> list[Expected]:
    pfn = edited.optimized[0]
    edited.write_entry(pfn, 3, edited.entry(pfn, 3) & ~PRESENT)
    return [("not-present", pfn, 3)]


def tail_writable(edited: EditedKernel) -> list[Expected]:
    pfn = edited.optimized[0]
    edited.write_entry(pfn, 3, edited.entry(pfn, 3) | WRITABLE)
    return [("tail-writable", pfn, 3)]


def head_read_only(edited: EditedKernel) -> list[Expected]:
    pfn = edited.optimized[0]
    edited.write_entry(pfn, 0, edited.entry(pfn, 0) & ~WRITABLE)
    return [("head-read-only", pfn, 0)]


def half_done_remap(edited: EditedKernel) -> list[Expected] | None:
    """A tail is mapped to the frame of another folio's head, as nobody's reuse frame."""
    if not edited.unoptimized:
        return None
    pfn, other = edited.optimized[0], edited.unoptimized[0]
    remap(edited, pfn, 3, edited.frame(other, 5))
    return [
        ("reuse-mismatch", pfn, 3),
        ("frame-aliased", pfn, 3),
        ("frame-aliased", other, 5),
    ]


def reuse_frame_of_another(edited: EditedKernel) -> list[Expected] | None:
    """All tails are mapped to another folio's head."""
    pfn, other = edited.optimized[:2]
    kept = KEPT[layout_of(edited)]
    pages = edited.kernel.geometry.pages_of_order(edited.before.folios[0].folio.order)
    if pages > 8:
        return None
    for index in range(kept, pages):
        remap(edited, pfn, index, edited.frame(other, 0))
    return [("reuse-invalid", pfn, kept)]


def head_freed(edited: EditedKernel) -> list[Expected] | None:
    """The frame that backs a head is in the buddy allocator."""
    mark = edited.kernel.buddy_test
    if mark is None:
        return None
    pfn = edited.optimized[0]
    frame = edited.frame(pfn, 0)
    edited.write_page(frame, mark.offset, mark.value, mark.size)
    edited.write_member(frame, "private", 0)
    edited.write_member(frame, "refcount", 0)
    return [("frame-freed", pfn, 0)]


def head_without_reference(edited: EditedKernel) -> list[Expected]:
    pfn = edited.optimized[0]
    edited.write_member(edited.frame(pfn, 0), "refcount", 0)
    return [("frame-freed", pfn, 0)]


def head_of_somebody_else(edited: EditedKernel) -> list[Expected]:
    """The frame that backs a head is anonymous memory of a process."""
    pfn = edited.optimized[0]
    edited.write_member(edited.frame(pfn, 0), "mapping", 0xFFFF888123456701)
    return [("frame-foreign", pfn, 0)]


def fail(edited: EditedKernel, frame: int) -> bool:
    """Mark a frame as memory that failed; false on a kernel without such a mark."""
    flag = edited.kernel.poison.flag
    page = edited.snapshot().struct_pages(frame)
    edited.write_member(frame, "flags", edited.kernel.page.value(page, "flags") | flag)
    return bool(flag)


def head_that_failed(edited: EditedKernel) -> list[Expected] | None:
    """The memory of the frame that backs a head failed."""
    pfn = edited.optimized[0]
    return [("frame-failed", pfn, 0)] if fail(edited, edited.frame(pfn, 0)) else None


def table_that_failed(edited: EditedKernel) -> list[Expected] | None:
    """The memory of the last-level table over a folio's vmemmap failed."""
    table = table_over(edited)
    if not edited.is_described(table) or not fail(edited, table):
        return None
    return [("frame-failed", None, None)]


def table_in_buddy(edited: EditedKernel) -> list[Expected] | None:
    """The last-level table over a folio's vmemmap is in the buddy allocator."""
    mark, table = edited.kernel.buddy_test, table_over(edited)
    if mark is None or not edited.is_described(table):
        return None
    edited.write_page(table, mark.offset, mark.value, mark.size)
    edited.write_member(table, "private", 0)
    edited.write_member(table, "refcount", 0)
    return [("table-freed", None, None)]


def table_on_a_list_of_a_cpu(edited: EditedKernel) -> list[Expected] | None:
    """The last-level table over a folio's vmemmap was freed, and no block took it in yet."""
    table = table_over(edited)
    if not edited.is_described(table):
        return None
    edited.write_member(table, "page_type", 0xFFFFFFFF)
    edited.write_member(table, "refcount", 0)
    return [("table-freed", None, None)]


def two_owners(edited: EditedKernel) -> list[Expected] | None:
    """A page of a folio that is not optimized is mapped to the frame of another folio's head."""
    if not edited.unoptimized:
        return None
    pfn, other = edited.unoptimized[0], edited.optimized[0]
    remap(edited, pfn, 3, edited.frame(other, 0))
    return [("frame-aliased", pfn, 3), ("frame-aliased", other, 0)]


def flag_lost(edited: EditedKernel) -> list[Expected] | None:
    if edited.kernel.hvo.optimized_bit is None:
        return None
    pfn = edited.optimized[0]
    edited.write_member(pfn, "private", 0)
    return [("flag-mismatch", pfn, None)]


def flag_made_up(edited: EditedKernel) -> list[Expected] | None:
    bit = edited.kernel.hvo.optimized_bit
    if bit is None or not edited.unoptimized:
        return None
    pfn = edited.unoptimized[0]
    edited.write_member(pfn, "private", 1 << bit)
    return [("flag-mismatch", pfn, None)]


def tail_overwritten(edited: EditedKernel) -> list[Expected]:
    """A struct page in the reuse frame of a folio, or of a zone, is overwritten."""
    edited.write_member(shared_tail(edited), "compound_head", 0)
    return [("tail-content", edited.optimized[0], own(edited))]


def tail_referenced(edited: EditedKernel) -> list[Expected]:
    """A tail in the reuse frame has a reference: its compound_head is right."""
    edited.write_member(shared_tail(edited), "refcount", 1)
    return [("tail-content", edited.optimized[0], own(edited))]


def tail_of_another_zone(edited: EditedKernel) -> list[Expected]:
    """A tail in the reuse frame says that it is of another zone: it is freed to that one."""
    page, shift = shared_tail(edited), edited.kernel.page_flags.zone_shift
    flags = edited.kernel.page.value(edited.snapshot().struct_pages(page), "flags")
    edited.write_member(page, "flags", flags ^ 1 << shift)
    return [("tail-content", edited.optimized[0], own(edited))]


def kept_tail_overwritten(edited: EditedKernel) -> list[Expected] | None:
    """A tail beside the head, in the frame that the folio keeps, is overwritten."""
    pfn = edited.optimized[0]
    if not edited.is_described(pfn + 63):
        return None
    edited.write_member(pfn + 63, "compound_head", 0)
    return [("tail-content", pfn, 0)]


def head_copied(edited: EditedKernel) -> list[Expected] | None:
    """A restore left a copy of the head in one of the vmemmap pages."""
    if not edited.unoptimized:
        return None
    pfn = edited.unoptimized[0]
    page = pfn + 3 * PAGE_SIZE // edited.kernel.page.size
    if not edited.is_described(page + 63):
        return None
    edited.write_member(page, "flags", edited.kernel.head_test.value)
    edited.write_member(page, "compound_head", 0)
    return [("stale-struct-page", pfn, 3)]


def of_no_folio_read_only(edited: EditedKernel) -> list[Expected] | None:
    """A restore that made a page its own again, but not writable."""
    pfn = edited.of_no_folio()
    if pfn is None:
        return None
    edited.write_entry(pfn, 0, edited.entry(pfn, 0) & ~WRITABLE)
    return [("orphan-remap", None, None)]


def of_no_folio_shared(edited: EditedKernel) -> list[Expected] | None:
    """A restore that made pages writable again, but left them their shared frame."""
    pfn = edited.of_no_folio()
    if pfn is None:
        return None
    edited.write_entry(pfn, 1, edited.entry(pfn, 0))
    return [("orphan-remap", None, None)]


def restore_that_never_happened(edited: EditedKernel) -> list[Expected]:
    """A folio is no HugeTLB folio any more, but its vmemmap is as it was."""
    pfn = edited.optimized[-1]
    mark = edited.kernel.head_test
    edited.write_page(pfn, mark.offset, 0, mark.size)
    return [("orphan-remap", None, None)]


def wrong_counter(edited: EditedKernel) -> list[Expected]:
    kernel = edited.kernel
    member = kernel.hstate.members["free_huge_pages"]
    edited.write(kernel.hstates + member.offset, 4711, member.size)
    return [("count-mismatch", None, None)]


def broken_list(edited: EditedKernel) -> list[Expected]:
    """A folio's pointer to the next one leads out of the memmap."""
    edited.write_member(edited.optimized[0], "lru", 0xDEAD000000000100)
    return [("list-corrupt", None, None)]


def table_missing(edited: EditedKernel) -> list[Expected]:
    edited.memory.missing.add(table_over(edited))
    return [("unreadable", None, None)]


def executable_entry(edited: EditedKernel) -> list[Expected]:
    """The entry over a head lets instructions be fetched from there."""
    pfn = edited.optimized[0]
    edited.write_entry(pfn, 0, edited.entry(pfn, 0) & ~NO_EXECUTE)
    return [("entry-attributes", pfn, 0)]


def entry_of_users_over_no_folio(edited: EditedKernel) -> list[Expected] | None:
    pfn = edited.of_no_folio()
    if pfn is None:
        return None
    edited.write_entry(pfn, 0, edited.entry(pfn, 0) | USER)
    return [("entry-attributes", None, None)]


def memory_that_failed(edited: EditedKernel) -> list[Expected] | None:
    pfn = edited.optimized[0]
    return [("poisoned", pfn, None)] if fail(edited, pfn) else None


def left_its_list(edited: EditedKernel) -> list[Expected]:
    """A folio is taken from its list, as for a migration."""
    pfn = edited.optimized[0]
    address = edited.kernel.geometry.address(pfn) + edited.kernel.page.offset("lru")
    after, before = struct.unpack("<QQ", edited.snapshot().read(address, 16))
    edited.write(before, after)
    edited.write(after + 8, before)
    return [("off-list", pfn, None)]


def in_the_making(edited: EditedKernel) -> int | None:
    """Make a folio of memory that is none's: on no list, not counted, not optimized."""
    kernel, folios = edited.kernel, edited.before.folios.folios
    for pfn in range(kernel.paging.max_pfn - 512 * 512, 0, -512):
        run = edited.walker().run_at(kernel.geometry.address(pfn))
        if folios.row_at(pfn) is None and not run.is_last_level and edited.is_described(pfn):
            for mark in (kernel.head_test, kernel.hugetlb_test):
                edited.write_page(pfn, mark.offset, mark.value, mark.size)
            edited.write_page(pfn, kernel.order.offset, 9, 1)
            edited.write_member(pfn, "private", 0)
            return pfn
    return None


def making(rule: str) -> Callable[[EditedKernel], list[Expected] | None]:
    """What must be found of a folio in the making."""

    def provoke(edited: EditedKernel) -> list[Expected] | None:
        pfn = in_the_making(edited)
        return None if pfn is None else [(rule, pfn, None)]

    return provoke


CATALOGUE = (
    Fault("a tail that is not mapped", "not-present", not_present),
    Fault("a tail that is writable", "tail-writable", tail_writable),
    Fault("a head that is read-only", "head-read-only", head_read_only),
    Fault("a remap that stopped half-way", "reuse-mismatch", half_done_remap, ("count-mismatch",)),
    Fault(
        "another folio's frame for the tails",
        "reuse-invalid",
        reuse_frame_of_another,
        ("tail-content", "frame-aliased", "count-mismatch", "unreadable"),
    ),
    Fault("a head in the buddy allocator", "frame-freed", head_freed),
    Fault("a head without a reference", "frame-freed", head_without_reference),
    Fault("a head that is somebody else's", "frame-foreign", head_of_somebody_else),
    Fault("a head whose memory failed", "frame-failed", head_that_failed),
    Fault("a page table whose memory failed", "frame-failed", table_that_failed),
    Fault("a page table in the buddy allocator", "table-freed", table_in_buddy),
    Fault("a page table on a list of a CPU", "table-freed", table_on_a_list_of_a_cpu),
    Fault(
        "a frame with two owners",
        "frame-aliased",
        two_owners,
        ("count-mismatch", "stale-struct-page"),
    ),
    Fault("a flag that is lost", "flag-mismatch", flag_lost),
    Fault("a flag that is made up", "flag-mismatch", flag_made_up),
    Fault("a tail that is overwritten", "tail-content", tail_overwritten),
    Fault("a tail that is referenced", "tail-content", tail_referenced),
    Fault("a tail of another zone", "tail-content", tail_of_another_zone),
    Fault("a kept tail that is overwritten", "tail-content", kept_tail_overwritten),
    Fault("a copy of the head among tails", "stale-struct-page", head_copied),
    Fault("vmemmap of no folio that is read-only", "orphan-remap", of_no_folio_read_only),
    Fault(
        "vmemmap of no folio with one frame",
        "orphan-remap",
        of_no_folio_shared,
        ("count-mismatch",),
    ),
    Fault(
        "a restore that never happened",
        "orphan-remap",
        restore_that_never_happened,
        ("list-corrupt", "count-mismatch", "off-list", "stale-struct-page"),
    ),
    Fault("a counter that is wrong", "count-mismatch", wrong_counter, ("count-mismatch",)),
    Fault("a list that leads astray", "list-corrupt", broken_list, ("off-list", "count-mismatch")),
    Fault(
        "a table that is not in the dump",
        "unreadable",
        table_missing,
        ("unreadable", "off-list", "count-mismatch"),
    ),
    Fault("an entry without the bit that forbids execution", "entry-attributes", executable_entry),
    Fault(
        "an entry of users over memory of no folio",
        "entry-attributes",
        entry_of_users_over_no_folio,
    ),
    Fault("memory that failed", "poisoned", memory_that_failed),
    Fault("a folio that left its list", "off-list", left_its_list, ("count-mismatch", "in-flight")),
    Fault("a folio in the making", "in-flight", making("in-flight")),
    Fault("a folio that is left as it is", "unoptimized", making("unoptimized"), ("in-flight",)),
)
