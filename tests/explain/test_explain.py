# SPDX-License-Identifier: LGPL-2.1-or-later

"""What an address is to the vmemmap, on images of every layout and on recorded kernels."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drgn_vmemmap import discover
from drgn_vmemmap.explain.boot import Boot
from drgn_vmemmap.explain.explainer import Explainer
from drgn_vmemmap.explain.explanation import Explanation
from drgn_vmemmap.explain.log import LogExplanation, explain_log
from drgn_vmemmap.explain.query import AddressKind, parse
from drgn_vmemmap.explain.text.lines import logical_lines
from drgn_vmemmap.hvo.verdict import format_ranges
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.output.explanation import text
from drgn_vmemmap.output.explanation_document import document
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.oracles.page_tables import ReferenceWalker
from tests.support import open_vmcore, recorded, vmcore, vmemmap
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.layouts import REUSED_PAGE
from tests.synthetic.model import (
    ABSENT,
    BEYOND_W,
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    REUSE_W,
    Damage,
    Folio,
    Machine,
    Vpage,
)
from tests.synthetic.physical import LARGE, PAGE_SIZE, WRITABLE
from tests.synthetic.strategies import machines

OPTIMIZED, UNOPTIMIZED = FIRST_FOLIO, FIRST_FOLIO + 512

every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)


def image(release: str, edits: dict[int, Vpage] | None = None) -> Image:
    folios = (Folio(OPTIMIZED, edits=edits or {}), Folio(UNOPTIMIZED, remapped=False))
    return Image(Machine(line=LINES[release], folios=folios))


def explained(of: Image, what: str) -> Explanation:
    return Explainer.of_program(of.prog).explain(parse(what))


def at(of: Image, pfn: int, offset: int = 0) -> Explanation:
    return explained(of, f"{of.machine.page_address(pfn) + offset:#x}")


def backs(explanation: Explanation) -> list[tuple[int | None, str]]:
    """The folios whose vmemmap the frame backs, and which pages of it."""
    return [(each.folio, format_ranges(each.pages)) for each in explanation.mapping.mappers]


# Struct pages.


@every_layout
def test_a_head_page_is_named_and_may_be_written(release: str) -> None:
    explanation = at(image(release), OPTIMIZED)
    assert explanation.page is not None and explanation.page.folio is not None
    assert (explanation.page.pfn, explanation.page.role) == (OPTIMIZED, "head")
    assert explanation.page.folio.folio.pfn == OPTIMIZED
    assert explanation.write.startswith("changes this struct page")


@every_layout
def test_a_write_to_a_shared_tail_faults(release: str) -> None:
    explanation = at(image(release), OPTIMIZED + 5 * 64 + 3)
    assert explanation.page is not None
    assert (explanation.page.role, explanation.page.vmemmap_page) == ("tail", 5)
    assert "0x0003" in explanation.write
    assert "many share" in explanation.read


@every_layout
def test_the_first_struct_page_of_a_shared_page_is_a_fake_head_where_heads_are_reused(
    release: str,
) -> None:
    explanation = at(image(release), OPTIMIZED + 5 * 64)
    assert explanation.page is not None
    assert explanation.page.role == ("fake head" if release == "6.12.0" else "tail")


@every_layout
def test_a_write_to_a_writable_tail_goes_unnoticed(release: str) -> None:
    explanation = at(image(release, {5: REUSE_W}), OPTIMIZED + 5 * 64 + 3)
    assert explanation.write.startswith("goes unnoticed")


@every_layout
def test_a_struct_page_of_an_unoptimized_folio_is_its_own(release: str) -> None:
    explanation = at(image(release), UNOPTIMIZED + 5 * 64 + 3)
    assert explanation.read == "gets this struct page"
    assert explanation.write.startswith("changes this struct page")


def test_the_member_that_an_address_lies_in_is_named() -> None:
    explanation = at(image("6.12.0"), OPTIMIZED + 70, 52)
    assert explanation.page is not None
    assert (explanation.page.offset, explanation.page.members) == (52, ["_refcount"])


@every_layout
def test_of_a_tail_the_link_to_its_head_is_named(release: str) -> None:
    explanation = at(image(release), OPTIMIZED + 70, 8)
    assert explanation.page is not None
    assert explanation.page.members == [LINES[release].compound_member]
    assert "lru" in (at(image(release), OPTIMIZED, 8).page or explanation.page).members


def test_of_a_folios_first_tails_the_folios_members_are_named() -> None:
    explanation = at(image("6.12.0"), OPTIMIZED + 1)
    assert explanation.page is not None and explanation.page.members == ["_flags_1"]


@pytest.mark.parametrize("pfn", (OPTIMIZED - 1, UNOPTIMIZED + 512))
def test_struct_pages_beside_a_folio_are_not_its_own(pfn: int) -> None:
    explanation = at(image("6.12.0"), pfn)
    assert explanation.page is not None and explanation.page.folio is None


# Frames.


@pytest.mark.parametrize(
    ("release", "index", "seen"), (("5.15.0", 1, "1-7"), ("6.12.0", 0, "0-7"), ("7.2.0", 1, "1-7"))
)
def test_who_maps_the_reuse_frame_is_reported(release: str, index: int, seen: str) -> None:
    of = image(release)
    frame = of.frames[OPTIMIZED][index]
    for what in (f"pfn:{frame:#x}", f"phys:{(frame or 0) << 12:#x}"):
        assert backs(explained(of, what)) == [(OPTIMIZED, seen)]
    assert backs(at(of, OPTIMIZED + 3 * 64)) == [(OPTIMIZED, seen)]


def test_a_zones_tail_frame_is_seen_by_all_optimized_folios_of_the_zone() -> None:
    pfns = [FIRST_FOLIO + 512 * number for number in range(20)]
    folios = tuple(Folio(pfn, remapped=pfn != pfns[3]) for pfn in pfns)
    of = Image(Machine(line=LINES["7.2.0"], folios=folios))
    explanation = at(of, pfns[10] + 100)
    assert explanation.mapping.keeper == "zone 1 of node 0, for the tails of folios of order 9"
    assert (explanation.mapping.count, explanation.mapping.pages) == (19, 19 * 7)
    assert backs(explanation) == [(pfn, "1-7") for pfn in pfns[:9] if pfn != pfns[3]]
    assert f"pages 1-7 of each of folios {pfns[0]:#x}, {pfns[1]:#x}" in text(explanation)
    assert "in 11 more places" in text(explanation)


def test_the_frame_of_an_unoptimized_folio_backs_its_page_alone() -> None:
    explanation = at(image("6.12.0"), UNOPTIMIZED + 3 * 64)
    assert backs(explanation) == [(UNOPTIMIZED, "3")]
    assert "vmemmap page 3 of folio" in text(explanation)


@every_layout
def test_a_frame_of_two_folios_is_reported_and_a_write_there_is_not_called_harmless(
    release: str,
) -> None:
    of = image(release)
    of.write_entry(UNOPTIMIZED, 3, of.entry(OPTIMIZED, 0))
    for pfn in (UNOPTIMIZED + 3 * 64, OPTIMIZED):
        explanation = at(of, pfn)
        assert {folio for folio, _ in backs(explanation)} == {OPTIMIZED, UNOPTIMIZED}
        assert explanation.write.startswith("goes unnoticed")


def test_a_frame_that_backs_vmemmap_of_no_folio_is_reported_with_its_pfns() -> None:
    of = image("6.12.0")
    of.write_entry(UNOPTIMIZED, 8, of.entry(UNOPTIMIZED, 3))
    explanation = at(of, UNOPTIMIZED + 3 * 64)
    assert backs(explanation) == [(UNOPTIMIZED, "3"), (None, "")]
    assert explanation.mapping.mappers[1].pfns == (UNOPTIMIZED + 512, UNOPTIMIZED + 575)
    assert f"of PFNs {UNOPTIMIZED + 512:#x} to {UNOPTIMIZED + 575:#x}" in text(explanation)


def test_a_freed_frame_is_said_to_be_free() -> None:
    of = image("6.12.0")
    freed = of.memmap.boot_frame(of.memmap.number(OPTIMIZED) + 3)
    explanation = explained(of, f"pfn:{freed:#x}")
    assert (explanation.frame_state or "").startswith("free, in the buddy allocator")
    assert backs(explanation) == []


def test_an_address_of_the_direct_map_is_that_of_its_frame() -> None:
    of = image("6.12.0")
    frame = of.frames[OPTIMIZED][0] or 0
    explanation = explained(of, f"{of.machine.page_offset + frame * PAGE_SIZE:#x}")
    assert explanation.place is AddressKind.DIRECT_MAP
    assert explanation.frame == frame
    assert backs(explanation) == [(OPTIMIZED, "0-7")]


def test_a_frame_comes_with_the_explanation_of_its_struct_page() -> None:
    of = image("6.12.0")
    explanation = explained(of, f"pfn:{OPTIMIZED + 200:#x}")
    assert explanation.page is not None and explanation.page.role == "tail"
    inner = explanation.of_page
    assert inner is not None and inner.entry is not None
    assert inner.what.address == of.machine.page_address(OPTIMIZED + 200)
    assert inner.entry.raw == of.entry(OPTIMIZED, 3)
    assert backs(inner) == [(OPTIMIZED, "0-7")]
    assert "0x0003" in inner.write


# Walks.


@pytest.mark.parametrize("levels", (4, 5))
def test_the_walk_is_shown_level_by_level(levels: int) -> None:
    of = Image(Machine(levels=levels, folios=(Folio(OPTIMIZED),)))
    explanation = at(of, OPTIMIZED + 64)
    names = [step.level.name for step in explanation.steps]
    assert names == [*(["PGD", "P4D"] if levels == 5 else ["PGD"]), "PUD", "PMD", "PTE"]
    last = explanation.steps[-1]
    assert (last.raw, last.raw_address) == (of.entry(OPTIMIZED, 1), of.entry_address(OPTIMIZED, 1))
    assert not last.access.writable
    assert f"{last.raw:016x}" in text(explanation)


def test_a_walk_that_ends_early_is_shown_to_its_end() -> None:
    of = image("6.12.0")
    of.write_entry(OPTIMIZED, 0, 0, level="PMD")
    explanation = at(of, OPTIMIZED + 64)
    assert [step.level.name for step in explanation.steps][-1] == "PMD"
    assert "mapped to no memory: PMD: not present" in text(explanation)
    assert not explanation.incomplete


@pytest.mark.parametrize(
    ("edit", "level", "read", "write"),
    (
        (0, "PTE", "error code 0x0000, not-present page", "error code 0x0002, not-present page"),
        (0, "PMD", "error code 0x0000, not-present page", "error code 0x0002, not-present page"),
        (~WRITABLE, "PTE", "gets this struct page", "error code 0x0003, permissions violation"),
        (~WRITABLE, "PMD", "gets this struct page", "error code 0x0003, permissions violation"),
        (~0, "PTE", "gets this struct page", "changes this struct page"),
    ),
)
def test_what_an_access_does_depends_on_all_levels(
    edit: int, level: str, read: str, write: str
) -> None:
    of = image("6.12.0")
    of.write_entry(UNOPTIMIZED, 3, of.entry(UNOPTIMIZED, 3, level) & edit, level)
    explanation = at(of, UNOPTIMIZED + 3 * 64)
    assert read in explanation.read
    assert write in explanation.write


def test_a_reserved_bit_faults() -> None:
    of = Image(Machine(levels=5, folios=(Folio(OPTIMIZED),)))
    address = of.tables.entry_address(of.machine.page_address(OPTIMIZED), "P4D")
    of.memory.write_u64(address, of.memory.read_u64(address) | LARGE)
    explanation = at(of, OPTIMIZED)
    assert "0x0009, reserved bit violation" in explanation.read
    assert "0x000b, reserved bit violation" in explanation.write


@pytest.mark.parametrize("edit", (ABSENT, BEYOND_W))
def test_a_page_without_memory_is_not_called_a_struct_page(edit: Vpage) -> None:
    explanation = at(image("6.12.0", {3: edit}), OPTIMIZED + 3 * 64)
    assert "struct page" not in explanation.read + explanation.write
    assert explanation.frame_state is None


def test_an_entry_that_is_not_in_the_dump_is_not_guessed() -> None:
    of = image("6.12.0")
    of.drop_frame(of.entry_address(OPTIMIZED, 0) >> 12)
    explanation = at(of, OPTIMIZED + 64)
    assert explanation.steps[-1].raw is None
    assert explanation.write.startswith("is not known")
    assert explanation.incomplete
    assert "not in the dump" in text(explanation)


def test_a_table_that_is_not_in_the_dump_may_hide_who_else_sees_a_frame() -> None:
    far = FIRST_FOLIO + 64 * 512
    folios = (Folio(OPTIMIZED), Folio(far))
    damage = {far * 64 >> 21: Damage.MISSING}
    explanation = at(Image(Machine(folios=folios, damage=damage)), OPTIMIZED + 64)
    assert backs(explanation) == [(OPTIMIZED, "0-7")]
    assert explanation.incomplete
    assert "perhaps backs more vmemmap" in text(explanation)


def test_whose_page_it_is_is_not_guessed_without_the_head_page() -> None:
    of = Image(Machine(folios=(Folio(OPTIMIZED), Folio(UNOPTIMIZED, remapped=False))))
    of.drop_frame(of.frames[OPTIMIZED][0] or 0)
    # Nor does a list show it.
    of.write(of.list_head(9, 0), of.list_head(9, 0))
    explanation = at(of, OPTIMIZED + 100)
    assert explanation.page is not None
    assert (explanation.page.folio, explanation.page.known) == (None, False)
    assert explanation.incomplete
    assert "or not" in text(explanation)


# Random machines.


def vmemmap_of(of: Image) -> Iterator[tuple[int, int | None]]:
    """Each page of the vmemmap by its address, and the frame backing it, read the slow way."""
    machine = of.machine
    walker = ReferenceWalker(
        of.memory,
        machine.levels,
        of.physical(of.variables["hstates"][1]) >> 21 << 21,
        machine.encryption_mask,
        machine.max_pfn,
    )
    for address in range(machine.vmemmap, machine.page_address(machine.max_pfn), PAGE_SIZE):
        yield address, walker.walk(address).frame


@settings(max_examples=25)
@given(machines(broken=True), st.data())
def test_all_pages_that_are_mapped_to_a_frame_are_found(
    machine: Machine, data: st.DataObject
) -> None:
    of = Image(machine)
    seen: Counter[int] = Counter()
    mapped = dict(vmemmap_of(of))
    seen.update(frame for frame in mapped.values() if frame is not None)
    explains = Explainer.of_program(of.prog)
    for address in data.draw(st.lists(st.sampled_from(sorted(mapped)), min_size=1, max_size=8)):
        explanation = explains.explain(parse(f"{address + 52:#x}"))
        assert explanation.frame == mapped[address]
        assert explanation.place is AddressKind.VMEMMAP
        frame = explanation.frame
        if frame is not None and frame < machine.max_pfn:
            assert explanation.mapping.pages == seen[frame]
            assert explains.explain(parse(f"pfn:{frame:#x}")).mapping.pages == seen[frame]


@settings(max_examples=25)
@given(machines(broken=True))
def test_each_vmemmap_page_is_said_to_be_of_its_folio(machine: Machine) -> None:
    of = Image(machine)
    explains = Explainer.of_program(of.prog)
    mapped = dict(vmemmap_of(of))
    for report in of.examine().folios:
        start = machine.page_address(report.folio.pfn)
        for index in range(8):
            address = start + index * PAGE_SIZE
            pfn, offset = divmod(address - machine.vmemmap, machine.page_size)
            page = explains.explain(parse(f"{address:#x}")).page
            assert page is not None
            assert (page.pfn, page.offset, page.folio) == (pfn, offset, report)
            assert page.vmemmap_page == index
            shows_the_head = (
                offset == 0
                and mapped[address] is not None
                and mapped[address] == mapped[start]
                and REUSED_PAGE.get(report.judgement.layout) == 0
            )
            other = "fake head" if shows_the_head else "tail"
            assert page.role == ("head" if index == 0 else other)


# What is no such address.


@pytest.mark.parametrize(
    "what",
    ("", "hello", "pfn:", "pfn:x", "phys:-1", "12", "0x", "pfn:1e99z", "0x" + "f" * 17, "\x1b[31m"),
)
def test_what_is_no_address_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="no address") as refused:
        parse(what)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize(
    ("what", "physical"),
    (
        ("pfn:0x2c00", 0x2C00000),
        ("pfn:02c00", 0x2C00000),  # as "Bad page state" has it
        ("pfn:2c00", 0x2C00000),
        ("PFN:0X2C00", 0x2C00000),
        ("pfn:7", 0x7000),
        ("phys:0x2c00123", 0x2C00123),
    ),
)
def test_numbers_are_read_as_the_kernel_writes_them(what: str, physical: int) -> None:
    assert parse(what) == (what, None, physical)


def test_a_number_that_can_be_read_in_two_ways_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="pfn:0x11264 or pfn:0x2c00"):
        parse("pfn:11264")


def test_a_number_beyond_all_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="52 bits"):
        parse("pfn:0x10000000000")


@pytest.mark.parametrize(
    ("what", "place"),
    (
        ("0x1234", AddressKind.USER),
        ("00007fffa20ace70", AddressKind.USER),
        ("0x8000000000000000", AddressKind.NOT_CANONICAL),
        ("0xffffffffff000000", AddressKind.KERNEL),
        ("phys:0xfffffffffffff", AddressKind.BEYOND_MEMORY),
    ),
)
def test_other_addresses_are_named_for_what_they_are(what: str, place: AddressKind) -> None:
    explanation = explained(image("6.12.0"), what)
    assert explanation.place is place
    assert not explanation.concerns_hugetlb
    assert not explanation.incomplete
    assert place.value in text(explanation)


def test_the_walk_to_any_address_of_the_kernel_is_shown() -> None:
    of = image("6.12.0")
    explanation = explained(of, f"{of.variables['hstates'][1]:#x}")
    assert explanation.place is AddressKind.KERNEL
    assert explanation.steps[-1].level.name == "PMD"
    assert explanation.frame == of.physical(of.variables["hstates"][1]) >> 12
    assert explanation.page is not None and explanation.page.known


def test_tables_in_a_circle_end() -> None:
    of = image("6.12.0")
    address = of.tables.entry_address(of.machine.page_address(OPTIMIZED), "PUD")
    raw = of.memory.read_u64(address)
    of.memory.write_u64(address, raw & 0xFFF | address & -PAGE_SIZE)
    explanation = at(of, OPTIMIZED)
    assert explanation.steps[-1].level.name in ("PMD", "PTE")


# Logs.


def log_of(*lines: str, of: Image | None = None) -> LogExplanation:
    prog = (of or image("6.12.0")).prog
    return explain_log(
        Explainer.of_program(prog), logical_lines("\n".join(lines)), Boot.of_program(prog)
    )


def test_what_a_log_names_is_explained_if_it_concerns_hugetlb() -> None:
    of = image("6.12.0")
    fault = of.machine.page_address(OPTIMIZED + 70) + 52
    log = [
        f"BUG: unable to handle page fault for address: {fault:016x}",
        "RAX: 0000000000000001 RBX: ffff888000001000",
        f"BUG: Bad page state in process cat  pfn:{UNOPTIMIZED + 3:05x}",
        "page: refcount:0 mapcount:0 mapping:00000000deadbeef index:0x0 pfn:0x1",
    ]
    found = log_of(*log, of=of)
    pfns = [explanation.page.pfn for explanation in found.explanations if explanation.page]
    assert pfns == [OPTIMIZED + 70, UNOPTIMIZED + 3]
    assert [each.what.text for each in found.others] == ["pfn:0x1"]


def test_a_fault_beside_the_vmemmap_is_counted() -> None:
    found = log_of(
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "Oops: general protection fault, probably for non-canonical address 0xdead000000000108",
    )
    assert (found.explanations, len(found.others)) == ([], 2)


def test_registers_that_point_into_the_same_struct_page_are_not_explained_again() -> None:
    of = image("6.12.0")
    page, other = (of.machine.page_address(OPTIMIZED + tail) for tail in (70, 90))
    found = log_of(
        f"BUG: unable to handle page fault for address: {page + 52:016x}",
        f"RAX: {page:016x} RBX: {other:016x} RCX: {page + 8:016x}",
        of=of,
    )
    addresses = [explanation.what.address for explanation in found.explanations]
    assert (addresses, found.others) == ([page + 52, other], [])


def test_a_bad_page_whose_struct_page_is_in_remapped_vmemmap_is_explained() -> None:
    """It is no folio's, but a remap that was never undone may be what made it bad."""
    of = image("6.12.0")
    of.write_entry(UNOPTIMIZED, 9, of.entry(OPTIMIZED, 3))
    line = f"BUG: Bad page state in process cat  pfn:{UNOPTIMIZED + 512 + 64:05x}"
    found = log_of(line, of=of)
    (explanation,) = found.explanations
    assert explanation.page is not None and explanation.page.folio is None
    assert explanation.of_page is not None
    assert backs(explanation.of_page)[0] == (OPTIMIZED, "0-7")
    assert found.others == []


