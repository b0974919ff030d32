# SPDX-License-Identifier: LGPL-2.1-or-later

"""What the struct pages of folios, and of memory that was given back, must hold."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.hugetlb.tails import FIRST_PLAIN, TAIL_MAPPING, Tails
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.target.memory import StridedRead
from tests.damage.edited import EditedKernel
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, NO_TYPE, ONE_OF_EACH_LAYOUT, Mark
from tests.synthetic.layouts import KEPT, REUSED_PAGE
from tests.synthetic.model import FIRST_FOLIO, FRESH_W, GIB, Folio, Machine, Section, pmd_of
from tests.synthetic.physical import PAGE_SHIFT

OPTIMIZED, RESTORED, GIVEN_BACK = FIRST_FOLIO, FIRST_FOLIO + 512, FIRST_FOLIO + 1024
UNSPLIT = FIRST_FOLIO + 64 * 512 * 2
FRESH = dict.fromkeys(range(1, 8), FRESH_W)
"""Vmemmap pages that a restore gave new frames."""

every_line = pytest.mark.parametrize("release", LINES)
every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)

Place = tuple[str, "int | None", "int | None"]


def image(release: str) -> Image:
    folios = (Folio(OPTIMIZED), Folio(RESTORED, remapped=False, edits=FRESH))
    return Image(Machine(line=LINES[release], folios=folios))


def errors(image: Image) -> list[Place]:
    return errors_of(verify(image.prog))


def errors_of(report: Report) -> list[Place]:
    found = (f for f in report.findings if f.severity.value == "error")
    return [(f.rule, f.folio, f.index) for f in found]


# Tails of folios.


@pytest.mark.parametrize("tail", (1, 3, 4, 5, 63))
@every_layout
def test_a_tail_beside_the_head_that_leads_elsewhere_is_found(release: str, tail: int) -> None:
    for pfn in (OPTIMIZED, RESTORED):
        kernel = EditedKernel(image(release).prog)
        kernel.write_member(pfn + tail, "compound_head", 0)
        found = [(f.rule, f.folio, f.index) for f in kernel.check().findings if f.folio == pfn]
        assert ("tail-content", pfn, 0) in found


@pytest.mark.long
@pytest.mark.parametrize(
    ("member", "value", "words"),
    (
        ("compound_head", 0, "is no tail of this folio"),
        ("refcount", 1, "has 1 references"),
        ("page_type", 0, "has a mapcount or page type: 0x0"),
        ("flags", 1, "has flags that no tail has"),
        ("mapping", 0, "has the mapping 0x0, and a tail has 0xdead000000000400"),
        ("memcg_data", 0xFFFF888001000002, "is charged to a memory cgroup"),
    ),
)
@every_layout
def test_a_tail_that_freeing_the_folio_trips_over_is_found(
    release: str, member: str, value: int, words: str
) -> None:
    layout = LINES[release].layout
    page = REUSED_PAGE[layout]
    reused = KEPT[layout] if page is None else page
    kernel = EditedKernel(image(release).prog)
    for pfn, index in ((OPTIMIZED, reused), (RESTORED, 0), (RESTORED, 5)):
        for tail in (0 if index else FIRST_PLAIN, 63):
            kernel.reset()
            kernel.write_member(pfn + 64 * index + tail, member, value)
            (finding,) = (f for f in kernel.check().findings if f.rule == "tail-content")
            assert (finding.folio, finding.index) == (pfn, index)
            assert words in finding.message
            assert finding.address == kernel.kernel.geometry.address(pfn + 64 * index + tail)


@every_layout
def test_a_tail_with_the_flag_of_a_head_is_found(release: str) -> None:
    kernel = EditedKernel(image(release).prog)
    for pfn in (OPTIMIZED, RESTORED):
        kernel.reset()
        kernel.write_member(pfn + 9, "flags", kernel.kernel.head_test.value)
        (finding,) = (f for f in kernel.check().findings if f.severity is Severity.ERROR)
        assert (finding.folio, finding.index) == (pfn, 0)


@pytest.mark.parametrize("member", ("private", "lru"))
def test_what_a_tail_does_not_use_may_be_anything(member: str) -> None:
    kernel = EditedKernel(image("6.12.0").prog)
    address = kernel.kernel.page.members[member]
    offset = address.offset + (8 if member == "lru" else 0)
    kernel.write_page(OPTIMIZED + 5, offset, 0xDEAD000000000122, 8)
    assert not kernel.check().broken


@pytest.mark.parametrize("tail", (1, 2, 3))
@every_layout
def test_the_first_tails_carry_metadata_of_their_folio(release: str, tail: int) -> None:
    kernel = EditedKernel(image(release).prog)
    kernel.write_member(OPTIMIZED + tail, "mapping", 0xFFFF888000001000)
    assert not kernel.check().broken


@pytest.mark.parametrize("release", ("5.15.0", "6.1.0"))
def test_tails_of_a_gigantic_folio_may_have_no_mapping(release: str) -> None:
    """Only prep_compound_tail() writes it, which older kernels do not call for gigantic folios."""
    pfn = GIB >> PAGE_SHIFT
    folios = (Folio(pfn, 18, remapped=False),)
    split = frozenset(range(pmd_of(pfn), pmd_of(2 * pfn)))
    kernel = Image(Machine(line=LINES[release], node_size=3 * GIB, folios=folios, split=split))
    for tail in range(4, 200):
        kernel.write_page(pfn + tail, mapping=0)
    assert errors(kernel) == []


@pytest.mark.parametrize(
    ("order", "tails", "count", "broken"),
    ((9, 64, 1, True), (18, 64, 1, False), (18, 63, 1, True), (18, 64, 2, True)),
)
def test_the_shared_tail_of_gigantic_folios_may_keep_a_reference(
    order: int, tails: int, count: int, broken: bool
) -> None:
    """v7.1 to v7.3 make it at boot, when each page has a reference, and do not take that away."""
    pfn = GIB >> PAGE_SHIFT
    kernel = Image(Machine(line=LINES["7.2.0"], node_size=3 * GIB, folios=(Folio(pfn, order),)))
    (frame,) = kernel.tail_frames.values()
    refcount = kernel.types.structs["page"].members["_refcount"].offset
    for tail in range(tails):
        kernel.memory.write((frame << PAGE_SHIFT) + tail * 64 + refcount, bytes((count,)))
    assert bool(errors(kernel)) == broken


@pytest.mark.parametrize(
    ("release", "tails", "severity"),
    (
        ("7.2.0", range(4, 64), Severity.WARNING),
        ("7.2.0", range(4, 63), Severity.ERROR),
        ("6.12.0", range(4, 64), Severity.ERROR),
    ),
    ids=("all", "not all", "another layout"),
)
def test_what_a_gigantic_folio_from_boot_became_may_keep_its_references(
    release: str, tails: range, severity: Severity
) -> None:
    """Demoted, its folios have all of them; that is a fault of v7.1 to v7.3, and no other's."""
    kernel = image(release)
    for tail in tails:
        kernel.write_page(OPTIMIZED + tail, _refcount=1)
    (finding,) = (f for f in verify(kernel.prog).findings if f.rule == "tail-content")
    assert (finding.folio, finding.index, finding.severity) == (OPTIMIZED, 0, severity)
    assert ("gigantic folio from boot" in finding.message) == (severity is Severity.WARNING)


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_a_shared_tail_that_is_marked_as_failed_is_found(release: str) -> None:
    marked = image(release)
    page = REUSED_PAGE[LINES[release].layout]
    tail = FIRST_FOLIO + 64 * (KEPT[LINES[release].layout] if page is None else page) + 9
    marked.write_page(tail, flags=marked.memmap.flags(tail, "PG_hwpoison"))
    ((rule, folio, _),) = errors(marked)
    assert (rule, folio) == ("tail-content", OPTIMIZED)


