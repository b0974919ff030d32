# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What must be reported of a model.

All of it follows from what the model says was done to each folio; the image is only asked for the
numbers of frames that it chose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.oracles.view import Found, Listed, View, head_is_readable
from tests.synthetic.image import Image
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.model import (
    PMD_SHIFT,
    SECTION_PAGES,
    Backing,
    Damage,
    Folio,
    LinkPlace,
    Machine,
    Section,
    hstate_name,
)
from tests.synthetic.physical import PAGE_SIZE

COUNTED = ("folios", "optimized", "unoptimized", "partial", "inconsistent", "unreadable", "freed")


def listed(machine: Machine) -> tuple[list[Listed], list[Found]]:
    """All folios that can be found, and what is wrong with the lists."""
    found: dict[int, Listed] = {}
    broken = []
    for order, node, folios in machine.lists():
        for position, folio in enumerate([None, *folios], -1):
            if folio is not None:
                head = head_is_readable(machine, folio)
                place = machine.node(folio.pfn) if head else node
                found[folio.pfn] = Listed(folio, folio.state, place, head)
                if not head:
                    broken.append(Found("unreadable", "warning"))
                    break
            if LinkPlace(order, node, position) in machine.links:
                broken.append(Found("list-corrupt", "error"))
                break
        # The end of the list leads to those after the last place where it is broken.
        for position, folio in reversed([*enumerate(folios)]):
            is_broken = LinkPlace(order, node, position) in machine.links
            if folio.pfn in found or is_broken or not head_is_readable(machine, folio):
                break
            found[folio.pfn] = Listed(folio, folio.state, machine.node(folio.pfn), True)
    # Folios that no list leads to are found in the memmap itself.
    for folio in machine.folios:
        if folio.pfn not in found and head_is_readable(machine, folio):
            found[folio.pfn] = Listed(folio, State.OFF_LIST, machine.node(folio.pfn), True)
    return sorted(found.values(), key=lambda item: item.folio.pfn), broken


def _missing_sections(machine: Machine) -> Iterator[Found]:
    """Sections, each with a PMD of its own, in which a folio's head may be out of sight."""
    hidden = set()
    for folio in machine.folios:
        if not folio.head_in_dump:
            hidden.add(machine.pmd(folio, 0))
            # Where the head's frame is not in the dump, the tails that share it are not, either.
            if folio.remapped and REUSED_PAGE[machine.layout] == 0:
                hidden |= {
                    machine.pmd(folio, index)
                    for index, vpage in enumerate(machine.vpages(folio))
                    if vpage.backing is Backing.REUSE
                }
    gigantic = [f for f in machine.folios if f.order == 18 and head_is_readable(machine, f)]
    tails = {machine.pmd(folio, index) for folio in gigantic for index in range(512, 4096, 512)}
    unmapped = {r for r, d in machine.damage.items() if d in (Damage.ABSENT, Damage.BEYOND)}
    missing = {pmd for pmd, d in machine.damage.items() if d is Damage.MISSING}
    return (Found("unreadable", "warning") for _ in (hidden - unmapped) | (missing - tails))


def _count_mismatches(machine: Machine, found: list[Listed]) -> Iterator[Found]:
    """The counters count all folios that there are, found or not."""
    for order in machine.orders:
        folios = [folio for folio in machine.folios if folio.order == order and folio.counted]
        for node in (None, *sorted({machine.node(folio.pfn) for folio in folios})):
            there = [f for f in folios if node in (None, machine.node(f.pfn))]
            seen = [f for f in found if f.folio.order == order and node in (None, f.node)]
            free = [f for f in there if f.state is State.FREE]
            seen_free = [f for f in seen if f.state is State.FREE]
            off_list = sum(f.state is State.OFF_LIST for f in seen)
            for counted, known, may in ((there, seen, off_list), (free, seen_free, 0)):
                most = len(known)
                if counted is free and _loses_folios(machine, order, found):
                    most = len(machine.folios)
                if not len(known) - may <= len(counted) <= most:
                    yield Found("count-mismatch", "warning")


def _loses_folios(machine: Machine, order: int, found: list[Listed]) -> bool:
    """Whether there is a list of an order to some of whose folios neither end leads."""
    places = Counter((place.order, place.node) for place in machine.links)
    seen = {item.folio.pfn for item in found}
    for of_order, node, folios in machine.lists():
        obstacles = places[of_order, node] + sum(folio.pfn not in seen for folio in folios)
        if of_order == order and places[of_order, node] and obstacles > 1:
            return True
    return False


def _is_complete(broken: list[Found], machine: Machine) -> bool:
    """Whether the dump has all that shows folios: otherwise, nobody knows how many there are."""
    return not any(_missing_sections(machine)) and all(f.rule != "unreadable" for f in broken)


def views_of(image: Image) -> list[View]:
    """All folios that can be found."""
    machine = image.machine
    found, broken = listed(machine)
    complete = _is_complete(broken, machine)

    def counted(item: Listed) -> bool | None:
        if item.state is not State.OFF_LIST:
            return True
        if not complete:
            return None
        order, node = item.folio.order, item.node
        alike = [f for f in found if (f.folio.order, f.node) == (order, node)]
        on_none = sum(f.state is State.OFF_LIST for f in alike)
        by_kernel = sum(
            f.counted and (f.order, machine.node(f.pfn)) == (order, node) for f in machine.folios
        )
        more = len(alike) - by_kernel
        return True if more <= 0 else False if more >= on_none else None

    return [View(image, item, counted(item)) for item in found]


