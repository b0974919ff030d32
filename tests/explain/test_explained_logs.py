# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a log names is explained, as far as it concerns HugeTLB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from drgn_vmemmap import discover
from drgn_vmemmap.explain.dump.explained_log import LogExplanation, explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.text.read import logical_lines
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.output.explanation import text
from drgn_vmemmap.output.explanation_document import document
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.explain.images import OPTIMIZED, UNOPTIMIZED, backs, image
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import ABSENT, FRESH_W, GIB, REUSE_W, Folio, Machine, Vpage
from tests.synthetic.physical import PAGE_SIZE


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
    assert [each.query.text for each in found.others] == ["pfn:0x1"]


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
    addresses = [explanation.query.address for explanation in found.explanations]
    assert (addresses, found.others) == ([page + 52, other], [])


def _dumped(pfn: int, vmemmap: int, with_address: bool) -> list[str]:
    """The page of a PFN, a tail, as a kernel dumps it that has its vmemmap at an address."""
    address = f"{vmemmap + pfn * 64:016x}" if with_address else " "
    head = vmemmap + (pfn >> 9 << 9) * 64
    return [
        f"page:{address} refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:{pfn:#x}",
        "flags: 0x17ffffc0000000(node=0|zone=2|lastcpupid=0x1fffff)",
        f"raw: 0017ffffc0000000 {head | 1:016x} 0000000000000000 dead000000000400",
        "raw: 0000000000000000 0000000000000000 00000000ffffffff 0000000000000000",
        "page dumped because: corrupted mapping in tail page",
    ]


@pytest.mark.parametrize("with_address", (True, False))
def test_a_log_with_the_vmemmap_elsewhere_is_of_another_boot(with_address: bool) -> None:
    """KASLR moves it at each boot, and a struct page's address beside its PFN shows where."""
    of = image("6.12.0")
    own = of.machine.vmemmap
    failure = f"Memory failure: {UNOPTIMIZED:#x}: recovery action for huge page: Recovered"
    found = log_of(*_dumped(OPTIMIZED + 70, own, with_address), failure, of=of)
    assert (len(found.explanations) - with_address, found.foreign) == (2, [])
    found = log_of(*_dumped(OPTIMIZED + 70, own + 3 * GIB, with_address), failure, of=of)
    assert found.explanations == []
    assert {each.mention.value for each in found.foreign} >= {OPTIMIZED + 70, UNOPTIMIZED}
    (why,) = {each.why for each in found.foreign}
    assert why == f"the log's vmemmap begins at {own + 3 * GIB:#x}, the dump's at {own:#x}"


@pytest.mark.parametrize(
    ("line", "levels"),
    (
        ("CR2: 0000000000000008 CR3: 0000000107e2c000 CR4: 0000000000750ee0", 4),
        ("CR2: 0000000000000008 CR3: 0000000107e2c000 CR4: 0000000000751ee0", 5),
        ("PGD 23ffd8067 P4D 23ffd8067 PUD 23ffd7067 PMD 0", 4),
        ("PGD 23ffd8067 P4D 23ffd9067 PUD 23ffd7067 PMD 0", 5),
        ("PGD 0 P4D 0", None),
    ),
)
@pytest.mark.parametrize("own", (4, 5))
def test_a_log_with_more_or_fewer_levels_is_of_another_boot(
    own: int, line: str, levels: int | None
) -> None:
    of = Image(Machine(line=LINES["6.12.0"], levels=own, folios=(Folio(OPTIMIZED),)))
    null = "BUG: kernel NULL pointer dereference, address: 0000000000000008"
    found = log_of(null, line, f"Memory failure: {OPTIMIZED:#x}: recovery action", of=of)
    reasons = {each.why for each in found.foreign}
    if levels in (own, None):
        assert (len(found.explanations), reasons) == (1, set())
    else:
        assert found.explanations == []
        assert reasons == {f"the log's page tables have {levels} levels, the dump's {own}"}


def test_oopses_of_two_boots_are_told_apart_by_their_levels() -> None:
    null = "BUG: kernel NULL pointer dereference, address: {:016x}"
    cr4 = "CR2: {:016x} CR3: 0000000107e2c000 CR4: {:016x}"
    oopses = [
        line.format(address, value)
        for address, value in ((0x8, 0x751EE0), (0x10, 0x750EE0))
        for line in (null, cr4)
    ]
    found = log_of(*oopses)
    assert [each.mention.value for each in found.foreign] == [0x8]
    assert [each.query.address for each in found.others] == [0x10]


def test_pages_of_two_boots_in_one_text_are_told_apart_by_their_addresses() -> None:
    of = image("6.12.0")
    own, pfn = of.machine.vmemmap, OPTIMIZED + 70
    found = log_of(*_dumped(pfn, own + GIB, True), *_dumped(pfn + 1, own, True), of=of)
    assert {each.mention.value for each in found.foreign} == {pfn, own + GIB + pfn * 64}
    assert f"pfn:{pfn + 1:#x}" in [each.query.text for each in found.explanations]


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
    assert ("these causes" in text(explanation)) == (allowed is True)
    assert document(explanation)["allowed_now"] is allowed


def test_the_tables_of_the_kernel_allow_no_access_of_user_space() -> None:
    of = image("6.12.0")
    fault = of.machine.page_address(UNOPTIMIZED + 3)
    for code, allowed in ((0x5, False), (0x1, True)):
        (explanation,) = log_of(
            f"BUG: unable to handle page fault for address: {fault:016x}",
            f"#PF: error_code({code:#06x}) - permissions violation",
            of=of,
        ).explanations
        assert explanation.logged is not None and explanation.logged.allowed_now is allowed


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