@every_layout
def test_a_wrong_tail_in_the_reuse_frame_of_a_half_done_remap_is_found(release: str) -> None:
    folios = (Folio(OPTIMIZED, edits={6: FRESH_W}),)
    kernel = EditedKernel(Image(Machine(line=LINES[release], folios=folios)).prog)
    page = REUSED_PAGE[LINES[release].layout]
    reused = KEPT[LINES[release].layout] if page is None else page
    kernel.write_member(OPTIMIZED + 64 * reused + 9, "mapping", 0)
    found = errors_of(kernel.check())
    assert found == [("reuse-mismatch", OPTIMIZED, 6), ("tail-content", OPTIMIZED, reused)]


def test_a_frame_that_a_zone_keeps_is_named_once_for_all_folios_that_share_it() -> None:
    folios = (Folio(OPTIMIZED), Folio(OPTIMIZED + 512, flag=False), Folio(OPTIMIZED + 1024))
    kernel = Image(Machine(line=LINES["7.2.0"], folios=folios))
    kernel.write_page(OPTIMIZED + 64 + 9, mapping=0)
    findings = (f for f in verify(kernel.prog).findings if f.rule == "tail-content")
    assert [finding.folio for finding in findings] == [OPTIMIZED]


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_a_reuse_frame_that_is_not_in_the_dump_was_not_compared(release: str) -> None:
    page = REUSED_PAGE[LINES[release].layout]
    index = KEPT[LINES[release].layout] if page is None else page
    kernel = EditedKernel(Image(Machine(line=LINES[release], folios=(Folio(OPTIMIZED),))).prog)
    kernel.memory.missing.add(kernel.frame(OPTIMIZED, index))
    report = kernel.check()
    assert report.incomplete and not report.broken
    if index:
        message = "1 reuse frames are not in the dump: the struct pages in them were not compared"
        assert message in [finding.message for finding in report.findings]


