# SPDX-License-Identifier: LGPL-2.1-or-later

"""The kernel's counters: what they cannot be, and what they must agree with."""

from __future__ import annotations

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.hugetlb.folio import State
from tests.damage.edited import EditedKernel
from tests.support import shared_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, OPTIMIZED_BIT
from tests.synthetic.model import FIRST_FOLIO, GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT

ABSENT = FIRST_FOLIO - 1
"""PFN of memory that is not in an image's dump."""


@pytest.fixture
def kernel() -> EditedKernel:
    return EditedKernel(shared_vmcore("head-reuse"))


def counter(kernel: EditedKernel, name: str, node: int | None = None) -> int:
    """Address of a counter of the hstate with folios."""
    number = next(n for n, h in enumerate(kernel.before.hstates) if h.counts.folios)
    hstate = kernel.kernel.hstate
    member = name if node is None else f"{name}_node"
    return kernel.kernel.hstates + number * hstate.size + hstate.offset(member, node or 0)


def mismatches(kernel: EditedKernel) -> list[str]:
    return [f.message for f in kernel.check().findings if f.rule == "count-mismatch"]


@pytest.mark.parametrize("name", ("resv_huge_pages", "surplus_huge_pages"))
@pytest.mark.parametrize(
    ("value", "message"),
    ((-1, "is -1, below zero"), (5000, "is 5000, more than the 72 folios counted")),
)
def test_a_counter_that_cannot_be_is_a_warning(
    kernel: EditedKernel, name: str, value: int, message: str
) -> None:
    kernel.write(counter(kernel, name), value % (1 << 64))
    assert f"hugepages-2048kB: {name} {message}" in mismatches(kernel)


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
@pytest.mark.parametrize("reservations", (-1, -2))
def test_reservations_are_below_zero_while_folios_are_held_whose_mapping_is_gone(
    reservations: int, state: State
) -> None:
    # A process that ends has taken the reservation from the counter; a folio of it that migrates,
    # or that somebody pinned, gives it back when it is freed.
    held, other = Folio(FIRST_FOLIO, state=state), Folio(FIRST_FOLIO + 512, state=State.ACTIVE)
    image = Image(Machine(line=LINES["6.12.0"], folios=(held, other)))
    image.write_hstate(9, resv_huge_pages=reservations % (1 << 64))
    image.write_page(held.pfn, private=1 << OPTIMIZED_BIT | 1)  # HPG_restore_reserve
    report = verify(image.prog)
    (finding,) = (f for f in report.findings if "resv_huge_pages" in f.message)
    assert f"hugepages-2048kB: resv_huge_pages is {reservations}" in finding.message
    is_lawful = reservations == -1 and state is not State.FREE
    assert finding.rule == ("in-flight" if is_lawful else "count-mismatch")


def test_reservations_below_zero_accuse_nobody_where_a_folio_in_use_is_not_in_the_dump() -> None:
    held = Folio(FIRST_FOLIO + 512, state=State.ACTIVE, remapped=False)
    image = Image(Machine(line=LINES["6.12.0"], folios=(Folio(FIRST_FOLIO), held)))
    image.write_hstate(9, resv_huge_pages=(1 << 64) - 1)
    image.drop_frame(image.memmap.boot_frame(image.memmap.number(held.pfn)))
    report = verify(image.prog)
    assert report.incomplete
    assert "count-mismatch" not in {finding.rule for finding in report.findings}


def test_all_counters_are_in_the_document(kernel: EditedKernel) -> None:
    kernel.write(counter(kernel, "resv_huge_pages"), (1 << 64) - 1)
    found = document(kernel.check(), folios=False)["hstates"]
    (hstate,) = (each for each in found if each["folios"])
    assert (hstate["resv_huge_pages"], hstate["max_huge_pages"]) == (-1, 72)


def test_nodes_whose_counters_do_not_add_up_are_a_warning(kernel: EditedKernel) -> None:
    kernel.write(counter(kernel, "nr_huge_pages", 0), 60, 4)
    assert mismatches(kernel) == [
        "hugepages-2048kB on node 0: nr_huge_pages is 60, 72 folios were found",
        "hugepages-2048kB: nr_huge_pages is 72, but those of its nodes add up to 60",
    ]


def test_a_counter_is_compared_with_a_single_folio() -> None:
    one = EditedKernel(Image(Machine(folios=FREE[:1])).prog)
    one.write(counter(one, "nr_huge_pages"), 2)
    assert "hugepages-2048kB: nr_huge_pages is 2, 1 folio was found" in mismatches(one)


