# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a kernel is, where it has fewer variables than most."""

from __future__ import annotations

import pytest

from drgn_vmemmap import CannotAnalyse, examine, verify
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine


class ConstantLayout(Machine):
    """A machine that moves neither its direct map nor its vmemmap."""

    page_offset = 0xFFFF888000000000
    vmemmap = 0xFFFFEA0000000000


FOLIOS = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512, remapped=False))


@pytest.mark.parametrize("release", ("5.15.0", "6.1.0", "6.12.0", "7.2.0"))
def test_without_vmemmap_base_the_sections_say_where_the_vmemmap_is(release: str) -> None:
    image = Image(ConstantLayout(line=LINES[release], folios=FOLIOS))
    expected = list(examine(image.prog).folios)
    image = Image(ConstantLayout(line=LINES[release], folios=FOLIOS))
    for name in ("vmemmap_base", "page_offset_base"):
        del image.variables[name]
    report = verify(image.prog)
    assert list(report.folios) == expected
    assert {finding.rule for finding in report.findings} == {"unoptimized"}
    assert (report.kernel.vmemmap, report.kernel.direct_map) == (
        ConstantLayout.vmemmap,
        ConstantLayout.page_offset,
    )


def test_sections_that_disagree_are_of_no_virtual_memmap() -> None:
    image = Image(ConstantLayout(line=LINES["6.1.0"], folios=FOLIOS))
    del image.variables["vmemmap_base"]
    roots = image.memory.read_u64(image.physical(image.variables["mem_section"][1]))
    root = image.memory.read_u64(image.physical(roots))
    encoded = image.memory.read_u64(image.physical(root))
    image.write(root, encoded + (1 << 30))
    with pytest.raises(CannotAnalyse, match="no virtual memmap"):
        examine(image.prog)