@pytest.mark.parametrize("order", (9, 18))
@pytest.mark.parametrize("release", ("7.2.0", "coming"))
def test_tails_that_a_zone_keeps_for_no_folio_are_compared_too(release: str, order: int) -> None:
    kept = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),)))
    # Any frame from boot that nothing else uses.
    frame = FIRST_FOLIO - 2
    kept.memmap.write_tail_frame(frame, Folio(FIRST_FOLIO, order))
    kept.write(kept.tail_slot(0, 3, order), kept.machine.page_address(frame))
    content = bytearray(kept.memory.frames[frame])
    flags = discover(kept.prog).page_flags.of_place(0, 3).to_bytes(8, "little")
    for tail in range(64):
        content[tail * 64 : tail * 64 + 8] = flags
    # Its tails are still of another zone than the one that keeps it.
    (found,) = verify(kept.prog).findings
    assert "is of another node or zone" in found.message
    kept.memory.frames[frame] = bytes(content)
    assert errors(kept) == []
    content[17 * 64 + 8 : 17 * 64 + 16] = bytes(8)
    kept.memory.frames[frame] = content
    (found,) = verify(kept.prog).findings
    assert found.rule == "tail-content"
    assert f"struct page 17 in frame {frame:#x}, which a zone keeps for tails of" in found.message
    kept.drop_frame(frame)
    report = verify(kept.prog)
    assert report.incomplete and not report.broken


@pytest.mark.parametrize("orders", ((), (9,), (9, 18)))
@pytest.mark.parametrize("release", ("coming", "coming-writable"))
def test_tails_that_a_zone_keeps_for_a_device_are_reserved(
    release: str, orders: tuple[int, ...]
) -> None:
    """It keeps them whatever sizes HugeTLB has."""
    machine = Machine(line=LINES[release], orders=orders, sections={4: Section.DEVICE})
    device = Image(machine)
    assert errors(device) == []
    (frame,) = device.tail_frames.values()
    locked = device.memory.frames[frame][0] | 1 << LINES[release].flags["PG_locked"]
    device.memory.write(frame << PAGE_SHIFT, bytes([locked]))
    assert errors(device) == [("tail-content", None, None)]


