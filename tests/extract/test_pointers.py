# SPDX-License-Identifier: LGPL-2.1-or-later

"""Pointers of the kernel's that lead to a user's page: an extract holds none of it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from drgn import offsetof

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE, PMD
from drgn_vmemmap.target.kernel_log import text_memory
from tests.extract.machine import SECRET, Machine, has_secret

NAME = "head-reuse"
FOLIO = 0x2E00
"""A HugeTLB folio of the recorded kernel."""
USER = 0x6000
"""PFN of memory that is no HugeTLB folio's, whose first two struct pages are recorded."""
ANONYMOUS = 0xFFFF888123456701


def write(machine: Machine, address: int, value: int, size: int = 8) -> None:
    """Write to the kernel's virtual memory."""
    frame, start = machine.snapshot.walker.entry(address).frame, address % PAGE_SIZE
    assert frame is not None
    page = bytearray(machine.page(frame))
    page[start : start + size] = value.to_bytes(size, "little")
    machine.changed[frame] = bytes(page)


def write_member(machine: Machine, pfn: int, name: str, value: int) -> None:
    """Write to a struct page."""
    kernel = machine.snapshot.kernel
    member = kernel.page.members[name]
    write(machine, machine.snapshot.geometry.address(pfn) + member.offset, value, member.size)


def value_of(machine: Machine, pfn: int, name: str) -> int:
    return machine.snapshot.kernel.page.value(machine.snapshot.struct_pages(pfn), name)


def anonymous(machine: Machine) -> int:
    """A page of a process; its PFN."""
    write_member(machine, USER, "mapping", ANONYMOUS)
    return USER


def tail_of_a_huge_page(machine: Machine) -> int:
    """A page in a transparent huge page of a process."""
    anonymous(machine)
    head = machine.snapshot.kernel.head_test.value
    write_member(machine, USER, "flags", value_of(machine, USER, "flags") | head)
    address = machine.snapshot.geometry.address(USER)
    write_member(machine, USER + 1, "compound_head", address | 1)
    return USER + 1


def in_the_buddy_allocator(machine: Machine) -> int:
    """A page that was freed, and still holds what its user left there."""
    mark = machine.snapshot.kernel.buddy_test
    assert mark is not None
    address = machine.snapshot.geometry.address(USER) + mark.offset
    write(machine, address, mark.value, mark.size)
    write_member(machine, USER, "private", 1)
    return USER + 1


def on_a_list_of_a_cpu(machine: Machine) -> int:
    """A page that was freed a moment ago: no reference, no mark, and its list's links."""
    write_member(machine, USER, "flags", value_of(machine, USER, "flags") & -(1 << 24))
    write_member(machine, USER, "mapping", 0)
    write_member(machine, USER, "page_type", 0xFFFFFFFF)
    write_member(machine, USER, "refcount", 0)
    write_member(machine, USER, "compound_head", 0xFFFF888000001000)
    return USER


def of_a_pipe(machine: Machine) -> int:
    """A page in use that has no mark of its user."""
    on_a_list_of_a_cpu(machine)
    write_member(machine, USER, "refcount", 1)
    return USER


def from_boot(machine: Machine) -> int:
    """Memory that boot kept for something: the command line, or the text of a large log."""
    of_a_pipe(machine)
    flags = value_of(machine, USER, "flags") & -(1 << 24)
    reserved = machine.snapshot.kernel.page_marks.reserved
    write_member(machine, USER, "flags", flags | reserved)
    return USER


def of_slab(machine: Machine) -> int:
    """A page of objects, some of which hold what users wrote."""
    of_a_pipe(machine)
    write_member(machine, USER, "page_type", 0xF5000000)
    return USER


def of_a_device(machine: Machine) -> int:
    """Memory of a device, which a file system gives to processes."""
    of_a_pipe(machine)
    kernel = machine.snapshot.kernel
    assert kernel.device_zone is not None
    flags = value_of(machine, USER, "flags") | kernel.device_zone << kernel.page_flags.zone_shift
    write_member(machine, USER, "flags", flags)
    return USER


def not_online(machine: Machine) -> int:
    """Memory that no allocator has got, or that was taken from them; its struct page says so."""
    address = machine.snapshot.geometry.address(USER)
    for word in range(address, address + 64, 8):
        write(machine, word, (1 << 64) - 1)
    return USER


def without_a_struct_page(machine: Machine) -> int:
    """Memory of which the dump does not say whose it is."""
    for pfn in range(USER, 2 * USER):
        try:
            machine.snapshot.struct_pages(pfn)
        except MissingMemory:
            return pfn
    raise AssertionError("all struct pages are recorded")


def in_a_hugetlb_folio(machine: Machine) -> int:
    """Memory of a process, in a HugeTLB folio."""
    return FOLIO + 1


def root_of_sections(machine: Machine, address: int) -> None:
    """A page of sections is said to be at the user's page."""
    write(machine, machine.snapshot.kernel.sections.roots + 8 * 5, address)