@pytest.mark.parametrize(
    ("edits", "access", "allowed"),
    (
        ({}, "write access", False),
        ({}, "read access", True),
        ({5: REUSE_W}, "write access", True),
        ({5: FRESH_W}, "write access", True),
        ({5: ABSENT}, "read access", False),
        ({}, "instruction fetch", False),
        ({}, "something", None),
    ),
)
def test_whether_the_tables_agree_with_the_fault_is_reported(
    edits: dict[int, Vpage], access: str, allowed: bool | None
) -> None:
    of = image("6.12.0", edits)
    address = of.machine.page_address(OPTIMIZED + 5 * 64)
    (explanation,) = log_of(
        f"BUG: unable to handle page fault for address: {address:016x}",
        f"#PF: supervisor {access} in kernel mode",
        of=of,
    ).explanations
    assert explanation.logged is not None and explanation.logged.allowed_now is allowed
    assert ("what remains" in text(explanation)) == (allowed is True)
    assert document(explanation)["allowed_now"] is allowed


def test_a_log_that_names_very_much_takes_one_pass() -> None:
    of = image("6.12.0")
    walker = CountingWalker(of)
    snapshot = Snapshot(walker.kernel, walker.memory)
    snapshot.walker = walker
    explains = Explainer(snapshot, page_names(of.prog))
    walker.walks = 0
    lines = "\n".join(f"Memory failure: {OPTIMIZED + pfn:#x}: x" for pfn in range(1024))
    found = explain_log(explains, logical_lines(lines), Boot.of_program(of.prog))
    assert len(found.explanations) == 1024
    assert walker.walks < 100