def test_tails_that_a_zone_keeps_end_with_those_of_1_gib_whatever_order_a_hstate_has() -> None:
    kernel = Image(Machine(line=LINES["coming"], folios=(Folio(OPTIMIZED),)))
    kernel.write_hstate(18, order=20)
    for order in (19, 20):
        kernel.write(kernel.tail_slot(0, 3, order), 0x1234)
    assert errors(kernel) == []
    kernel.write(kernel.tail_slot(0, 3, 18), 0x1234)
    assert errors(kernel) == [("reuse-invalid", None, None)]


SCHEDULING, RUNNING = 1, 3
"""Of ``enum system_states``: before and after the last initcall."""


@pytest.mark.parametrize("content", ("zeros", "struct-pages"))
@pytest.mark.parametrize("state", (SCHEDULING, RUNNING), ids=("booting", "running"))
def test_tails_that_a_zone_keeps_are_written_by_the_last_initcalls(
    state: int, content: str
) -> None:
    gigantic = GIB >> PAGE_SHIFT
    machine = Machine(
        line=LINES["7.2.0"],
        node_size=3 * GIB,
        folios=(Folio(gigantic, 18),),
        sections=dict.fromkeys(range(8, 16), Section.PREPARED),
    )
    booting = Image(machine)
    booting.write(booting.variables["system_state"][1], state, 4)
    (frame,) = booting.tail_frames.values()
    page = bytes(64)
    if content == "struct-pages":
        # As memmap_init() leaves them.
        flags = booting.memmap.flags(gigantic)
        page = booting.types.structs["page"].pack(flags=flags, page_type=NO_TYPE, _refcount=1)
    booting.memory.frames[frame] = page * 64
    (finding,) = verify(booting.prog).findings
    assert finding.rule == ("in-flight" if state == SCHEDULING else "tail-content")
    # What is the tail of something else was written.
    link = booting.machine.page_address(FIRST_FOLIO) | 1
    page = booting.types.structs["page"].pack(compound_info=link, page_type=NO_TYPE)
    booting.memory.frames[frame] = page * 64
    (finding,) = verify(booting.prog).findings
    assert finding.rule == "tail-content"


def test_tails_may_be_still_to_be_written_where_the_kernels_state_is_not_known() -> None:
    unknown = Image(Machine(line=LINES["7.2.0"], folios=(Folio(OPTIMIZED),)))
    del unknown.variables["system_state"]
    (frame,) = unknown.tail_frames.values()
    tails = unknown.memory.read(frame << PAGE_SHIFT, 4096)
    unknown.memory.frames[frame] = bytes(4096)
    (finding,) = verify(unknown.prog).findings
    assert finding.rule == "in-flight"
    assert "only while the kernel boots, and system_state is not in the dump" in finding.message
    # Where others are tails, one that is none was overwritten.
    unknown.memory.frames[frame] = tails[:640] + bytes(64) + tails[704:]
    (finding,) = verify(unknown.prog).findings
    assert finding.rule == "tail-content"


@pytest.mark.parametrize("is_known", (True, False))
@pytest.mark.parametrize("release", ("5.15.0", "6.12.0"))
def test_tails_in_a_folios_own_reuse_frame_are_written_before_they_are_shared(
    release: str, is_known: bool
) -> None:
    booting = image(release)
    booting.write(booting.variables["system_state"][1], SCHEDULING, 4)
    if not is_known:
        del booting.variables["system_state"]
    frame = booting.frames[OPTIMIZED][KEPT[booting.machine.layout] - 1]
    assert frame is not None
    first = booting.memory.read(frame << PAGE_SHIFT, 256)
    booting.memory.frames[frame] = first + bytes(4096 - 256)
    assert ("tail-content", OPTIMIZED, REUSED_PAGE[booting.machine.layout]) in errors(booting)


