# SPDX-License-Identifier: LGPL-2.1-or-later

"""The contents of a struct page: flags and page type by name, counts, mapping, link to a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drgn_vmemmap.hugetlb.tails import FIRST_PLAIN
from drgn_vmemmap.kernel.page_names import PageNames
from drgn_vmemmap.kernel.structs import Member
from drgn_vmemmap.vmemmap.owners import NO_PAGE_TYPE, POISON, TAIL, head_of_tail
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_LINKS = ("compound_info", "compound_head")

# Beginnings of the names of members that struct folio has for each of its first struct pages.
_OF_EACH_PAGE = ("_flags_", "_head_", "__head", "_mapcount_", "_refcount_", "_private_")

# Members of a page that a folio's may take the place of.
_OWN = ("mapping", "_mapcount")

_FIRST_TAILS = range(1, FIRST_PLAIN)


class PageContents(NamedTuple):
    """The members of a struct page; ``None`` for one that this kernel does not have."""

    flags: int
    flag_names: list[str]
    page_type: str | None
    """Its page type by the kernel's name, or in hex if that is not known."""
    refcount: int | None
    mapcount: int | None
    mapping: int | None
    link: int | None
    """Raw ``compound_head``, or ``compound_info`` since v7.1."""
    link_name: str
    """Which of the two it is."""
    head: int | None
    """PFN that the link of a tail leads to; ``None`` if it is no tail, or leads nowhere."""
    of_folio: Sequence[tuple[str, int]] = ()
    """
    In a folio's first tails, the folio's members that lie there, and their values. The tail's own
    members in their place are ``None``.
    """
    is_of_device: bool = False
    """Whether it is in ``ZONE_DEVICE``."""

    @property
    def is_tail(self) -> bool:
        """Whether it calls itself a tail."""
        return self.link is not None and bool(self.link & TAIL)

    @property
    def is_poisoned(self) -> bool:
        """Whether nobody uses it (``PagePoisoned()``), whatever its other words are."""
        return self.flags == POISON


class ContentsReader:
    """Takes struct pages apart."""

    def __init__(self, snapshot: Snapshot, names: PageNames) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._names = names
        self._members = dict(names.page)

    def parse(self, page: bytes, pfn: int, in_head_page: bool = False) -> PageContents:
        """
        :param page: Bytes of the struct page.
        :param pfn: PFN that it describes.
        :param in_head_page: It was read from the frame of its folio's head, in which the folio has
            its members, whichever vmemmap page that frame is seen through.
        """
        flags = self._kernel.page.value(page, "flags")
        mapcount, page_type = self._mapcount_or_type(page)
        link = self._value(page, _LINKS)
        head = head_of_tail(self._snapshot, pfn, link) if link and link & TAIL else None
        tail = 0 if head is None else pfn - head
        if in_head_page:
            tail %= self._snapshot.geometry.page_size // self._kernel.page.size
        shared = self._shared_with_folio(tail)
        return PageContents(
            flags=flags,
            # The second page's low byte is the folio's order, and its other flags are the folio's.
            flag_names=[] if tail == 1 else self._flag_names(flags),
            page_type=None if "_mapcount" in shared else page_type,
            refcount=_signed(self._value(page, ("_refcount",))),
            mapcount=None if "_mapcount" in shared else mapcount,
            mapping=None if "mapping" in shared else self._value(page, ("mapping",)),
            link=link,
            link_name=next((name for name in _LINKS if name in self._members), ""),
            head=head,
            of_folio=list(self._of_folio(page, tail)),
            is_of_device=self._kernel.page_flags.zone(flags) == self._kernel.device_zone,
        )

    def _flag_names(self, flags: int) -> list[str]:
        return [name for bit, name in self._names.flags if flags >> bit & 1]

    def _of_folio(self, page: bytes, tail: int) -> Iterator[tuple[str, int]]:
        """
        The members of a folio that one of its first tails holds, and their values.

        :param tail: Which tail it is; 0 is the head.
        """
        if tail not in _FIRST_TAILS:
            return
        start, order = tail * self._kernel.page.size, self._kernel.order
        if start <= order.offset < start + self._kernel.page.size:
            yield "order", _read(page, order._replace(offset=order.offset - start))
        names: dict[Member, list[str]] = {}
        for name, member in self._folio_members(tail):
            if member.is_number:
                names.setdefault(member, []).append(name)
        for member, alike in names.items():
            yield " or ".join(alike), _read(page, member)

    def _folio_members(self, tail: int) -> Iterator[tuple[str, Member]]:
        """The members of ``struct folio`` in one of its first tails, from its beginning on."""
        start = tail * self._kernel.page.size
        for name, member in self._names.folio:
            offset = member.offset - start
            if 0 <= offset < self._kernel.page.size and not name.startswith(_OF_EACH_PAGE):
                yield name, member._replace(offset=offset)

    def _shared_with_folio(self, tail: int) -> set[str]:
        """The members of a page in whose place one of a folio's first tails holds the folio's."""
        if tail not in _FIRST_TAILS:
            return set()
        own = {name: self._members[name] for name in _OWN if name in self._members}
        if not self._names.folio:
            return set(own)  # before v5.16, struct page has the folio's members, too
        members = [member for _, member in self._folio_members(tail)]
        return {
            name
            for name, place in own.items()
            if any(each.covers(place.offset) for each in members)
        }

    def _value(self, page: bytes, names: Sequence[str]) -> int | None:
        member = next((self._members[name] for name in names if name in self._members), None)
        return None if member is None else _read(page, member)

    def _mapcount_or_type(self, page: bytes) -> tuple[int | None, str | None]:
        """The count of mappings or the page type, which share a word; ``None`` for the other."""
        raw = self._value(page, ("_mapcount",))
        if raw is None or raw == NO_PAGE_TYPE:
            return (None if raw is None else 0), None
        if raw >> 31 and "page_type" in self._members:
            return None, self._kernel.page_marks.type_name(raw) or f"page_type {raw:#010x}"
        signed = _signed(raw)
        return (None if signed is None else signed + 1), None


def usage(contents: PageContents) -> str:
    """Whether a page is in use, by its own struct page, in words."""
    if contents.is_poisoned:
        return "its struct page is poisoned (page_init_poison()): nobody uses it"
    count = contents.refcount
    kind = f", type {contents.page_type}" if contents.page_type else ""
    if count is None:
        return f"reference count unknown{kind}"
    if count > 0:
        return f"in use, reference count {count}{kind}"
    if count < 0:
        return f"reference count {count}: more references were dropped than taken{kind}"
    # The allocator clears PG_head before it takes pages back.
    if kind or "head" in contents.flag_names:
        return f"reference count 0 (frozen){kind}"
    if contents.is_of_device:
        return "reference count 0: memory of a device that nothing uses"
    return "reference count 0: frozen, on a per-CPU list, or on its way to the buddy allocator"


def _read(page: bytes, member: Member) -> int:
    return int.from_bytes(page[member.offset : member.offset + member.size], "little")


def _signed(value: int | None) -> int | None:
    """A 32-bit count, which is below zero where too many references were dropped."""
    return None if value is None else value - (value >> 31 << 32)