def test_a_node_with_folios_and_no_counter_is_a_warning(kernel: EditedKernel) -> None:
    for name in ("nr_huge_pages", "free_huge_pages"):
        kernel.write(counter(kernel, name, 0), 0, 4)
    assert "hugepages-2048kB on node 0: nr_huge_pages is 0, 72 folios were found" in mismatches(
        kernel
    )


FREE = (
    Folio(FIRST_FOLIO),
    Folio(FIRST_FOLIO + 512),
    Folio(FIRST_FOLIO + 1024, state=State.ACTIVE),
)
"""Two on the free list, and one in use."""

at_each_store = pytest.mark.parametrize(
    ("of_all", "of_node"),
    ((-1, -1), (0, -1), (1, 1), (0, 1)),
    ids=("added-to-its-list", "added-and-counted-once", "taken-from-it", "taken-and-counted-once"),
)


def caught(
    locked: bool | None, of_all: int, of_node: int, name: str = "free_huge_pages"
) -> dict[str, list[str]]:
    """What is found of counters that differ from the lists, by rule."""
    image = Image(Machine(line=LINES["6.12.0"], folios=FREE, is_locked=locked))
    count = 2 if name == "free_huge_pages" else 3
    image.write_hstate(9, **{name: count + of_all, f"{name}_node": count + of_node})
    found: dict[str, list[str]] = {}
    for finding in verify(image.prog).findings:
        found.setdefault(finding.rule, []).append(finding.message)
    return found


@pytest.mark.parametrize("locked", (True, None))
@pytest.mark.parametrize("name", ("free_huge_pages", "nr_huge_pages"))
@at_each_store
def test_counters_that_are_caught_under_their_lock_are_in_flight(
    of_all: int, of_node: int, name: str, locked: bool | None
) -> None:
    found = caught(locked, of_all, of_node, name)
    assert set(found) == {"in-flight"}
    assert all(
        "which is possible while a folio moves under hugetlb_lock" in each
        for each in found["in-flight"]
    )


@at_each_store
def test_counters_that_differ_by_one_while_nobody_holds_their_lock_are_wrong(
    of_all: int, of_node: int
) -> None:
    assert set(caught(False, of_all, of_node)) == {"count-mismatch"}


@pytest.mark.parametrize(
    ("of_all", "of_node"), ((-2, -2), (1, -1), (0, 2), (-2, 0), (1, 0), (-1, 0))
)
def test_what_one_folio_does_not_explain_is_wrong_under_the_lock_too(
    of_all: int, of_node: int
) -> None:
    assert "count-mismatch" in caught(True, of_all, of_node)


def test_a_lock_that_is_not_in_the_dump_may_be_held() -> None:
    image = Image(Machine(line=LINES["6.12.0"], folios=FREE, is_locked=False))
    type_name, _ = image.variables["hugetlb_lock"]
    image.variables["hugetlb_lock"] = type_name, image.machine.page_offset + (ABSENT << PAGE_SHIFT)
    image.write_hstate(9, free_huge_pages=1, free_huge_pages_node=1)
    assert {f.rule for f in verify(image.prog).findings} == {"in-flight"}


def test_counters_of_two_sizes_that_differ_are_not_of_one_folio() -> None:
    folios = (*FREE, Folio(GIB >> PAGE_SHIFT, 18))
    machine = Machine(line=LINES["6.12.0"], node_size=3 * GIB, folios=folios, is_locked=True)
    image = Image(machine)
    image.write_hstate(9, free_huge_pages=1, free_huge_pages_node=1)
    image.write_hstate(18, free_huge_pages=0, free_huge_pages_node=0)
    assert {f.rule for f in verify(image.prog).findings} == {"count-mismatch"}


def test_memmap_counters_that_are_not_in_the_dump_are_named_and_not_passed_over() -> None:
    image = Image(Machine(line=LINES["6.12.0"], folios=(Folio(FIRST_FOLIO),)))
    address = image.machine.page_offset + (ABSENT << PAGE_SHIFT)
    for name in ("nr_memmap_boot_pages", "nr_memmap_pages"):
        type_name, _ = image.variables[name]
        image.variables[name] = (type_name, address)
    report = verify(image.prog)
    assert report.incomplete and not report.broken
    assert [f.message for f in report.findings] == [
        "nr_memmap_boot_pages and nr_memmap_pages are not in the dump: they were not compared"
    ]