def test_a_folio_whose_vmemmap_was_never_split_is_not_read() -> None:
    folios = (Folio(OPTIMIZED), Folio(UNSPLIT, remapped=False))
    kernel = Image(Machine(line=LINES["6.12.0"], folios=folios))
    kernel.write_page(UNSPLIT + 70, compound_head=0)
    assert errors(kernel) == []


# What a restore left.


def test_a_restored_page_whose_tails_lost_their_mapping_is_found() -> None:
    kernel = image("6.12.0")
    for index in range(1, 8):
        kernel.write_page(RESTORED + 64 * index + 3, mapping=0)
    assert errors(kernel) == [("tail-content", RESTORED, index) for index in range(1, 8)]


@pytest.mark.parametrize("release", ("5.15.0", "6.12.0"))
def test_a_restored_page_with_tails_of_another_folio_is_found(release: str) -> None:
    kernel = image(release)
    for index in range(1, 8):
        link = kernel.machine.page_address(OPTIMIZED) | 1
        kernel.write_page(RESTORED + 64 * index + 1, compound_head=link)
    assert errors(kernel) == [("stale-struct-page", RESTORED, index) for index in range(1, 8)]


@pytest.mark.parametrize("release", ("5.15.0", "6.12.0"))
def test_restored_pages_with_tails_of_the_first_folio_compared_with_them_are_found(
    release: str,
) -> None:
    pfns = [OPTIMIZED + 512 * number for number in range(4)]
    folios = tuple(Folio(pfn, remapped=False, edits=FRESH) for pfn in pfns)
    kernel = Image(Machine(line=LINES[release], folios=folios))
    for pfn in pfns[1:]:
        for tail in range(pfn + 64 * 3, pfn + 64 * 4):
            kernel.write_page(tail, compound_head=kernel.machine.page_address(pfns[0]) | 1)
    assert errors(kernel) == [("stale-struct-page", pfn, 3) for pfn in pfns[1:]]


