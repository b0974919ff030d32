# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules: each is provoked, found where it is, and nothing else is found but what follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.layout import Layout
from tests.oracles.expected import Found
from tests.support import findings_of
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT, OPTIMIZED_BIT
from tests.synthetic.layouts import KEPT
from tests.synthetic.model import (
    ABSENT,
    BEYOND_R,
    FRESH_W,
    GIB,
    OWN_R,
    OWN_W,
    REUSE_R,
    REUSE_W,
    Damage,
    Folio,
    Link,
    LinkPlace,
    Machine,
    Vpage,
)
from tests.synthetic.physical import PAGE_SHIFT, PAGE_SIZE, WRITABLE

PFNS = {9: 0x8200, 18: GIB >> PAGE_SHIFT}
"""The folio that a test damages, by its order."""
FREE_BEFORE, FREE_AFTER, ACTIVE = 0x8000, 0x8400, 0x8600
"""Sound folios around it; the one after it is not optimized."""

every_line = pytest.mark.parametrize("release", LINES)
every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
every_order = pytest.mark.parametrize("order", PFNS)


def machine(
    release: str,
    order: int = 9,
    edits: dict[int, Vpage] | None = None,
    flag: bool | None = None,
    remapped: bool | None = None,
) -> Machine:
    """A folio among sound ones."""
    line = LINES[release]
    has_hvo = line.layout is not Layout.NONE
    folios = (
        Folio(FREE_BEFORE, remapped=has_hvo),
        Folio(
            PFNS[order],
            order,
            remapped=has_hvo if remapped is None else remapped,
            edits=edits or {},
            flag=flag,
        ),
        Folio(FREE_AFTER, remapped=False),
        Folio(ACTIVE, remapped=has_hvo, state=State.ACTIVE),
    )
    return Machine(line=line, node_size=3 * GIB if order == 18 else GIB, folios=folios)


def found(image: Image) -> list[Found]:
    return findings_of(image.examine())


def errors(rule: str, pfn: int, pages: Iterable[int | None]) -> list[Found]:
    return [Found(rule, "error", pfn, page) for page in pages]