def list_of_failed_pages(machine: Machine, address: int) -> None:
    """A folio's failed memory is said to be listed in the user's page."""
    poison = machine.snapshot.kernel.poison
    assert poison.list is not None
    write_member(machine, FOLIO, "flags", value_of(machine, FOLIO, "flags") | poison.flag)
    where = machine.snapshot.geometry.address(FOLIO) + poison.list.offset
    write(machine, where, address + 256)


def section_usage(machine: Machine, address: int) -> None:
    """What says which parts of a section have a memmap is said to be in the user's page."""
    sections, snapshot = machine.snapshot.kernel.sections, machine.snapshot
    root = int.from_bytes(snapshot.read(sections.roots, 8), "little")
    flags = sections.section.value(snapshot.read(root, PAGE_SIZE), "section_mem_map")
    write(machine, root, flags & ~(sections.early | sections.online))
    write(machine, root + sections.section.offset("usage"), address + 256)


def mapped(machine: Machine, pfn: int) -> int:
    """Map a page by a large leaf of the direct map's, near the sections; its virtual address."""
    snapshot = machine.snapshot
    near = int.from_bytes(snapshot.read(snapshot.kernel.sections.roots, 8), "little")
    address = (near & -(1 << 30)) + (32 << 21)
    leaf = snapshot.walker.entry(address)
    assert leaf.raw is not None and leaf.level is PMD
    table = bytearray(machine.page(leaf.raw_address >> PAGE_SHIFT))
    entry = leaf.raw & ~((1 << 52) - (1 << 21)) | (pfn >> 9 << 21)
    struct.pack_into("<Q", table, leaf.raw_address % PAGE_SIZE, entry)
    machine.changed[leaf.raw_address >> PAGE_SHIFT] = bytes(table)
    return address + (pfn % 512 << PAGE_SHIFT)


@pytest.mark.long
@pytest.mark.parametrize(
    ("point", "owner", "compress"),
    (
        (root_of_sections, anonymous, False),
        (root_of_sections, tail_of_a_huge_page, True),
        (root_of_sections, in_a_hugetlb_folio, False),
        (list_of_failed_pages, tail_of_a_huge_page, False),
        (list_of_failed_pages, in_a_hugetlb_folio, False),
        (section_usage, anonymous, False),
        (root_of_sections, in_the_buddy_allocator, False),
        (root_of_sections, on_a_list_of_a_cpu, False),
        (root_of_sections, of_a_pipe, False),
        (root_of_sections, from_boot, False),
        (list_of_failed_pages, from_boot, False),
        (section_usage, from_boot, False),
        (root_of_sections, of_slab, False),
        (root_of_sections, of_a_device, False),
        (root_of_sections, not_online, False),
        (section_usage, of_a_pipe, False),
        (root_of_sections, without_a_struct_page, False),
        (section_usage, without_a_struct_page, False),
    ),
)
def test_a_users_page_that_a_pointer_leads_to_is_withheld(
    point: Callable[[Machine, int], None],
    owner: Callable[[Machine], int],
    compress: bool,
    tmp_path: Path,
) -> None:
    machine = Machine(NAME)
    pfn = owner(machine)
    machine.changed[pfn] = SECRET
    point(machine, mapped(machine, pfn))
    path = tmp_path / "vmcore"
    written = extract(machine.program(), str(path), compress)
    assert not has_secret(path)
    assert [withheld.frame for withheld in written.withheld] == [pfn]


@pytest.mark.long
@pytest.mark.parametrize("name", (NAME, "shared-tail"))
def test_the_logs_text_that_a_pointer_leads_to_is_withheld(name: str, tmp_path: Path) -> None:
    """It is in the kernel's image, of which the rest may be written."""
    machine = Machine(name)
    text = machine.recorded.symbol("__log_buf").address
    write_ring(machine, machine.recorded.symbol("printk_rb_static").address, text, 17)
    page = (text + PAGE_SIZE) & -PAGE_SIZE
    frame = machine.snapshot.walker.entry(page).frame
    assert frame is not None and frame in machine.snapshot.kernel.image
    machine.changed[frame] = SECRET
    root_of_sections(machine, page)
    path = tmp_path / "vmcore"
    written = extract(machine.program(), str(path), compress=False)
    assert not has_secret(path)
    assert [withheld.frame for withheld in written.withheld] == [frame]


def test_a_size_of_the_log_that_cannot_be_takes_no_memory() -> None:
    machine = Machine(NAME)
    address = machine.recorded.symbol("printk_rb_static").address
    write_ring(machine, address, 0, size_bits=1 << 31)
    prog = machine.program()
    discover(prog)
    tracemalloc.start()
    try:
        assert text_memory(prog) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def write_ring(machine: Machine, address: int, text: int, size_bits: int) -> None:
    """Write where the ring of the log has its text."""
    ring = machine.recorded.type("struct printk_ringbuffer")
    for member, value, size in (("data", text, 8), ("size_bits", size_bits, 4)):
        write(machine, address + offsetof(ring, f"text_data_ring.{member}"), value, size)