@pytest.mark.parametrize("at_once", (1, 2, 3, 1024))
def test_wrong_tails_are_found_however_many_folios_are_looked_at_together(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drgn_vmemmap.analysis.checks.content._AT_ONCE", at_once)
    pfns = [FIRST_FOLIO + 512 * number for number in range(7)]
    folios = [
        Folio(pfn, remapped=False, edits=FRESH) if number in (2, 5, 6) else Folio(pfn)
        for number, pfn in enumerate(pfns)
    ]
    kernel = Image(Machine(line=LINES["6.12.0"], folios=tuple(folios)))
    for pfn in pfns:
        kernel.write_page(pfn + 9, mapping=0)
    assert sorted(errors(kernel)) == [("tail-content", pfn, 0) for pfn in pfns]


def test_a_wrong_tail_is_found_where_the_dump_lacks_other_frames_of_its_folio() -> None:
    kernel = EditedKernel(image("6.12.0").prog)
    kernel.write_member(RESTORED + 64 * 6 + 9, "mapping", 0)
    kernel.memory.missing |= {kernel.frame(RESTORED, index) for index in (2, 4)}
    report = kernel.check()
    assert errors_of(report) == [("tail-content", RESTORED, 6)]
    assert "the struct pages in 2 vmemmap pages of folios are not in the dump" in "".join(
        finding.message for finding in report.findings if finding.rule == "unreadable"
    )


def test_a_wrong_tail_is_found_in_any_page_of_a_restored_gigantic_folio() -> None:
    pfn = GIB >> PAGE_SHIFT
    split = frozenset(range(pmd_of(pfn), pmd_of(2 * pfn)))
    folios = (Folio(pfn, 18, remapped=False),)
    kernel = EditedKernel(Image(Machine(node_size=3 * GIB, folios=folios, split=split)).prog)
    for index in (255, 256, 511, 512, 4095):
        kernel.reset()
        kernel.write_member(pfn + 64 * index + 63, "mapping", 8)
        assert errors_of(kernel.check()) == [("tail-content", pfn, index)]


@pytest.mark.parametrize("release", ("5.15.0", "6.12.0"))
@pytest.mark.parametrize("tails", (range(5, 6), range(1, 64)), ids=("one", "all"))
def test_a_reuse_frame_with_tails_of_no_folio_is_not_said_to_be_another_folios(
    release: str, tails: range
) -> None:
    kernel = image(release)
    page = REUSED_PAGE[LINES[release].layout] or 0
    other = RESTORED if len(tails) == 1 else GIVEN_BACK
    for tail in tails:
        link = kernel.machine.page_address(other) | 1
        kernel.write_page(OPTIMIZED + 64 * page + tail, compound_head=link)
    assert errors(kernel) == [("tail-content", OPTIMIZED, page)]


@pytest.mark.parametrize(
    ("release", "severity"), (("6.12.0", Severity.ERROR), ("7.2.0", Severity.WARNING))
)
def test_tails_of_a_restored_page_have_references_as_v7_1_leaves_them_only(
    release: str, severity: Severity
) -> None:
    link = LINES[release].compound_member
    tails = range(RESTORED + 64 * 5, RESTORED + 64 * 6)

    def finding() -> Finding:
        for tail in tails:
            kernel.write_page(tail, _refcount=1)
        (found,) = (f for f in verify(kernel.prog).findings if f.rule == "tail-content")
        return found

    kernel = image(release)
    found = finding()
    assert (found.folio, found.index, found.severity) == (RESTORED, 5, severity)
    # What else is wrong with one of them is no fault of v7.1's.
    for tail in (tails[0], tails[-1]):
        for wrong in ({"mapping": 0}, {link: 0}):
            kernel = image(release)
            kernel.write_page(tail, **wrong)
            assert finding().severity is Severity.ERROR


def test_tails_beside_the_head_of_a_gigantic_folio_have_no_references_either() -> None:
    """Only the frame that a zone keeps may have them."""
    pfn = GIB >> PAGE_SHIFT
    kernel = Image(Machine(line=LINES["7.2.0"], node_size=3 * GIB, folios=(Folio(pfn, 18),)))
    for tail in range(4, 64):
        kernel.write_page(pfn + tail, _refcount=1)
    (finding,) = verify(kernel.prog).findings
    assert (finding.rule, finding.folio, finding.index) == ("tail-content", pfn, 0)


@pytest.mark.parametrize(("release", "broken"), (("6.12.0", True), ("7.2.0", False)))
def test_tails_of_a_restored_gigantic_folio_have_references_as_v7_1_leaves_them_only(
    release: str, broken: bool
) -> None:
    pfn = GIB >> PAGE_SHIFT
    folios, pmds = (Folio(pfn, 18, remapped=False),), frozenset(range(pmd_of(pfn), pmd_of(2 * pfn)))
    line = LINES[release]
    kernel = Image(Machine(line=line, node_size=3 * GIB, folios=folios, split=pmds))
    for tail in range(64 * 5, 64 * 6):
        kernel.write_page(pfn + tail, _refcount=1)
    assert errors(kernel) == [("tail-content", pfn, 5)] * broken


@every_layout
def test_a_restored_page_with_a_copy_of_the_head_is_found(release: str) -> None:
    kernel = image(release)
    link = kernel.machine.line.compound_member
    for index in range(1, 8):
        flags = kernel.memmap.flags(RESTORED, "PG_head")
        kernel.write_page(RESTORED + 64 * index, flags=flags, **{link: 0}, _refcount=1)
    assert errors(kernel) == [("stale-struct-page", RESTORED, index) for index in range(1, 8)]


@every_line
@pytest.mark.parametrize("has_flag", (True, False), ids=("with-PG_head", "without"))
def test_heads_in_memory_given_back_are_found(release: str, has_flag: bool) -> None:
    """Without the flag, as Linux 6.12 leaves them, only a page type marks them."""
    line = LINES[release]
    has_hvo = line.layout.value != "none"
    folios = (Folio(OPTIMIZED, remapped=has_hvo),)
    split = frozenset((pmd_of(OPTIMIZED),))
    kernel = Image(Machine(line=line, folios=folios, split=split))
    for index in range(1, 8):
        pfn = GIVEN_BACK + 64 * index
        flags = kernel.memmap.flags(pfn, *(("PG_head",) if has_flag else ()))
        kernel.write_page(pfn, flags=flags, page_type=line.page_type("hugetlb"))
        if line.mark is Mark.DESTRUCTOR:
            kernel.write_page(pfn + 1, compound_dtor=2, compound_order=9)
        if line.mark is Mark.FLAG:
            kernel.write_page(pfn + 1, flags=flags | 1 << line.flags["PG_active"] | 9)
    found = [f for f in verify(kernel.prog).findings if f.severity.value == "error"]
    if line.mark in (Mark.DESTRUCTOR, Mark.FLAG) and not has_flag:
        assert found == []
        return
    assert Counter(f.rule for f in found) == {"stale-struct-page": 7}
    assert [f.address for f in found] == [
        kernel.machine.page_address(GIVEN_BACK + 64 * index) for index in range(1, 8)
    ]
    assert all("compaction" in f.message for f in found)


@every_line
def test_tails_of_nothing_in_memory_given_back_are_found(release: str) -> None:
    line = LINES[release]
    folios = (Folio(OPTIMIZED, remapped=line.layout.value != "none"),)
    kernel = Image(Machine(line=line, folios=folios, split=frozenset((pmd_of(OPTIMIZED),))))
    link = kernel.machine.page_address(GIVEN_BACK) | 1
    if line.masks_heads:
        # Of order 9, with struct pages of 64 bytes.
        link = (-1 << 9 + 6) % (1 << 64) | 1
    for tail in range(65, 128):
        kernel.write_page(GIVEN_BACK + tail, **{line.compound_member: link})
    (finding,) = (f for f in verify(kernel.prog).findings if f.severity.value == "error")
    assert finding.rule == "stale-struct-page"
    assert f"PFNs {GIVEN_BACK + 65:#x} to {GIVEN_BACK + 127:#x} are tails" in finding.message
    assert f"leads to PFN {GIVEN_BACK:#x}" in finding.message


@every_layout
def test_another_compound_page_in_memory_given_back_is_not_accused(release: str) -> None:
    kernel = image(release)
    line = kernel.machine.line
    kernel.write_page(GIVEN_BACK, flags=kernel.memmap.flags(GIVEN_BACK, "PG_head"))
    link = kernel.machine.page_address(GIVEN_BACK) | 1
    if line.masks_heads:
        link = (-1 << 3 + 6) % (1 << 64) | 1
    for tail in range(1, 8):
        kernel.write_page(GIVEN_BACK + tail, **{line.compound_member: link}, _refcount=0)
    assert errors(kernel) == []


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 63),
            st.sampled_from(("flags", "compound_head", "mapping", "refcount", "private")),
            st.sampled_from((0, 1, 1 << 6, TAIL_MAPPING)),
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_frames_compared_together_are_wrong_where_one_alone_is(
    edits: list[tuple[int, int, str, int]], has_head: bool
) -> None:
    kernel = discover(image("6.12.0").prog)
    frames = [bytearray(_tails(kernel, OPTIMIZED + 512 * number)) for number in range(4)]
    for frame, tail, name, value in edits:
        member = kernel.page.members[name]
        at = tail * kernel.page.size + member.offset
        frames[frame][at : at + member.size] = value.to_bytes(8, "little")[: member.size]
    infos = kernel.tail_infos([OPTIMIZED + 512 * number for number in range(4)], 9)
    pieces = StridedRead.joined([bytes(frame) for frame in frames], 4096)
    together = Tails(kernel, 9).wrong_among(pieces, infos, has_head)
    alone = [
        (position, Tails(kernel, 9).first_wrong(bytes(frame), info, has_head))
        for position, (frame, info) in enumerate(zip(frames, infos))
    ]
    assert list(together) == [(position, wrong) for position, wrong in alone if wrong is not None]