class CountingWalker(Walker):
    """Counts how often all of the vmemmap is walked."""

    def __init__(self, of: Image) -> None:
        self.kernel = discover(of.prog)
        self.walks = 0
        super().__init__(ProgramMemory(of.prog), self.kernel.paging)

    def walk(self, start: int, end: int) -> Iterator[Any]:
        self.walks += end - start > GIB * 64 // PAGE_SIZE // 2
        return super().walk(start, end)


# The command, on a recorded kernel.


def run(
    *arguments: object, text: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    # A log may be bytes of any kind.
    return vmemmap(
        *("-c", vmcore("head-reuse"), "explain", *arguments),
        input=text.decode(errors="surrogateescape"),
        errors="surrogateescape",
        env={**os.environ, **environment},
    )


def test_a_folio_of_a_recorded_kernel_is_explained() -> None:
    prog = open_vmcore("head-reuse")
    kernel = discover(prog)
    report = recorded("head-reuse")
    folio = next(folio for folio in report["folios"] if folio["verdict"] == "optimized")
    tail = kernel.geometry.address(folio["pfn"] + 100) + 8
    done = run("--format", "json", f"{tail:x}")
    (explanation,) = json.loads(done.stdout)["explanations"]
    assert done.returncode == 0
    assert explanation["page"]["folio"] == folio["pfn"]
    assert explanation["page"]["members"] == ["compound_head"]
    assert explanation["frame"] == folio["reuse_frame"]
    assert [step["level"] for step in explanation["walk"]] == ["PGD", "P4D", "PUD", "PMD", "PTE"]
    (seen,) = explanation["seen_by"]
    assert (seen["folio"], seen["vmemmap_pages"]) == (folio["pfn"], "0-7")
    assert document(Explainer.of_program(prog).explain(parse(f"{tail:x}"))) == explanation


@pytest.mark.parametrize(
    ("offset", "members"),
    (
        (52, ["_refcount"]),
        (64 + 64, ["_flags_2"]),
        (3 * 64 + 16, ["_hugetlb_subpool"]),
        (100 * 64 + 56, ["memcg_data"]),
    ),
)
def test_members_have_the_names_of_the_kernels_own_types(offset: int, members: list[str]) -> None:
    prog = open_vmcore("head-reuse")
    explains = Explainer.of_program(prog)
    report = recorded("head-reuse")
    address = int(report["folios"][0]["head"], 16) + offset
    page = explains.explain(parse(hex(address))).page
    assert page is not None and page.members == members


def test_an_oops_from_a_mail_is_explained() -> None:
    mail = b"\x1b[31mBUG: Bad page state in process x  pfn:00001\x07\n\xff\xfe\n"
    done = run("--stdin", text=mail, PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 fault or PFN that the log names is neither")
    assert "\x1b" not in done.stdout


def test_an_empty_mail_names_nothing() -> None:
    assert run("--stdin").stdout == "the log names no fault and no PFN\n"


def test_without_its_log_a_dump_still_explains_what_was_asked() -> None:
    done = run("--dmesg", "0x1234")
    assert done.returncode == 3
    assert done.stdout.startswith("0x1234: in user space")
    assert len(done.stderr.splitlines()) == 1 and "kernel's log" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (((), "nothing"), (("x",), "no address"), (("pfn:100",), "pfn:0x100 or pfn:0x64")),
)
def test_a_wrong_question_gets_one_line(arguments: tuple[str, ...], reason: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and reason in done.stderr
