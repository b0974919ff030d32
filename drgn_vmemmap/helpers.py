# SPDX-License-Identifier: LGPL-2.1-or-later

"""
HugeTLB vmemmap
---------------

Helpers for drgn's prompt and for scripts, in drgn's style: HugeTLB folios, what
HugeTLB vmemmap optimization (HVO) made of each, and the page tables that map
their vmemmap. Without debugging symbols, types and symbols are taken from the
kernel itself.

    >>> from drgn_vmemmap.helpers import for_each_hugetlb_folio, hugetlb_folio_hvo_state
    >>> any(hugetlb_folio_hvo_state(folio).freed == 0 for folio in for_each_hugetlb_folio(prog))
    True
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

from drgn import IntegerLike, Object, Program

from drgn_vmemmap.hugetlb.folio import Folio, FolioClass, State
from drgn_vmemmap.hugetlb.head import read_head
from drgn_vmemmap.hugetlb.hstate import Hstate, read_hstates
from drgn_vmemmap.hugetlb.search import find_folios
from drgn_vmemmap.hugetlb.tail_frames import TailFrames
from drgn_vmemmap.hvo.diagnosis import judge
from drgn_vmemmap.hvo.verdict import Judgement
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.mapping import Step
from drgn_vmemmap.rules.context import read_entries
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot

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
    snapshot = _snapshot(prog)
    for pfn in find_folios(snapshot, _hstates(snapshot)).folios.pfns:
        yield Object(prog, "struct page *", snapshot.geometry.address(pfn))


def hugetlb_folio_hvo_state(folio: Object) -> Judgement:
    """
    Get what HugeTLB vmemmap optimization made of a folio, as the page tables say.

    The folio's own flag, ``HPG_vmemmap_optimized``, is not considered.

    >>> state = hugetlb_folio_hvo_state(next(for_each_hugetlb_folio(prog)))
    >>> state.verdict.value, state.layout.value, state.freed
    ('optimized', 'head-reuse', 7)
    >>> hex(state.reuse_frame), state.read_only
    ('0x35f96', ((1, 7),))

    :param folio: ``struct page *`` or ``struct folio *``, the folio's head page.
    :return: The verdict and layout; the PFN of the reuse frame; which vmemmap pages
        share it, and which are read-only, as ranges of indices; how many were freed.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    :raises MissingMemory: if the head page or the hstates are not in the dump.
    :raises ValueError: if it is no HugeTLB folio's head page.
    """
    snapshot = _snapshot(folio.prog_)
    kernel, address = snapshot.kernel, operator.index(folio)
    pfn = snapshot.geometry.pfn_of(_checked(snapshot, address))
    head = None if pfn is None else read_head(snapshot, pfn)
    orders = (hstate.order for hstate in _hstates(snapshot))
    if pfn is None or head is None or head.order not in orders:
        raise ValueError(f"{address:#x} is no HugeTLB folio's head page")
    node, zone = kernel.page_flags.node(head.flags), kernel.page_flags.zone(head.flags)
    folio_class = FolioClass(head.order, hstate="", node=node, zone=zone, flag_optimized=None)
    entries = read_entries(snapshot, Folio(pfn, head.order, "", node, zone, State.OFF_LIST, None))
    return judge(entries, kernel.hvo.layout, TailFrames(snapshot).acceptable(folio_class))


def vmemmap_walk(prog: Program, address: IntegerLike) -> Iterator[Step]:
    """
    Walk the page tables to an address in the vmemmap, level by level.

    The access of a step is the effective one: a permission that an upper level
    denies is not granted by a lower one. Its letters are for writable, user,
    executable (``X``) and global.

    >>> tail = next(for_each_hugetlb_folio(prog)) + 64
    >>> for step in vmemmap_walk(prog, tail):
    ...     print(step.level.name, f"{step.raw:016x}", step.access)
    PGD 000000007fcb0067 WUX-
    P4D 000000007fcaf067 WUX-
    PUD 000000007fcae067 WUX-
    PMD 0000000002420067 WUX-
    PTE 8000000035f96121 ---G

    :param address: Virtual address in bytes, such as a ``struct page *``.
    :return: Iterator of one step for each level, as far as the walk goes. The raw
        entry of a step is ``None`` where the table is not in the dump.
    :raises CannotAnalyse: if this target cannot be analysed; the message says why.
    :raises ValueError: if the address is not in the vmemmap.
    """
    snapshot = _snapshot(prog)
    return snapshot.walker.steps(_checked(snapshot, operator.index(address)))


def _snapshot(prog: Program) -> Snapshot:
    """A new snapshot; the kernel's facts are discovered once for each program."""
    kernel = prog.cache.get("drgn_vmemmap.kernel")
    if kernel is None:
        kernel = prog.cache["drgn_vmemmap.kernel"] = discover(prog)
    return Snapshot(kernel, ProgramMemory(prog))


def _hstates(snapshot: Snapshot) -> list[Hstate]:
    return [hstate for hstate in read_hstates(snapshot) if isinstance(hstate, Hstate)]


def _checked(snapshot: Snapshot, address: int) -> int:
    """
    An address in the vmemmap.

    :raises ValueError: if it is not there.
    """
    if not snapshot.geometry.contains(address):
        raise ValueError(f"{address:#x} is not in the vmemmap")
    return address