@pytest.mark.parametrize("shift", ("node_shift", "zone_shift"))
def test_tails_are_of_the_node_and_the_zone_of_their_folio(shift: str) -> None:
    """The head says which, or, where there is none in the frame, the folio does."""
    kernel = discover(image("6.12.0").prog)
    frame, info = bytearray(_tails(kernel, OPTIMIZED)), kernel.tail_info(OPTIMIZED, 9)
    another = 1 << getattr(kernel.page_flags, shift)

    def reason(place: int | None, has_head: bool) -> str:
        tails = Tails(kernel, 9, place=place)
        wrong = tails.first_wrong(bytes(frame), info, has_head)
        pieces = StridedRead.joined([bytes(frame)] * 2, 4096)
        together = tails.wrong_among(pieces, array("Q", [info] * 2), has_head)
        assert [*together] == [(0, wrong), (1, wrong)] * (wrong is not None)
        return "" if wrong is None else f"{wrong.page} {wrong.reason}"

    said = f"is of another node or zone than its folio: flags {0:#x}"
    assert reason(0, False) == reason(None, False) == reason(0, True) == ""
    assert reason(another, False) == f"0 {said}"
    start = kernel.page.offset("flags")
    frame[start : start + 8] = another.to_bytes(8, "little")
    assert reason(None, False) == "" and reason(None, True) == f"4 {said}"


