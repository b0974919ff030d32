# SPDX-License-Identifier: LGPL-2.1-or-later

"""Random models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.kernels import LINES
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import (
    ABSENT,
    BEYOND_R,
    BEYOND_W,
    FRESH_W,
    GIB,
    OWN_R,
    OWN_W,
    REUSE_R,
    REUSE_W,
    SECTION_PAGES,
    Damage,
    Folio,
    Link,
    LinkPlace,
    Machine,
    Section,
    Vpage,
    pmd_of,
)

few = settings(max_examples=(settings().max_examples + 1) // 2)
"""Of tests that only show what other tests have compared: half as many examples."""

SLOTS = 3 * 64
"""Places for 2 MiB folios on a node: so many that three page tables describe them."""


@st.composite
def machines(draw: st.DrawFn, broken: bool = False) -> Machine:
    """
    :param broken: Whether entries, tables and lists may be damaged.
    """
    line = draw(st.sampled_from(list(LINES.values())))
    nodes = draw(st.integers(1, 3))
    gigantic = draw(st.integers(0, 5)) == 0
    machine = Machine(
        line=line,
        levels=draw(st.sampled_from((4, 5))),
        nodes=nodes,
        node_size=3 * GIB if gigantic else GIB,
        nodes_shift=draw(st.sampled_from((6, 10) if nodes > 1 else (0, 6, 10))),
        page_size=64 if gigantic or broken else draw(st.sampled_from((64, 64, 64, 128, 80, 56))),
        encryption_mask=draw(st.sampled_from((0, 0, 1 << 47, 1 << 51))),
        # While it is held, counters may differ by a folio that moves: tests/rules has those.
        is_locked=False,
        enabled=draw(st.booleans()),
    )
    folios = draw(_folios(machine, gigantic, broken))
    machine = replace(machine, folios=folios, split=draw(_split(folios)))
    if machine.page_size == 64:
        machine = replace(machine, sections=draw(_sections(machine)))
    if not broken:
        return machine
    return replace(machine, damage=draw(_damage(machine)), links=draw(_links(machine)))


@st.composite
def _folios(draw: st.DrawFn, machine: Machine, gigantic: bool, broken: bool) -> tuple[Folio, ...]:
    places = st.tuples(st.integers(0, machine.nodes - 1), st.integers(0, SLOTS - 1))
    pfns = [
        (machine.folio_pfn(slot, node), 9)
        for node, slot in draw(st.lists(places, unique=True, max_size=12))
    ]
    if gigantic:
        huge = st.integers(0, machine.nodes - 1)
        pfns += [
            (machine.node_pfns(node).start + (GIB >> 12), 18)
            for node in draw(st.lists(huge, unique=True, min_size=1, max_size=2))
        ]
    return tuple([draw(_folio(machine, pfn, order, broken)) for pfn, order in pfns])


@st.composite
def _folio(draw: st.DrawFn, machine: Machine, pfn: int, order: int, broken: bool) -> Folio:
    can_be = machine.layout is not Layout.NONE and not machine.page_size & (machine.page_size - 1)
    remapped = can_be and draw(st.booleans())
    damage = draw(st.sampled_from(("", "", "edits", "flag", "head"))) if broken else ""
    state = draw(st.sampled_from(State))
    counted = state is not State.OFF_LIST or draw(st.booleans())
    edits: Mapping[int, Vpage] = {}
    if damage == "edits":
        edits = draw(_edits(machine, order, remapped))
    elif remapped and not counted:
        edits = draw(_half_done(machine, order))
    return Folio(
        pfn=pfn,
        order=order,
        state=state,
        remapped=remapped,
        edits=edits,
        flag=not remapped if damage == "flag" else None,
        head_in_dump=damage != "head",
        counted=counted,
    )


@st.composite
def _half_done(draw: st.DrawFn, machine: Machine, order: int) -> Mapping[int, Vpage]:
    """The tails that an unfinished remap has not reached, or that an unfinished restore has."""
    first, end = KEPT[machine.layout], machine.vmemmap_pages(order)
    position = draw(st.integers(first, end))
    if draw(st.booleans()):
        return dict.fromkeys(range(max(position, first + 1), end), OWN_W)
    return dict.fromkeys(range(first, min(position, end - 1)), FRESH_W)


@st.composite
def _edits(draw: st.DrawFn, machine: Machine, order: int, remapped: bool) -> Mapping[int, Vpage]:
    n = machine.vmemmap_pages(order)
    kept = KEPT[machine.layout] if remapped else 1
    tails = [OWN_W, OWN_R, FRESH_W, ABSENT, BEYOND_W, BEYOND_R]
    if remapped:
        tails += [REUSE_W, REUSE_R]
    edits = draw(st.dictionaries(st.integers(kept, n - 1), st.sampled_from(tails), max_size=n))
    if draw(st.booleans()):
        edits.update(dict.fromkeys(range(kept), OWN_R))
    return edits


def _pmds(folios: tuple[Folio, ...]) -> list[int]:
    """PMDs over the heads of folios."""
    return sorted({pmd_of(folio.pfn) for folio in folios})


def _split(folios: tuple[Folio, ...]) -> st.SearchStrategy[frozenset[int]]:
    return st.sets(st.sampled_from(_pmds(folios) or [0]), max_size=2).map(frozenset)


@st.composite
def _sections(draw: st.DrawFn, machine: Machine) -> Mapping[int, Section]:
    """Special memory, between the places for folios of 2 MiB and what boot took of a node."""
    kinds = [Section.OFFLINE, Section.DEVICE]
    if machine.line.hosts_memmap:
        kinds += [Section.OFFLINE_HOST, Section.HOST]
    numbers = [
        machine.node_pfns(node).start // SECTION_PAGES + number
        for node in range(machine.nodes)
        for number in range(4, 7)
    ]
    return draw(st.dictionaries(st.sampled_from(numbers), st.sampled_from(kinds), max_size=2))


@st.composite
def _damage(draw: st.DrawFn, machine: Machine) -> Mapping[int, Damage]:
    if not machine.folios or draw(st.booleans()):
        return {}
    pmds = draw(st.lists(st.sampled_from(_pmds(machine.folios)), max_size=2))
    split = machine.split_pmds
    # Without its head, the layout of a 1 GiB folio cannot be known from what its tails share.
    heads = {pmd_of(folio.pfn) for folio in machine.folios if folio.order == 18}
    return {
        pmd: draw(st.sampled_from(Damage)) if pmd in split - heads else Damage.READ_ONLY
        for pmd in pmds
    }


@st.composite
def _links(draw: st.DrawFn, machine: Machine) -> Mapping[LinkPlace, Link]:
    places = [
        LinkPlace(order, node, position)
        for order, node, folios in machine.lists()
        if folios
        for position in range(-1, len(folios))
    ]
    if not places or draw(st.booleans()):
        return {}
    links = draw(st.dictionaries(st.sampled_from(places), st.sampled_from(Link), max_size=2))
    # From its head, a list leads to its first folio anyway.
    return {
        place: link
        for place, link in links.items()
        if place.position >= 0 or link is not Link.FIRST
    }
