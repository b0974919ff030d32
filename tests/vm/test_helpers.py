# SPDX-License-Identifier: LGPL-2.1-or-later

"""The helpers that are to be offered to drgn, on a kernel with debugging symbols."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from typing import Any

import drgn
import pytest
from drgn.helpers.linux.hugetlb import for_each_hstate

from drgn_vmemmap import examine
from drgn_vmemmap.hvo.verdict import Verdict
from tests.support import ROOT
from tests.vm.conftest import Boot

MODULE = ROOT / "contrib" / "drgn" / "drgn" / "helpers" / "linux" / "hugetlb_vmemmap.py"


@pytest.fixture(scope="module")
def helpers() -> dict[str, Any]:
    return runpy.run_path(str(MODULE))


def pages(prog: drgn.Program, helpers: dict[str, Any]) -> Iterator[drgn.Object]:
    for hstate in for_each_hstate(prog):
        yield from helpers["for_each_hugetlb_page"](hstate)


@pytest.mark.parametrize("line", ("6.12", "newest-with-symbols"))
def test_helpers_on_drgn_alone_say_what_the_report_says(
    boot: Boot, helpers: dict[str, Any], line: str
) -> None:
    made = boot(line, "basic", symbols=True)
    prog = drgn.Program()
    prog.set_core_dump(str(made.vmcore))
    prog.load_debug_info([str(made.vmlinux)])
    report = examine(prog)
    found = {page.value_(): page for page in pages(prog, helpers)}
    assert len(found) == len(report.folios) == 72
    for folio, judgement in report.folios:
        page = found[report.kernel.geometry.address(folio.pfn)]
        is_optimized = judgement.verdict is Verdict.OPTIMIZED
        assert helpers["hugetlb_page_vmemmap_optimized"](page) == is_optimized
        assert helpers["hugetlb_page_vmemmap_freed"](page) == judgement.freed
        frames = helpers["hugetlb_page_vmemmap_pfns"](page)
        assert len(frames) == 8
        assert judgement.reuse_frame in (None, *frames)
