# SPDX-License-Identifier: LGPL-2.1-or-later

"""Orders of folios that are damaged, and compound pages that only look like HugeTLB folios."""

from __future__ import annotations

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.hugetlb.folio import State
from tests.damage.edited import EditedKernel
from tests.support import shared_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, Mark
from tests.synthetic.model import FIRST_FOLIO, GIB, Folio, Machine
from tests.synthetic.physical import PAGE_SHIFT

SECOND = FIRST_FOLIO + 512

every_line = pytest.mark.parametrize(
    "release", [name for name, line in LINES.items() if line.layout.value != "none"]
)
every_order = pytest.mark.parametrize("order", (0, 10, 18, 255))


def machine(release: str, state: State = State.FREE) -> Machine:
    folios = tuple(Folio(FIRST_FOLIO + 512 * number, state=state) for number in range(3))
    return Machine(line=LINES[release], folios=folios)


@every_order
@every_line
def test_a_folio_of_another_order_breaks_its_list(release: str, order: int) -> None:
    kernel = EditedKernel(Image(machine(release)).prog)
    kernel.write_page(SECOND, kernel.kernel.order.offset, order, 1)
    report = kernel.check()
    (message,) = (f.message for f in report.findings if f.rule == "list-corrupt")
    assert f"after the folio at PFN {FIRST_FOLIO:#x}" in message
    assert f"{SECOND:#x}" in message
    assert FIRST_FOLIO in [folio.pfn for folio, _ in report.folios]


@every_order
@pytest.mark.parametrize("name", ("head-reuse", "shared-tail"))
def test_a_folio_of_another_order_breaks_a_real_list(name: str, order: int) -> None:
    kernel = EditedKernel(shared_vmcore(name))
    kernel.write_page(kernel.optimized[5], kernel.kernel.order.offset, order, 1)
    assert "list-corrupt" in {f.rule for f in kernel.check().findings}


@every_order
@every_line
def test_vmemmap_of_a_folio_on_no_list_whose_order_is_damaged_is_found(
    release: str, order: int
) -> None:
    kernel = EditedKernel(Image(machine(release, State.OFF_LIST)).prog)
    kernel.write_page(SECOND, kernel.kernel.order.offset, order, 1)
    assert "orphan-remap" in {f.rule for f in kernel.check().findings}


@pytest.mark.parametrize(
    "release", [name for name, line in LINES.items() if line.mark is Mark.FLAG]
)
def test_a_huge_page_of_a_process_with_the_bit_of_hugetlb_is_no_folio(release: str) -> None:
    """``PG_hugetlb`` of v6.6 to v6.8 is ``PG_active`` of the second page of any other folio."""
    image = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO),)))
    huge, line = FIRST_FOLIO + 4096, LINES[release]
    flags = image.memmap.flags(huge, "PG_head", "PG_lru")
    image.write_page(huge, flags=flags, _refcount=1, private=0)
    for pfn in range(huge + 1, huge + 512):
        image.write_page(pfn, compound_head=image.machine.page_address(huge) | 1, _refcount=0)
    second = image.memmap.flags(huge) | 1 << line.flags["PG_active"] | 9
    image.write_page(huge + 1, flags=second)
    report = verify(image.prog)
    assert [folio.pfn for folio, _ in report.folios] == [FIRST_FOLIO]
    assert report.findings == []


@pytest.mark.parametrize("state", (State.FREE, State.OFF_LIST))
def test_a_list_that_leads_to_a_folio_of_another_hstate_ends_before_it(state: State) -> None:
    gigantic = GIB >> PAGE_SHIFT
    folios = (Folio(FIRST_FOLIO), Folio(SECOND), Folio(gigantic, order=18, state=state))
    image = Image(Machine(node_size=3 * GIB, folios=folios))
    image.write_page(SECOND, lru=image.lru(gigantic))
    report = image.examine()
    broken = next(f for f in report.findings if f.rule == "list-corrupt")
    assert f"leads to PFN {gigantic:#x}, a folio of order 18" in broken.message
    assert [folio.state for folio, _ in report.folios] == [State.FREE, State.FREE, state]


@pytest.mark.parametrize("name", ("", "hugepages-2048kB"))
def test_hstates_whose_names_are_damaged_are_kept_apart(name: str) -> None:
    large = 1 << 18
    folios = (Folio(FIRST_FOLIO), Folio(SECOND), Folio(large, order=18))
    image = Image(Machine(node_size=4 * GIB, orders=(9, 18), folios=folios))
    offset = image.types.structs["hstate"].members["name"].offset
    for hstate in image.hstates.values():
        image.memory.write(image.physical(hstate + offset), name.encode().ljust(32, b"\0"))
    report = verify(image.prog)
    assert report.findings == []
    assert [hstate.hstate.name for hstate in report.hstates] == [name or "hstates[0]", "hstates[1]"]
    assert [hstate.counts.folios for hstate in report.hstates] == [2, 1]