def test_tails_that_are_right_need_not_be_alike() -> None:
    """One whose memory failed has a flag that others lack."""
    kernel = discover(image("6.12.0").prog)
    frame, infos = bytearray(_tails(kernel, OPTIMIZED)), kernel.tail_infos([OPTIMIZED] * 2, 9)
    start = 9 * kernel.page.size + kernel.page.offset("flags")
    frame[start : start + 8] = kernel.poison.flag.to_bytes(8, "little")
    pieces = StridedRead.joined([bytes(frame)] * 2, 4096)
    tails = Tails(kernel, 9)
    assert not tails.are_alike(pieces, infos, has_head=False)
    assert [*tails.wrong_among(pieces, infos, has_head=False)] == []


@pytest.mark.parametrize("release", ("6.12.0", "7.2.0"))
@pytest.mark.parametrize("pfns", (range(512, 4096, 512), range(4096, 0, -1024), range(8, 8)))
def test_the_links_of_many_folios_are_those_of_each(release: str, pfns: range) -> None:
    kernel = discover(image(release).prog)
    for each in (pfns, [*pfns]):
        assert kernel.tail_infos(each, 9).tolist() == [kernel.tail_info(pfn, 9) for pfn in pfns]


def test_frames_that_lie_in_descending_order_are_compared_with_their_own_folios() -> None:
    kernel = discover(image("6.12.0").prog)
    pfns = [OPTIMIZED, OPTIMIZED + 512]
    first, second = (_tails(kernel, pfn) for pfn in pfns)
    infos, starts = kernel.tail_infos(pfns, 9), range(4096, -1, -4096)
    right = StridedRead(second + first, starts, 4096)
    assert Tails(kernel, 9).are_alike(right, infos, has_head=False)
    swapped = StridedRead(first + second, starts, 4096)
    assert not Tails(kernel, 9).are_alike(swapped, infos, has_head=False)


def _tails(kernel: Kernel, pfn: int) -> bytes:
    """A frame full of plain tails."""
    tail = bytearray(kernel.page.size)
    values = {"compound_head": kernel.tail_info(pfn, 9), "mapping": TAIL_MAPPING}
    for name, value in {**values, "page_type": 0xFFFFFFFF}.items():
        member = kernel.page.members[name]
        tail[member.offset : member.offset + member.size] = value.to_bytes(member.size, "little")
    return bytes(tail) * (4096 // kernel.page.size)