def document(
    image: Image, hstate: str | None = None, node: int | None = None, pfn: int | None = None
) -> dict[str, Any]:
    """The JSON document of the report, but for the tool's version and the findings."""
    machine = image.machine
    views = [
        view
        for view in views_of(image)
        if hstate in (None, hstate_name(view.folio.order))
        and node in (None, view.listed.node)
        and (pfn is None or pfn in view.folio.pfns)
    ]
    layout, built_in = machine.layout, machine.layout is not Layout.NONE
    power_of_two = not machine.page_size & (machine.page_size - 1)
    possible = sum(
        machine.vmemmap_pages(view.folio.order) - KEPT[layout]
        for view in views
        if built_in and power_of_two and view.verdict == "unoptimized"
    )
    tables: set[int] = set().union(*(view.tables for view in views)) if built_in else set()
    narrowed = (hstate, node, pfn) != (None, None, None)
    if built_in and not narrowed:
        tables |= _left_split(machine, views)
    totals = _counts(views)
    spent = len(tables) + len(image.tail_frames)
    return {
        "schema_version": 1,
        "kernel": {
            "release": machine.line.release,
            "live": False,
            "types_from": "dwarf",
            "page_size": PAGE_SIZE,
            "struct_page_size": machine.page_size,
            "paging_levels": machine.levels,
            "vmemmap_base": hex(machine.vmemmap),
            "hvo": {
                "built_in": built_in,
                "enabled": machine.enabled if built_in else None,
                "layout": layout.value,
            },
        },
        "hstates": [
            _hstate(machine, order, views, narrowed)
            for order in machine.orders
            if hstate in (None, hstate_name(order))
        ],
        "totals": {
            **totals,
            "freed_bytes": totals["freed"] * PAGE_SIZE,
            "page_tables": len(tables),
            "shared_tail_frames": len(image.tail_frames),
            "net_saved_bytes": (totals["freed"] - spent) * PAGE_SIZE,
            "still_possible_bytes": possible * PAGE_SIZE,
        },
        "folios": [view.document() for view in views],
        "others": list(_others(image.machine)),
        "unrecognised": [],
        "interrupted": False,
        "movement": None,
    }


def _others(machine: Machine) -> Iterator[dict[str, Any]]:
    """Memory with special vmemmap, in stretches."""
    # A device keeps two vmemmap pages of eight for each of 64 compound pages, or one if its zone
    # keeps the tails.
    freed = 64 * (6 if machine.line.device_tails is None else 7)
    kinds = {Section.HOST: ("self-hosted", 0), Section.DEVICE: ("device-dax", freed)}
    known = [(number, kinds[s]) for number, s in sorted(machine.sections.items()) if s in kinds]
    stretches = groupby(enumerate(known), lambda item: (item[1][0] - item[0], item[1][1]))
    for (_, (kind, freed)), stretch in stretches:
        numbers = [number for _, (number, _) in stretch]
        yield {
            "kind": kind,
            "pfn": numbers[0] * SECTION_PAGES,
            "pages": len(numbers) * SECTION_PAGES,
            "freed": freed * len(numbers),
            "freed_bytes": freed * len(numbers) * PAGE_SIZE,
        }


def findings(image: Image) -> Counter[Found]:
    """All that must be found, in no order."""
    found, broken = listed(image.machine)
    missing = list(_missing_sections(image.machine))
    complete = _is_complete(broken, image.machine)
    return Counter(
        [
            *broken,
            *missing,
            *(finding for view in views_of(image) for finding in view.findings()),
            *(_count_mismatches(image.machine, found) if complete else ()),
        ]
    )


def _left_split(machine: Machine, views: list[View]) -> set[int]:
    """PMDs of memory from boot that lead to a table, and under which no folio is described."""
    of_folios = {
        machine.pmd(view.folio, index)
        for view in views
        for index in range(machine.vmemmap_pages(view.folio.order))
    }
    from_boot = (None, Section.PREPARED)
    return {
        pmd
        for pmd in machine.split_pmds - of_folios
        if machine.damage.get(pmd) in (None, Damage.READ_ONLY)
        and machine.sections.get((pmd << PMD_SHIFT) // machine.page_size // SECTION_PAGES)
        in from_boot
    }


def _hstate(
    machine: Machine, order: int, views: list[View], narrowed: bool = False
) -> dict[str, Any]:
    folios = [folio for folio in machine.folios if folio.order == order]
    views = [view for view in views if view.folio.order == order]
    counted = {machine.node(folio.pfn) for folio in folios if folio.counted}
    nodes = set() if narrowed else counted
    nodes |= {view.listed.node for view in views if view.listed.node is not None}
    rows: list[int | None] = [*sorted(nodes)]
    rows += [None] * any(view.listed.node is None for view in views)
    n = machine.vmemmap_pages(order)
    return {
        "name": hstate_name(order),
        "order": order,
        **_counters(folios),
        "resv_huge_pages": 0,
        "max_huge_pages": sum(folio.counted for folio in folios),
        "vmemmap_pages": n,
        **_counts(views),
        "nodes": [
            {
                "node": node,
                **_counters([folio for folio in folios if machine.node(folio.pfn) == node]),
                "vmemmap_pages": n,
                **_counts([view for view in views if view.listed.node == node]),
            }
            for node in rows
        ],
    }


def _counters(folios: list[Folio]) -> dict[str, int]:
    """What the kernel counts."""
    return {
        "nr_huge_pages": sum(folio.counted for folio in folios),
        "free_huge_pages": sum(folio.state is State.FREE for folio in folios),
        "surplus_huge_pages": 0,
    }


def _counts(views: list[View]) -> dict[str, int]:
    verdicts = Counter(view.verdict for view in views)
    freed = sum(len(view.shared) for view in views)
    return {**{name: verdicts[name] for name in COUNTED}, "folios": len(views), "freed": freed}