def some(release: str, order: int) -> list[int]:
    """Some pages that share: at the edges of what shares and of tables, and one within."""
    first, count = KEPT[LINES[release].layout], 8 << (order - 9)
    return sorted({first, count // 2, count - 1} | ({511, 512} if count > 512 else set()))


# Sound kernels.


@pytest.mark.parametrize("levels", (4, 5))
@every_order
@every_line
def test_a_sound_kernel_has_no_findings(release: str, order: int, levels: int) -> None:
    assert found(Image(replace(machine(release, order), levels=levels))) == []


@every_layout
def test_a_folio_whose_vmemmap_was_restored_is_sound(release: str) -> None:
    fresh = dict.fromkeys(range(1, 8), FRESH_W)
    assert found(Image(machine(release, edits=fresh, flag=False))) == []


# not-present


@every_layout
@every_order
def test_a_page_that_is_not_present_is_found(release: str, order: int) -> None:
    for page in some(release, order):
        image = Image(machine(release, order, {page: ABSENT}))
        assert found(image) == errors("not-present", PFNS[order], [page])


def test_a_kept_page_that_is_not_present_is_found() -> None:
    assert found(Image(machine("5.15.0", edits={1: ABSENT}))) == errors("not-present", PFNS[9], [1])


@every_layout
def test_a_page_of_an_unoptimized_folio_that_is_not_present_is_found(release: str) -> None:
    image = Image(machine(release, edits={3: ABSENT}, remapped=False))
    assert found(image) == errors("not-present", PFNS[9], [3])


@every_layout
@pytest.mark.parametrize("damage", (Damage.ABSENT, Damage.BEYOND))
def test_an_entry_above_is_reported_once(release: str, damage: Damage) -> None:
    sound = machine(release, 18)
    region = (PFNS[18] >> 15) + 2
    image = Image(replace(sound, damage={region: damage}))
    (finding,) = image.examine().findings
    assert (finding.rule, finding.folio, finding.index) == ("not-present", PFNS[18], 1024)
    assert finding.entry_address == image.entry_address(PFNS[18], 1024, "PMD")


@every_layout
def test_a_frame_beyond_memory_is_found(release: str) -> None:
    image = Image(machine(release, edits={4: BEYOND_R}))
    # It is not the reuse frame, either.
    assert found(image) == [
        *errors("not-present", PFNS[9], [4]),
        *errors("reuse-mismatch", PFNS[9], [4]),
    ]


@every_layout
def test_a_head_that_is_not_present_hides_what_comes_after_it_on_the_list(release: str) -> None:
    image = Image(machine(release, edits={0: ABSENT}))
    assert sorted(found(image), key=lambda f: (f.rule, f.folio or 0)) == [
        *errors("not-present", PFNS[9], [0]),
        # Found in the memmap alone.
        Found("off-list", "info", FREE_AFTER),
        Found("unreadable", "warning"),
    ]


# tail-writable, head-read-only


@every_layout
@every_order
def test_a_tail_that_is_writable_is_found(release: str, order: int) -> None:
    for page in some(release, order):
        image = Image(machine(release, order, {page: REUSE_W}))
        assert found(image) == errors("tail-writable", PFNS[order], [page])


@every_layout
def test_a_finding_shows_the_entry_and_where_it_lies(release: str) -> None:
    image = Image(machine(release, edits={5: REUSE_W}))
    (finding,) = image.examine().findings
    assert finding.address == image.machine.page_address(PFNS[9]) + 5 * PAGE_SIZE
    assert finding.entry_address == image.entry_address(PFNS[9], 5)
    assert finding.entry == image.entry(PFNS[9], 5)


@every_layout
@every_order
def test_a_kept_page_that_is_read_only_is_found(release: str, order: int) -> None:
    for page in range(KEPT[LINES[release].layout]):
        image = Image(machine(release, order, {page: OWN_R}))
        assert found(image) == errors("head-read-only", PFNS[order], [page])


@every_layout
def test_a_table_that_is_read_only_takes_the_heads_with_it(release: str) -> None:
    image = Image(machine(release, 18))
    entry = image.entry(PFNS[18], 0, "PMD")
    image.write_entry(PFNS[18], 0, entry & ~WRITABLE, "PMD")
    kept = range(KEPT[LINES[release].layout])
    assert found(image) == errors("head-read-only", PFNS[18], kept)


@every_layout
@pytest.mark.parametrize("level", ("PGD", "PUD"))
def test_a_level_above_that_is_read_only_takes_all_heads_with_it(release: str, level: str) -> None:
    image = Image(machine(release))
    entry = image.entry(PFNS[9], 0, level)
    image.write_entry(PFNS[9], 0, entry & ~WRITABLE, level)
    kept = range(KEPT[LINES[release].layout])
    assert [f for f in found(image) if f.rule == "head-read-only"] == [
        *errors("head-read-only", FREE_BEFORE, kept),
        *errors("head-read-only", PFNS[9], kept),
        *errors("head-read-only", FREE_AFTER, [0]),
        *errors("head-read-only", ACTIVE, kept),
    ]


BOOT_FOLIO = dict.fromkeys(range(64, 4096), REUSE_W)
"""Edits: as kernels v6.15 to v7.1 leave a folio of 1 GiB from boot, protected in part."""

boot_lines = pytest.mark.parametrize("release", ("6.18.0", "7.2.0"))


@boot_lines
def test_a_folio_that_the_kernel_protected_in_part_is_a_warning(release: str) -> None:
    report = Image(machine(release, 18, BOOT_FOLIO)).examine()
    assert findings_of(report) == [Found("tail-writable", "warning", PFNS[18], 64)]
    assert report.totals.counts[Verdict.INCONSISTENT] == 0


@boot_lines
def test_a_folio_that_was_protected_in_part_may_be_missing_in_part(release: str) -> None:
    boot = machine(release, 18, BOOT_FOLIO)
    image = Image(replace(boot, damage={(PFNS[18] >> 15) + 3: Damage.MISSING}))
    assert found(image) == [
        Found("tail-writable", "warning", PFNS[18], 64),
        Found("unreadable", "warning", PFNS[18], 3 * 512),
    ]


@boot_lines
@pytest.mark.parametrize("page", (0, 63, 64))
def test_one_page_more_or_less_is_not_the_kernels_doing(release: str, page: int) -> None:
    other = {0: OWN_R, 63: REUSE_W, 64: REUSE_R}[page]
    image = Image(machine(release, 18, {**BOOT_FOLIO, page: other}))
    assert image.examine().totals.counts[Verdict.INCONSISTENT] == 1
    assert "error" in {finding.severity for finding in found(image)}


# reuse-mismatch


@every_layout
@every_order
@pytest.mark.parametrize("vpage", (OWN_W, OWN_R, FRESH_W))
def test_a_tail_with_a_frame_of_its_own_is_found(release: str, order: int, vpage: Vpage) -> None:
    for page in some(release, order):
        image = Image(machine(release, order, {page: vpage}))
        assert found(image) == errors("reuse-mismatch", PFNS[order], [page])


@every_layout
def test_a_roll_back_that_was_not_finished_is_found(release: str) -> None:
    first = KEPT[LINES[release].layout]
    for end in range(first + 1, 8):
        pages = range(first, end)
        image = Image(machine(release, edits=dict.fromkeys(pages, FRESH_W)))
        assert found(image) == errors("reuse-mismatch", PFNS[9], pages)


@every_line
def test_a_read_only_page_of_an_unoptimized_folio_is_found(release: str) -> None:
    image = Image(machine(release, edits={6: OWN_R}, remapped=False))
    assert found(image) == errors("reuse-mismatch", PFNS[9], [6])


# reuse-invalid


@every_layout
def test_tails_that_share_another_folios_frame_are_found(release: str) -> None:
    image = Image(machine(release))
    pages = range(KEPT[LINES[release].layout], 8)
    other = image.frames[FREE_AFTER][3]
    assert other is not None
    for page in pages:
        entry = image.entry(PFNS[9], page)
        image.write_entry(PFNS[9], page, entry & ~(0xFFFFFFFFFF << 12) | other << PAGE_SHIFT)
    assert found(image) == errors("reuse-invalid", PFNS[9], pages[:1])


@every_layout
def test_tails_that_share_a_frame_beyond_memory_are_found(release: str) -> None:
    image = Image(machine(release))
    pages = range(KEPT[LINES[release].layout], 8)
    for page in pages:
        entry = image.entry(PFNS[9], page)
        beyond = image.machine.max_pfn << PAGE_SHIFT
        image.write_entry(PFNS[9], page, entry & ~(0xFFFFFFFFFF << 12) | beyond)
    assert found(image) == errors("reuse-invalid", PFNS[9], pages[:1])


def test_tails_that_share_a_frame_that_the_zone_does_not_keep_are_found() -> None:
    image = Image(machine("7.2.0", 18))
    (slot,) = (image.tail_slot(*key) for key in image.tail_frames if key[2] == 18)
    image.write(slot, 0)
    assert found(image) == errors("reuse-invalid", PFNS[18], [1])


def test_tails_that_share_the_frame_of_another_order_are_found() -> None:
    image = Image(machine("7.2.0", 18))
    (of_order_9,) = (frame for key, frame in image.tail_frames.items() if key[2] == 9)
    (slot,) = (image.tail_slot(*key) for key in image.tail_frames if key[2] == 18)
    image.write(slot, image.machine.page_address(of_order_9))
    assert found(image) == [
        *errors("reuse-invalid", PFNS[18], [1]),
        Found("reuse-invalid", "error", None),
    ]


def test_tails_that_share_the_frame_of_another_zone_are_found() -> None:
    image = Image(machine("7.2.0"))
    ((key, frame),) = image.tail_frames.items()
    image.write(image.tail_slot(*key), 0)
    node, zone, order = key
    image.write(image.tail_slot(node, zone + 1, order), image.machine.page_address(frame))
    optimized = (FREE_BEFORE, PFNS[9], ACTIVE)
    assert found(image) == [e for pfn in optimized for e in errors("reuse-invalid", pfn, [1])]


# flag-mismatch


@every_layout
@every_order
def test_an_optimized_folio_without_the_flag_is_found(release: str, order: int) -> None:
    image = Image(machine(release, order, flag=False))
    assert found(image) == errors("flag-mismatch", PFNS[order], [None])


@every_layout
def test_an_unoptimized_folio_with_the_flag_is_found(release: str) -> None:
    image = Image(machine(release, remapped=False, flag=True))
    assert found(image) == errors("flag-mismatch", PFNS[9], [None])


@every_layout
def test_other_flags_of_a_folio_are_not_taken_for_the_optimized_one(release: str) -> None:
    image = Image(machine(release))
    image.write_page(FREE_AFTER, private=~(1 << OPTIMIZED_BIT) % (1 << 64))
    assert found(image) == []


# list-corrupt


@pytest.mark.parametrize("link", Link)
def test_a_list_that_does_not_close_is_found_and_loses_no_folio(link: Link) -> None:
    sound = machine("6.12.0")
    image = Image(replace(sound, links={LinkPlace(9, 0, 1): link}))
    report = image.examine()
    assert found(image) == [
        Found("list-corrupt", "error"),
        Found("off-list", "info", FREE_AFTER),
        *[Found("count-mismatch", "warning")] * 2,
    ]
    assert len(report.folios) == len(sound.folios)


def test_a_list_that_leads_to_memory_that_is_no_folio_is_found() -> None:
    image = Image(machine("6.12.0"))
    image.memmap.link(PFNS[9], image.lru(0xA000), 0)
    assert Found("list-corrupt", "error") in found(image)


def test_a_list_that_leads_into_another_list_is_found() -> None:
    image = Image(machine("6.12.0"))
    image.memmap.link(FREE_AFTER, image.lru(ACTIVE), 0)
    # From the active folio, the free list goes on to the active list's head; from there, the
    # active list meets the folio again.
    assert found(image)[:2] == [Found("list-corrupt", "error")] * 2


def test_a_list_without_its_head_in_memory_is_found() -> None:
    image = Image(machine("6.12.0"))
    image.write(image.list_head(9, 0), 0)
    assert Found("list-corrupt", "error") in found(image)


# count-mismatch


@pytest.mark.parametrize(
    "counter",
    ("nr_huge_pages", "free_huge_pages", "nr_huge_pages_node", "free_huge_pages_node"),
)
def test_a_counter_that_differs_from_what_is_there_is_found(counter: str) -> None:
    image = Image(machine("6.12.0"))
    image.write_hstate(9, **{counter: 7})
    # Those of the nodes do not add up any more, either.
    finding, sums = image.examine().findings
    assert {(f.rule, f.severity.value) for f in (finding, sums)} == {("count-mismatch", "warning")}
    assert "those of its nodes add up to" in sums.message
    seen = 4 if counter.startswith("nr") else 3
    assert f"{counter.replace('_node', '')} is 7, {seen} folios were found" in finding.message
    assert ("on node 0" in finding.message) == counter.endswith("_node")


@pytest.mark.parametrize(("counted", "found"), ((2, 2), (3, 0), (4, 0), (5, 2)))
def test_a_folio_on_no_list_may_or_may_not_be_counted(counted: int, found: int) -> None:
    # It is being made or given back, or else isolated. It counts for its node and in all.
    sound = machine("6.12.0")
    folios = tuple(
        replace(f, state=State.OFF_LIST if f.pfn == ACTIVE else f.state) for f in sound.folios
    )
    image = Image(replace(sound, folios=folios))
    image.write_hstate(9, nr_huge_pages=counted, nr_huge_pages_node=counted)
    mismatches = [f for f in image.examine().findings if f.rule == "count-mismatch"]
    assert len(mismatches) == found


def test_counters_are_not_accused_for_folios_whose_node_is_not_in_the_dump() -> None:
    sound = machine("6.12.0")
    folios = tuple(replace(f, head_in_dump=f.pfn != ACTIVE) for f in sound.folios)
    report = Image(replace(sound, folios=folios)).examine()
    assert report.incomplete
    assert "count-mismatch" not in {finding.rule for finding in report.findings}


# unreadable


@every_layout
def test_a_table_that_is_not_in_the_dump_is_reported_once(release: str) -> None:
    sound = machine(release, 18)
    for number in (0, 5):
        image = Image(replace(sound, damage={(PFNS[18] >> 15) + number: Damage.MISSING}))
        findings = [f for f in found(image) if f.folio is not None]
        assert findings == [Found("unreadable", "warning", PFNS[18], 512 * number)]
        assert image.examine().incomplete


def test_a_zone_that_is_not_in_the_dump_leaves_shared_tails_unknown() -> None:
    image = Image(machine("7.2.0"))
    image.drop_frame(image.physical(image.nodes[0]) >> PAGE_SHIFT)
    optimized = (FREE_BEFORE, PFNS[9], ACTIVE)
    assert found(image) == [
        *(Found("unreadable", "warning", pfn) for pfn in optimized),
        Found("unreadable", "warning"),
    ]


def test_sections_that_are_not_in_the_dump_are_reported() -> None:
    image = Image(machine("6.12.0"))
    _, address = image.variables["mem_section"]
    roots = image.memory.read_u64(image.physical(address))
    root = image.memory.read_u64(image.physical(roots))
    image.drop_frame(image.physical(root) >> PAGE_SHIFT)
    assert found(image) == [Found("unreadable", "warning")]


# off-list


@every_line
def test_a_folio_on_no_list_is_found_in_the_memmap(release: str) -> None:
    sound = machine(release)
    folios = tuple(replace(f, state=State.OFF_LIST) for f in sound.folios)
    image = Image(replace(sound, folios=folios))
    pfns = (FREE_BEFORE, PFNS[9], FREE_AFTER, ACTIVE)
    assert found(image) == [Found("off-list", "info", pfn) for pfn in pfns]


@every_line
def test_a_folio_of_1_gib_on_no_list_is_found_once(release: str) -> None:
    sound = machine(release, 18)
    folios = tuple(
        replace(f, state=State.OFF_LIST if f.order == 18 else f.state) for f in sound.folios
    )
    assert found(Image(replace(sound, folios=folios))) == [Found("off-list", "info", PFNS[18])]
