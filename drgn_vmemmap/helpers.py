# SPDX-License-Identifier: LGPL-2.1-or-later

"""
HugeTLB vmemmap
---------------

Helpers for drgn's prompt and for scripts, in the manner of drgn's own. They are
thin: each is a door to the rooms behind :mod:`drgn_vmemmap`.

    >>> from drgn_vmemmap.helpers import for_each_hugetlb_folio, hugetlb_folio_hvo_state
    >>> any(hugetlb_folio_hvo_state(folio).freed == 0 for folio in for_each_hugetlb_folio(prog))
    True
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

from drgn import IntegerLike, Object, Program

from drgn_vmemmap.hugetlb.folios import (
    FolioClass,
    Hstate,
    TailFrames,
    find_folios,
    read_head,
    read_hstates,
)
from drgn_vmemmap.hvo.judgement import Judgement, judge
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.paging.walker import Step, Walker
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.target.memory import ProgramMemory

__all__ = (
    "for_each_hugetlb_folio",
    "hugetlb_folio_hvo_state",
    "vmemmap_walk",
)


def for_each_hugetlb_folio(prog: Program) -> Iterator[Object]:
    """
    Iterate over all HugeTLB folios: those on the lists of ``struct hstate``, and
    those that only the memmap shows.

    A list that is broken ends where it breaks; ``drgn-vmemmap verify`` says where.

    >>> folios = list(for_each_hugetlb_folio(prog))
    >>> len(folios)
    72
    >>> hex(folios[0])
    '0xffa09b7080080000'

    :return: Iterator of ``struct page *`` objects, the folios' head pages, in
        ascending order of PFN.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    :raises MissingMemory: if the hstates are not in the dump.
    """
    kernel, walker = _pass(prog)
    for pfn in find_folios(kernel, walker, _hstates(kernel, walker)).folios.pfns:
        yield Object(prog, "struct page *", kernel.page_address(pfn))


def hugetlb_folio_hvo_state(folio: Object) -> Judgement:
    """
    Get what HugeTLB vmemmap optimization made of a folio, as the page tables say.

    The folio's own flag has no say in it.

    >>> state = hugetlb_folio_hvo_state(next(for_each_hugetlb_folio(prog)))
    >>> state.verdict.value, state.layout.value, state.freed
    ('optimized', 'head-reuse', 7)
    >>> hex(state.reuse_frame), state.read_only
    ('0x35f96', ((1, 7),))

    :param folio: ``struct page *`` or ``struct folio *``, the folio's head page.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    :raises MissingMemory: if the head page or the hstates are not in the dump.
    :raises ValueError: if it is no HugeTLB folio's head page.
    """
    kernel, walker = _pass(folio.prog_)
    address = operator.index(folio)
    pfn, misaligned = divmod(_vmemmap_offset(kernel, address), kernel.page.size)
    head = None if misaligned else read_head(kernel, walker, pfn)
    if head is None or head.order not in (each.order for each in _hstates(kernel, walker)):
        raise ValueError(f"{address:#x} is no HugeTLB folio's head page")
    node, zone = kernel.page_flags.node(head.flags), kernel.page_flags.zone(head.flags)
    kind = FolioClass(head.order, hstate="", node=node, zone=zone, flag_optimized=None)
    runs = walker.walk(address, address + kernel.vmemmap_pages(head.order) * PAGE_SIZE)
    entries = [entry for run in runs for entry in walker.pages(run)]
    return judge(entries, kernel.hvo.layout, TailFrames(kernel, walker).acceptable(kind))


def vmemmap_walk(prog: Program, address: IntegerLike) -> Iterator[Step]:
    """
    Walk the page tables to an address in the vmemmap, level by level.

    The access is that of the processor: what a level takes away, those below do
    not give back. Letters are for writable, user, executable (``X``) and global.

    >>> tail = next(for_each_hugetlb_folio(prog)) + 64
    >>> for step in vmemmap_walk(prog, tail):
    ...     print(step.level.name, f"{step.raw:016x}", step.access)
    PGD 000000007fcb0067 WUX-
    P4D 000000007fcaf067 WUX-
    PUD 000000007fcae067 WUX-
    PMD 0000000002420067 WUX-
    PTE 8000000035f96121 ---G

    :param address: Virtual address in bytes, such as a ``struct page *``.
    :return: Iterator of one step a level, as far as the walk goes; its entry is
        ``None`` where a table is not in the dump.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    :raises ValueError: if the address is not in the vmemmap.
    """
    kernel, walker = _pass(prog)
    return walker.steps(kernel.vmemmap + _vmemmap_offset(kernel, operator.index(address)))


def _pass(prog: Program) -> tuple[Kernel, Walker]:
    """What the kernel is, found out once; and a walker for a fresh look at it."""
    kernel = prog.cache.get("drgn_vmemmap.kernel.facts")
    if kernel is None:
        kernel = prog.cache["drgn_vmemmap.kernel.facts"] = discover(prog)
    return kernel, Walker(ProgramMemory(prog), kernel.paging)


def _hstates(kernel: Kernel, walker: Walker) -> list[Hstate]:
    return [each for each in read_hstates(kernel, walker) if isinstance(each, Hstate)]


def _vmemmap_offset(kernel: Kernel, address: int) -> int:
    """Bytes from the vmemmap's beginning to an address in it."""
    if not kernel.vmemmap <= address < kernel.page_address(kernel.paging.max_pfn):
        raise ValueError(f"{address:#x} is not in the vmemmap")
    return address - kernel.vmemmap
