# SPDX-License-Identifier: LGPL-2.1-or-later

"""Frames that back the vmemmap are judged by their content, whatever the size of struct page."""

from __future__ import annotations

import pytest

from drgn_vmemmap.extract.content import Content
from drgn_vmemmap.extract.filter import Filter
from drgn_vmemmap.extract.owners import FrameOwners
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.extract.machine import SECRET
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine


@pytest.mark.parametrize("page", range(5))
@pytest.mark.parametrize("release", ("6.1.0", "6.12.0", "7.2.0"))
@pytest.mark.parametrize("size", (56, 64, 80, 128))
def test_vmemmap_is_written_and_a_users_page_in_its_place_is_not(
    size: int, release: str, page: int
) -> None:
    folios = (Folio(FIRST_FOLIO, remapped=False),)
    image = Image(Machine(line=LINES[release], folios=folios, page_size=size))
    snapshot = Snapshot(discover(image.prog), ProgramMemory(image.prog))
    geometry = snapshot.geometry
    address = (geometry.address(FIRST_FOLIO) & -4096) + page * 4096
    frame = snapshot.walker.entry(address).frame
    assert frame is not None
    vmemmap = {frame: (geometry.base - address) % size}
    filter_ = Filter(snapshot, FrameOwners(snapshot), Content(snapshot.kernel, [0]), (), vmemmap)
    content = bytes(image.memory.frames[frame])
    whole = filter_.apply({frame << PAGE_SHIFT: content})
    assert whole.withheld == []
    assert whole.reads == {(frame << PAGE_SHIFT, 4096): content}
    image.memory.fill([frame], SECRET)
    left = filter_.apply({frame << PAGE_SHIFT: SECRET})
    assert [withheld.frame for withheld in left.withheld] == [frame]
    assert not any(SECRET[:8] in data or SECRET[32:40] in data for data in left.reads.values())
