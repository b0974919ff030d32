# SPDX-License-Identifier: LGPL-2.1-or-later

"""The contents of a struct page: flags and page type by name, counts, mapping, link to a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drgn_vmemmap.kernel.page_names import PageNames
from drgn_vmemmap.kernel.structs import Member
from drgn_vmemmap.vmemmap.owners import TAIL, head_of_tail
from drgn_vmemmap.vmemmap.snapshot import Snapshot

_LINKS = ("compound_info", "compound_head")

_NO_PAGE_TYPE = 0xFFFFFFFF


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

    @property
    def is_tail(self) -> bool:
        """Whether it calls itself a tail."""
        return self.link is not None and bool(self.link & TAIL)


class ContentsReader:
    """Takes struct pages apart."""

    def __init__(self, snapshot: Snapshot, names: PageNames) -> None:
        self._snapshot = snapshot
        self._kernel = snapshot.kernel
        self._names = names
        self._members = dict(names.page)

    def parse(self, page: bytes, pfn: int) -> PageContents:
        """
        :param page: Bytes of the struct page.
        :param pfn: PFN that it describes.
        """
        flags = self._kernel.page.value(page, "flags")
        mapcount, page_type = self._mapcount_or_type(page)
        link = self._value(page, _LINKS)
        return PageContents(
            flags=flags,
            flag_names=[name for bit, name in self._names.flags if flags >> bit & 1],
            page_type=page_type,
            refcount=_signed(self._value(page, ("_refcount",))),
            mapcount=mapcount,
            mapping=self._value(page, ("mapping",)),
            link=link,
            link_name=next((name for name in _LINKS if name in self._members), ""),
            head=head_of_tail(self._snapshot, pfn, link) if link and link & TAIL else None,
        )

    def _value(self, page: bytes, names: Sequence[str]) -> int | None:
        member = next((self._members[name] for name in names if name in self._members), None)
        return None if member is None else _read(page, member)

    def _mapcount_or_type(self, page: bytes) -> tuple[int | None, str | None]:
        """They share their place: a page with a type is not mapped by processes."""
        raw = self._value(page, ("_mapcount",))
        if raw is None or raw == _NO_PAGE_TYPE:
            return (None if raw is None else 0), None
        if raw >> 31 and "page_type" in self._members:
            return None, self._kernel.page_marks.type_name(raw) or f"page_type {raw:#010x}"
        signed = _signed(raw)
        return (None if signed is None else signed + 1), None


def usage(contents: PageContents) -> str:
    """Whether a page is in use, by its own struct page, in words."""
    count = contents.refcount
    kind = f", type {contents.page_type}" if contents.page_type else ""
    if count is None:
        return f"reference count unknown{kind}"
    if count > 0:
        return f"in use, reference count {count}{kind}"
    if count < 0:
        return f"reference count {count}: more references were dropped than taken{kind}"
    if kind:
        return f"reference count 0 (frozen){kind}"
    return "reference count 0: frozen, on a per-CPU list, or on its way to the buddy allocator"


def _read(page: bytes, member: Member) -> int:
    return int.from_bytes(page[member.offset : member.offset + member.size], "little")


def _signed(value: int | None) -> int | None:
    """A 32-bit count, which is below zero where too many references were dropped."""
    return None if value is None else value - (value >> 31 << 32)
