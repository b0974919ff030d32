# SPDX-License-Identifier: LGPL-2.1-or-later

"""What follows from a model for one folio: what can be seen of it, and the findings on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from tests.synthetic.image import Image
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.model import Backing, Damage, Folio, Machine, Vpage, hstate_name


class Found(NamedTuple):
    """A finding, without its words."""

    rule: str
    severity: str
    folio: int | None = None
    page: int | None = None
    """Index of the vmemmap page."""


@dataclass(frozen=True)
class Listed:
    """A folio as it is found: in which state, on which node, and whether its head can be read."""

    folio: Folio
    state: State
    node: int | None
    head: bool


class View:
    """What can be seen of one folio."""

    def __init__(self, image: Image, listed: Listed, counted: bool | None) -> None:
        """
        :param counted: Whether the counters have it; ``None`` if nobody can know.
        """
        self.counted = counted
        self.machine = machine = image.machine
        self.listed = listed
        self.folio = listed.folio
        self.frames = image.frames[self.folio.pfn]
        self.vpages = [_seen(machine, self.folio, i, v) for i, v in self._vpages()]
        self.shared = [index for index, vpage in self._seen() if vpage.backing is Backing.REUSE]
        self.layout = machine.layout if self.shared else Layout.NONE
        # Only sharing makes a second page one that must be writable.
        self.kept = KEPT.get(self.layout, 1)

    def _vpages(self) -> Iterator[tuple[int, Vpage]]:
        return enumerate(self.machine.vpages(self.folio))

    def _seen(self) -> Iterator[tuple[int, Vpage]]:
        return ((index, vpage) for index, vpage in enumerate(self.vpages) if vpage is not None)

    def _damaged(self, index: int) -> Damage | None:
        return self.machine.damage.get(self.machine.pmd(self.folio, index))

    @property
    def missing(self) -> bool:
        return any(vpage is None for vpage in self.vpages)

    @property
    def flag(self) -> bool | None:
        folio = self.folio
        if not self.listed.head or not self.machine.line.has_hugetlb_flags:
            return None
        return folio.remapped if folio.flag is None else folio.flag

    @property
    def verdict(self) -> str:
        seen, kept = [vpage for _, vpage in self._seen()], self.kept
        if self.missing:
            return "unreadable"
        if all(_is_own(vpage) and vpage.writable for vpage in seen):
            return "unoptimized"
        if (
            self.shared == list(range(kept, len(seen)))
            and all(_is_own(vpage) and vpage.writable for vpage in seen[:kept])
            and not any(vpage.writable for vpage in seen[kept:])
        ):
            # Which frame may be shared is known from the zone, which the head names.
            unknown = REUSED_PAGE.get(self.layout, 0) is None and not self.listed.head
            return "unreadable" if unknown else "optimized"
        return "partial" if self._is_partial else "inconsistent"

    @property
    def _is_partial(self) -> bool:
        """Whether it is half-way to being optimized or restored, and on no list or counter."""
        seen, shared = list(self._seen()), set(self.shared)
        return (
            self.counted is not True
            and bool(shared)
            and all(vpage.writable is not (index in shared) for index, vpage in seen)
            and all(_is_own(vpage) or index in shared for index, vpage in seen)
        )

    @property
    def _in_flight(self) -> bool:
        """Whether it is on its way into or out of the pool, or may well be."""
        half_way = self.verdict == "partial" or (
            self.verdict in ("optimized", "unoptimized")
            and self.flag is not None
            and self.flag is not (self.verdict == "optimized")
        )
        return self.counted is False or (self.counted is None and half_way)

    @property
    def mapped(self) -> list[tuple[int, Vpage]]:
        """The pages that are mapped, be it to a frame beyond memory."""
        return [(i, vpage) for i, vpage in self._seen() if vpage.backing is not Backing.ABSENT]

    @property
    def mapped_by(self) -> str | None:
        split = self.machine.split_pmds
        levels = {
            "pte" if self.machine.pmd(self.folio, index) in split else "pmd"
            for index, _ in self.mapped
        }
        return "mixed" if len(levels) > 1 else next(iter(levels), None)

    @property
    def tables(self) -> set[int]:
        """Numbers of the PMDs whose page table was read."""
        return {
            self.machine.pmd(self.folio, index)
            for index, _ in self._seen()
            if self._damaged(index) not in (Damage.ABSENT, Damage.BEYOND)
        } & self.machine.split_pmds

    def document(self) -> dict[str, Any]:
        folio = self.folio
        return {
            "pfn": folio.pfn,
            "head": hex(self.machine.page_address(folio.pfn)),
            "hstate": hstate_name(folio.order),
            "order": folio.order,
            "node": self.listed.node,
            "state": self.listed.state.value,
            "flag_optimized": self.flag,
            "verdict": self.verdict,
            "layout": self.layout.value,
            "mapped_by": self.mapped_by,
            "reuse_frame": self.frames[self.shared[0]] if self.shared else None,
            "shared": ranges(self.shared),
            "read_only": ranges([index for index, vpage in self.mapped if not vpage.writable]),
            "freed": len(self.shared),
        }

    # The rules, each with the indices at which it must fire; None for all of the folio.

    def findings(self) -> Iterator[Found]:
        rules: dict[str, Callable[[], Iterator[int | None]]] = {
            "not-present": self._not_present,
            "tail-writable": self._tail_writable,
            "head-read-only": self._head_read_only,
            "reuse-mismatch": self._reuse_mismatch,
            "flag-mismatch": self._flag_mismatch,
            "unreadable": self._unreadable,
            "off-list": self._off_list,
            "in-flight": self._is_in_flight,
        }
        severities = {"unreadable": "warning", "off-list": "info", "in-flight": "info"}
        for rule, indices in rules.items():
            for index in indices():
                yield Found(rule, severities.get(rule, "error"), self.folio.pfn, index)

    def _not_present(self) -> Iterator[int | None]:
        reported = set()
        for index, vpage in self._seen():
            pmd = self.machine.pmd(self.folio, index)
            if self._damaged(index) in (Damage.ABSENT, Damage.BEYOND):
                # One entry that stands for many pages.
                if pmd not in reported:
                    yield index
                reported.add(pmd)
            elif vpage.backing in (Backing.ABSENT, Backing.BEYOND):
                yield index

    def _tail_writable(self) -> Iterator[int | None]:
        return (index for index in self.shared if self._is_writable(index))

    def _head_read_only(self) -> Iterator[int | None]:
        return (i for i, vpage in self.mapped if i < self.kept and not vpage.writable)

    def _reuse_mismatch(self) -> Iterator[int | None]:
        if self.verdict == "partial":
            return
        for index, vpage in self.mapped:
            if index < self.kept or vpage.backing is Backing.REUSE:
                continue
            if self.shared or not vpage.writable:
                yield index

    def _flag_mismatch(self) -> Iterator[int | None]:
        if self.counted is True and self.verdict != "unreadable" and self.flag is (not self.shared):
            yield None

    def _unreadable(self) -> Iterator[int | None]:
        pmds = [self.machine.pmd(self.folio, index) for index in range(len(self.vpages))]
        reported = sorted(
            pmds.index(pmd) for pmd in set(pmds) if self.machine.damage.get(pmd) is Damage.MISSING
        )
        yield from reported
        if not reported and self.verdict == "unreadable":
            yield None

    def _off_list(self) -> Iterator[int | None]:
        if self.listed.state is State.OFF_LIST and not self._in_flight:
            yield None

    def _is_in_flight(self) -> Iterator[int | None]:
        if self._in_flight:
            yield None

    def _is_writable(self, index: int) -> bool:
        vpage = self.vpages[index]
        return vpage is not None and vpage.writable


def _is_own(vpage: Vpage) -> bool:
    return vpage.backing in (Backing.OWN, Backing.FRESH)


def _seen(machine: Machine, folio: Folio, index: int, vpage: Vpage) -> Vpage | None:
    """How a vmemmap page is mapped with all levels counted; ``None`` if that is not in the dump."""
    damage = machine.damage.get(machine.pmd(folio, index))
    if damage is Damage.MISSING:
        return None
    if damage in (Damage.ABSENT, Damage.BEYOND):
        return Vpage(Backing.ABSENT, False)
    return Vpage(vpage.backing, vpage.writable and damage is None)


def head_is_readable(machine: Machine, folio: Folio) -> bool:
    first = _seen(machine, folio, 0, machine.vpages(folio)[0])
    return (
        folio.head_in_dump
        and first is not None
        and first.backing not in (Backing.ABSENT, Backing.BEYOND)
    )


def ranges(indices: list[int]) -> str:
    """Indices as the kernel writes them."""
    there = set(indices)
    firsts = [index for index in indices if index - 1 not in there]
    lasts = [index for index in indices if index + 1 not in there]
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(firsts, lasts))
